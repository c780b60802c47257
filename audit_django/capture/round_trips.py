"""A change in a transaction of its own takes two round trips: BEGIN goes with its statement, COMMIT with its events.

That is where psycopg 3 writes values into the text of a statement, as Django has it do unless told otherwise: then it
takes several statements at once. What follows one that fails is not run, and the server says whether the transaction
is still open, so that a COMMIT that fails is not taken for events that cannot be written.
"""

from __future__ import annotations

import sys
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_django.triggers.coverage import uses_triggers

_BEGIN = "BEGIN; "
FEW = 50  # rows, whose events are surely written by one statement


def begin_along(connection: BaseDatabaseWrapper, cursor: Any) -> None:
    """Have the next statement of this cursor of Django's begin the transaction, if none has begun it yet."""
    raw = connection.connection
    psycopg = _psycopg_of(raw)
    if psycopg is None or not isinstance(cursor.cursor, psycopg.ClientCursor) or uses_triggers():
        return  # where there are triggers, who acts is told to them before the statement
    is_due = not raw.autocommit and raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    is_plain = raw.isolation_level is raw.read_only is raw.deferrable is None
    # The end of such a block is where Django sets autocommit again, as it is from here on for psycopg.
    if is_due and is_plain and connection.in_atomic_block and connection.commit_on_exit:
        cursor.cursor = _Beginning(cursor.cursor)


class _Beginning:
    """A cursor whose statement begins the transaction. Under Django's own: what logs statements sees the plain one."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, parameters: Any = None) -> None:
        self._cursor.connection.autocommit = True  # psycopg would begin one before it
        try:
            self._cursor.execute(f"{_BEGIN}{sql}", parameters)
        finally:
            if query := self._cursor._query:  # noqa: SLF001 - where Django reads what was executed
                query.query = query.query.removeprefix(_BEGIN.encode())
        self._cursor.nextset()


class Ending:
    """A connection whose one statement is the last of its transaction, and takes the COMMIT along."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._psycopg = _psycopg_of(connection)
        self.failure: Exception | None = None  # of the COMMIT; or the connection is lost, and nobody knows

    def cursor(self) -> Ending:
        """It is its own cursor."""
        return self

    def execute(self, sql: str, parameters: Any) -> None:
        """Raises what the statement raises."""
        try:
            self._psycopg.ClientCursor(self._connection).execute(f"{sql}; COMMIT", parameters)
        except self._psycopg.Error as error:
            if self._connection.info.transaction_status == self._psycopg.pq.TransactionStatus.INERROR:
                raise
            self.failure = error

    def close(self) -> None:
        """There is nothing to release."""


def can_end_along(raw: Any) -> bool:
    """Whether the driver's connection may be an ``Ending``."""
    return _psycopg_of(raw) is not None


def _psycopg_of(raw: Any) -> Any:
    psycopg = sys.modules.get("psycopg")
    return psycopg if psycopg is not None and isinstance(raw, psycopg.Connection) else None
