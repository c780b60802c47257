"""``manage.py`` commands and its shell: who runs them, where nobody has been named.

Django has no signal for it; every command, and ``call_command``, goes through ``BaseCommand.execute``.
"""

from __future__ import annotations

import re
from functools import wraps
from typing import Any

from django.core.management.base import BaseCommand

from audit_core.context import commanded

# They do nothing themselves: what happens in them is asked for by others, or by a test that says who asks.
_FOR_OTHERS = re.compile(r"runserver\w*|testserver|test")  # runserver_plus, too


def install() -> None:
    """Name the account and the command, from now on. May be repeated."""
    original: Any = BaseCommand.execute
    if hasattr(original, "__audit__"):
        return

    @wraps(original)
    def execute(self: BaseCommand, *args: Any, **options: Any) -> Any:
        name = type(self).__module__.rpartition(".")[2]
        if _FOR_OTHERS.fullmatch(name):
            return original(self, *args, **options)
        with commanded(name):
            return original(self, *args, **options)

    execute.__audit__ = True  # type: ignore[attr-defined]
    BaseCommand.execute = execute  # type: ignore[method-assign]
