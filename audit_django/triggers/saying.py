"""Who acts, told to the triggers once per transaction, when something is written in it for the first time.

By whichever way it is written: the ORM, ``connection.cursor()``, COPY. In autocommit a statement that changes rows runs
in a transaction of its own, because what was said ends with the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.utils import CursorWrapper

from audit_core.triggers.context import context_text, say
from audit_core.triggers.statements import changes_rows, is_copy, is_one, may_undo, may_write
from audit_django.databases import POSTGRESQL, vendor_of
from audit_django.trail import setting
from audit_django.triggers.coverage import covered_by, uses_triggers

_SAID = "_audit_said"  # on a connection: what was said in its transaction
_UNSURE = "?"  # something, or nothing: it is said anew, be it nobody
_COPIES = {"copy", "copy_expert", "copy_from"}  # of psycopg and of psycopg2


def install() -> None:
    """Watch every connection of a project that uses triggers, from now on. May be repeated."""
    if not uses_triggers():
        return
    connection_created.connect(_follow, dispatch_uid="audit_django.triggers")
    for connection in connections.all(initialized_only=True):
        _follow(connection)
    for owner, name, wrap in _wrapped():
        original: Any = getattr(owner, name)
        if not hasattr(original, "__audit__"):
            wrapped: Any = wraps(original)(wrap(original))
            wrapped.__audit__ = True
            setattr(owner, name, wrapped)


def _wrapped() -> Iterator[tuple[type[Any], str, Callable[..., Any]]]:
    yield BaseDatabaseWrapper, "_commit", _ending
    yield BaseDatabaseWrapper, "_rollback", _ending
    yield CursorWrapper, "__getattr__", _looking_up
    if any(vendor_of(alias) == POSTGRESQL for alias in connections.settings):
        from django.db.backends.postgresql.base import CursorDebugWrapper

        for name in _COPIES.intersection(vars(CursorDebugWrapper)):
            yield CursorDebugWrapper, name, _copying_and_logging


def _follow(connection: BaseDatabaseWrapper, **_: object) -> None:
    """A connection that was just opened, perhaps after it was lost in a transaction."""
    connection.__dict__.pop(_SAID, None)
    if connection.vendor == POSTGRESQL and _executing not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, _executing)


def _executing(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    with _acting(context["connection"], sql, alone=not many):
        return execute(sql, params, many, context)


@contextmanager
def _acting(connection: BaseDatabaseWrapper, sql: Any, *, alone: bool = False) -> Iterator[None]:
    """Whoever acts is known to the triggers while this statement runs. ``alone`` it is one, and no batch of several."""
    statement = sql if isinstance(sql, str) else _text(connection, sql)
    text = _unsaid(connection, statement) if may_write(statement) and not connection.needs_rollback else None
    try:
        if text is None:
            yield
        elif alone and _may_go_along(connection, statement):
            with _going_along(connection, text):
                yield
        elif not connection.autocommit:
            _say(connection, text)
            yield
        elif changes_rows(statement):
            with transaction.atomic(using=connection.alias):
                _say(connection, text)
                yield
        else:  # VACUUM and the like run in no transaction
            yield
    finally:
        if may_undo(statement):
            connection.__dict__[_SAID] = _UNSURE


def _may_go_along(connection: BaseDatabaseWrapper, statement: str) -> bool:
    """Whether both can be sent at once: by psycopg 3, and one statement that is no COPY."""
    is_alone = is_one(statement) and changes_rows(statement) and not is_copy(statement)
    return is_alone and hasattr(connection.connection, "pipeline") and _has_pipeline()


@lru_cache(maxsize=1)
def _has_pipeline() -> bool:
    from psycopg import Pipeline

    return Pipeline.is_supported()


@contextmanager
def _going_along(connection: BaseDatabaseWrapper, text: str) -> Iterator[None]:
    """In one round trip. What is sent so is one transaction in autocommit, too (PostgreSQL, "Pipelining")."""
    with connection.wrap_database_errors, connection.connection.pipeline():
        say(connection.connection, text)
        yield
    if not connection.autocommit:
        connection.__dict__[_SAID] = text


def _unsaid(connection: BaseDatabaseWrapper, statement: str) -> str | None:
    """What is to be said before the statement; None where nothing is."""
    if not uses_triggers() or not covered_by(connection):
        return None
    text = context_text(source=setting("SOURCE"), erasable=setting("ERASABLE"))
    return None if text == connection.__dict__.get(_SAID, "") else text


def _say(connection: BaseDatabaseWrapper, text: str) -> None:
    with connection.wrap_database_errors:  # past Django's cursor: what counts queries counts the application's
        say(connection.connection, text)
    connection.__dict__[_SAID] = text


def _text(connection: BaseDatabaseWrapper, sql: Any) -> str:
    """Of a statement that was composed (``psycopg.sql``), or is in bytes."""
    if hasattr(sql, "as_string"):
        return str(sql.as_string(connection.connection))
    return sql.decode(errors="replace") if isinstance(sql, bytes) else str(sql)


def _ending(original: Callable[..., Any]) -> Callable[..., Any]:
    def end(self: BaseDatabaseWrapper) -> Any:
        self.__dict__.pop(_SAID, None)
        return original(self)

    return end


def _looking_up(original: Callable[..., Any]) -> Callable[..., Any]:
    """Django hands out the driver's own COPY."""

    def __getattr__(self: Any, attr: str) -> Any:  # noqa: N807 - the method that Django's cursors have
        found = original(self, attr)
        return partial(_copy, self.db, found) if attr in _COPIES and self.db.vendor == POSTGRESQL else found

    return __getattr__


def _copying_and_logging(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same, where queries are logged."""

    def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _copy(self.db, partial(original, self), *args, **kwargs)

    return copy


def _copy(connection: BaseDatabaseWrapper, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if hasattr(connection.connection, "pgconn"):  # psycopg 3
        return _copying(connection, run, *args, **kwargs)
    with _acting(connection, args[0] if args and isinstance(args[0], str) else "COPY"):
        return run(*args, **kwargs)


@contextmanager
def _copying(connection: BaseDatabaseWrapper, run: Callable[..., Any], statement: Any, *args: Any) -> Iterator[Any]:
    with _acting(connection, statement), run(statement, *args) as copy:
        yield copy
