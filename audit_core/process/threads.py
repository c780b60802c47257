"""The trail's own threads, which must not wait for themselves: what they log may be recorded."""

from __future__ import annotations

import threading


class OwnThread(threading.Thread):
    """A thread that others wait for."""


def is_own_thread() -> bool:
    """Whether this is one of them, of whichever trail: two trails may log what the other one records."""
    return isinstance(threading.current_thread(), OwnThread)
