"""Tells the trail while a transaction of the application is open, also outside of requests.

A transaction that reads and then writes fails at once with "database is locked" if anybody commits in between; so
what the trail writes by itself waits until none is open, here and in every other process. On SQLite: PostgreSQL has
many writers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import Atomic

from audit_core import AuditTrail
from audit_core.errors import AuditError
from audit_django.databases import SQLITE
from audit_django.trail import audited_aliases, get_trail

# On a connection: what ends its open transactions. There are two while an on-commit hook, which runs inside of the
# outermost block's end, opens one of its own.
_OPENED = "_audit_opened"


def install() -> None:
    """Watch every ``atomic`` block, from now on. May be repeated."""
    if not hasattr(Atomic.__enter__, "__audit__"):
        Atomic.__enter__ = _entering(Atomic.__enter__)  # type: ignore[method-assign]
        Atomic.__exit__ = _exiting(Atomic.__exit__)  # type: ignore[method-assign]


def _entering(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enter(self: Atomic) -> Any:
        connection = connections[self.using or "default"]
        trail = None if connection.in_atomic_block else _trail_of(connection)
        if trail is None:
            return original(self)
        trail.opened()
        try:
            entered = original(self)
        except BaseException:
            trail.closed()
            raise
        # A thread that ends inside of a block takes the connection along.
        connection.__dict__.setdefault(_OPENED, []).append(weakref.finalize(connection, trail.closed))
        return entered

    enter.__audit__ = True  # type: ignore[attr-defined]
    return enter


def _exiting(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def exit_(self: Atomic, *error: Any) -> Any:
        connection = connections[self.using or "default"]
        try:
            return original(self, *error)
        finally:
            if not connection.in_atomic_block and (opened := connection.__dict__.get(_OPENED)):
                opened.pop()()

    return exit_


def _trail_of(connection: BaseDatabaseWrapper) -> AuditTrail | None:
    """A transaction of another kind of database, or of one that is not audited or not set up yet, needs no watching."""
    with suppress(AuditError):  # whoever changes something is told
        if connection.vendor == SQLITE and connection.alias in audited_aliases():
            return get_trail()
    return None
