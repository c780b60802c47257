"""The development server, stopped or reloading, leaves nothing unsealed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from functools import wraps
from types import FrameType
from typing import Any

from django.utils import autoreload

from audit_core.errors import AuditError
from audit_django.trail import close_trail, get_trail


def stop_orderly() -> None:
    """Called in the process that was started as ``runserver``, and in the one that its reloader starts."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # it would end the process without a word
        signal.signal(signal.SIGTERM, _exit)
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        _seal_after_reloader()


def _exit(number: int, frame: FrameType | None) -> None:
    del number, frame
    sys.exit(0)  # as Django's own reloader does


def _seal_after_reloader() -> None:
    """The reloader kills the process that serves when it is stopped itself: it seals what that one had to leave."""
    original: Any = autoreload.run_with_reloader

    @wraps(original)
    def run_with_reloader(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            with suppress(AuditError):
                if next(iter(get_trail().waiting()), None) is not None:
                    get_trail().flush()
                close_trail()

    autoreload.run_with_reloader = run_with_reloader
