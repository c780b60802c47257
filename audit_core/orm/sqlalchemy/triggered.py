"""SQLAlchemy beside triggers: they tell of their tables' rows, and the session only tells them who acts.

Who it is goes along with the first statement of a transaction that may write, by whichever way it comes: the unit of
work, ``session.execute``, the connection itself. A transaction that only reads has no query of ours.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.orm import Mapper

from audit_core.triggers.context import context_text, say
from audit_core.triggers.covered import KNOWN_SECONDS, Names, covered_tables
from audit_core.triggers.statements import may_write

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail

_FORGETTING = ("begin", "begin_twophase", "commit", "rollback", "savepoint", "rollback_savepoint", "release_savepoint")


class Triggered:
    """What one auditor knows of the triggers behind its engines."""

    def __init__(self, trail: AuditTrail) -> None:
        self.trail = trail
        self._covered: weakref.WeakKeyDictionary[Engine, tuple[float, Names]] = weakref.WeakKeyDictionary()
        self._said: weakref.WeakKeyDictionary[Connection, str] = weakref.WeakKeyDictionary()
        self._followed: weakref.WeakSet[Engine] = weakref.WeakSet()

    def follow(self, connection: Connection) -> None:
        """From now on whoever acts is told on every connection of this engine."""
        engine = connection.engine
        if engine in self._followed or connection.dialect.name != "postgresql":
            return
        self._followed.add(engine)
        event.listen(engine, "before_cursor_execute", self._before_statement)
        for name in _FORGETTING:
            event.listen(engine, name, self._forget)
        self.trail.keep_sealing()

    def tells(self, connection: Connection, mapper: Mapper[Any]) -> bool:
        """Whether triggers tell of this class's rows: every table of it has them, where this connection writes it."""
        if connection.dialect.name != "postgresql":
            return False
        covered = self._covered_by(connection)
        elsewhere = connection.get_execution_options().get("schema_translate_map") or {}
        tables = [table for table in mapper.tables if isinstance(table, Table)]
        return bool(tables) and all((elsewhere.get(t.schema, t.schema), t.name) in covered for t in tables)

    def _covered_by(self, connection: Connection) -> Names:
        known = self._covered.get(connection.engine)
        if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
            names = self._ask(connection)
            known = self._covered[connection.engine] = time.monotonic(), names
        return known[1]

    def _ask(self, connection: Connection) -> Names:
        dbapi = connection.connection.dbapi_connection
        outbox = self.trail.outbox_of(dbapi, weakref.ref(connection.engine))
        schema = getattr(getattr(outbox, "database", None), "schema", "audit")
        return covered_tables(dbapi, schema)

    def _before_statement(self, connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        del cursor, rest
        if not may_write(statement):
            return
        text = context_text(source=self.trail.source, erasable=self.trail.erasable)
        if text != self._said.get(connection, ""):
            say(connection.connection.dbapi_connection, text)
            self._said[connection] = text

    def _forget(self, connection: Connection, *rest: object) -> None:
        """What was said inside of a savepoint may be undone with it, or outlast it."""
        if rest and connection in self._said:
            self._said[connection] = "?"  # something, or nothing: it is said anew, be it nobody
        else:
            self._said.pop(connection, None)
