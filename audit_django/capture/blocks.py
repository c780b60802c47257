"""The transaction around a change, of which an application that had none there notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

_ENDS = frozenset(("BEGIN", "COMMIT", "ROLLBACK"))


@contextmanager
def block(connection: BaseDatabaseWrapper, *, alone: bool) -> Iterator[None]:
    """An ``atomic`` block; ``alone`` says that without us Django would write these statements without one.

    Then what begins and ends it is not among the queries that are counted (``connection.queries``).
    """
    log: Any = connection.queries_log
    place = len(log)
    try:
        with transaction.atomic(using=connection.alias, savepoint=False):
            if alone:
                _forget(log, place)
            try:
                yield
            finally:
                place = len(log)
    finally:
        if alone:
            _forget(log, place)


@contextmanager
def unmarked(connection: BaseDatabaseWrapper, *, alone: bool) -> Iterator[list[str]]:
    """Around such a block: with autocommit off, a statement that fails does not mark the transaction for rollback.

    The application has its own savepoints there. Events that cannot be written do mark it: what is given says whether
    it came to them.
    """
    is_managed = alone and not connection.in_atomic_block and not connection.get_autocommit()
    written: list[str] = []
    try:
        yield written
    except BaseException:
        if is_managed and not written:
            connection.needs_rollback = False
        raise


def _forget(log: Any, place: int) -> None:
    """The log is a ring: where it is full, an entry is not found at its end."""
    if len(log) > place and log[place].get("sql") in _ENDS:
        del log[place]
