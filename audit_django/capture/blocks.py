"""The transaction around a change, of which an application that has none there notices nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import count
from typing import Any

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_core.watching import watchers

_EDGES = frozenset(("BEGIN", "COMMIT", "ROLLBACK"))
_numbers = count()


def block(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    """All of it commits, or nothing: what raises in here can no more be committed."""
    if connection.in_atomic_block:
        return _inside(connection)
    return _whole(connection) if connection.get_autocommit() else _savepoint(connection)


def undoing(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    """The same inside of an ``atomic`` block, whose end sees to it, but for what that does not end.

    With autocommit off the application commits by itself, and Django lets it, whatever has failed before.
    """
    return nullcontext() if connection.commit_on_exit else _savepoint(connection)


@contextmanager
def _inside(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """As ``atomic(savepoint=False)``, but no block of Django's, by which ``_whole`` knows what it would have opened."""
    try:
        with undoing(connection):
            yield
    except BaseException:
        connection.needs_rollback = True
        raise


@contextmanager
def _savepoint(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Those of the application stay as they are."""
    connection.ensure_connection()
    raw: Any = connection.connection
    name = f"audit_{next(_numbers)}"
    if not getattr(raw, "in_transaction", True):  # SQLite, where to release a savepoint of no transaction is to commit
        raw.execute("BEGIN")
    _execute(connection, raw, f"SAVEPOINT {name}")
    for watcher in watchers:
        watcher.savepoint(raw, name)
    try:
        yield
        _execute(connection, raw, f"RELEASE SAVEPOINT {name}")
    except BaseException:
        _undo(connection, raw, name)
        raise


def _undo(connection: BaseDatabaseWrapper, raw: Any, name: str) -> None:
    undone: str | None = name
    try:
        _execute(connection, raw, f"ROLLBACK TO SAVEPOINT {name}")
        _execute(connection, raw, f"RELEASE SAVEPOINT {name}")
    except Error:  # the connection is lost, or the database has undone the whole transaction
        connection.close()
        undone = None
    for watcher in watchers:
        watcher.undone(raw, undone)


def _execute(connection: BaseDatabaseWrapper, raw: Any, statement: str) -> None:
    """Past Django's cursor, which counts and logs."""
    with connection.wrap_database_errors, closing(raw.cursor()) as cursor:
        cursor.execute(statement)


@contextmanager
def _whole(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction of its own.

    Where Django would have opened none, neither here nor inside of it, what begins and ends it is not among the
    queries that are counted (``connection.queries``).
    """
    log: Any = connection.queries_log
    blocks, begin, end = _Blocks(), len(log), len(log)
    try:
        with transaction.atomic(using=connection.alias, savepoint=False):
            blocks = connection.savepoint_ids = _Blocks(connection.savepoint_ids)
            try:
                yield
            finally:
                end = len(log)
                connection.savepoint_ids = [*connection.savepoint_ids]  # what runs after the commit is not in here
    finally:
        if not blocks.are_djangos:
            _forget(log, end)
            _forget(log, begin)


class _Blocks(list[Any]):
    """Where a connection keeps one entry for each block inside of the outermost one."""

    are_djangos = False

    def append(self, block: Any) -> None:
        self.are_djangos = True
        super().append(block)


def _forget(log: Any, place: int) -> None:
    """The log is a ring: where it is full, an entry is not found at its end."""
    if len(log) > place and log[place].get("sql") in _EDGES:
        del log[place]
