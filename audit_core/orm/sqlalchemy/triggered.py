"""SQLAlchemy beside triggers: they tell of their tables' rows, and the session only tells them who acts.

Who it is goes along with the first statement of a transaction that may write, by whichever way it comes: the unit of
work, ``session.execute``, the connection itself. A transaction that only reads has no query of ours.
"""

from __future__ import annotations

import re
import time
import weakref
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.orm import Mapper

from audit_core.triggers.context import context_text, say
from audit_core.triggers.tables import literal

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail

KNOWN_SECONDS = 60.0  # after that an engine is asked again which tables have triggers
_FORGETTING = ("begin", "begin_twophase", "commit", "rollback", "savepoint", "rollback_savepoint", "release_savepoint")
_READING = re.compile(
    r"\s*(?:SELECT|SHOW|EXPLAIN|VALUES|TABLE|FETCH|DECLARE|CLOSE|SET|RESET|SAVEPOINT|RELEASE|ROLLBACK|COMMIT|BEGIN|"
    r"PREPARE|LOCK|LISTEN|CREATE|ALTER|DROP|WITH(?!.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b))\b",
    re.IGNORECASE | re.DOTALL,
)
_COVERED = (
    # Whether its name alone means it, wherever the search_path leads: then all tables of this name are told.
    "SELECT n.nspname::text, c.relname::text, pg_table_is_visible(c.oid) AND count(*) OVER (PARTITION BY c.relname) = "
    "(SELECT count(*) FROM pg_class o WHERE o.relname = c.relname AND o.relkind IN ('r', 'p', 'v', 'f') "
    "AND o.relpersistence <> 't') FROM pg_trigger t "
    "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace "
    "WHERE t.tgname IN ('audit_create', 'audit_update', 'audit_delete') AND t.tgenabled IN ('O', 'A') "
    "AND left(p.proname, 11) = 'audit_tell_' AND pn.nspname = {schema} GROUP BY c.oid, 1, 2 HAVING count(*) = 3"
)
_Names = frozenset[tuple[str | None, str]]


class Triggered:
    """What one auditor knows of the triggers behind its engines."""

    def __init__(self, trail: AuditTrail) -> None:
        self.trail = trail
        self._covered: weakref.WeakKeyDictionary[Engine, tuple[float, _Names]] = weakref.WeakKeyDictionary()
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

    def _covered_by(self, connection: Connection) -> _Names:
        known = self._covered.get(connection.engine)
        if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
            names = self._ask(connection)
            known = self._covered[connection.engine] = time.monotonic(), names
        return known[1]

    def _ask(self, connection: Connection) -> _Names:
        dbapi = connection.connection.dbapi_connection
        outbox = self.trail.outbox_of(dbapi, weakref.ref(connection.engine))
        schema = getattr(getattr(outbox, "database", None), "schema", "audit")
        names: set[tuple[str | None, str]] = set()
        with closing(dbapi.cursor()) as cursor:  # type: ignore[union-attr]  # a connection that is in use
            cursor.execute(_COVERED.format(schema=literal(schema)))
            for namespace, table, visible in cursor.fetchall():
                names |= {(namespace, table), (None, table)} if visible else {(namespace, table)}
        return frozenset(names)

    def _before_statement(self, connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        del cursor, rest
        if _READING.match(statement):
            return
        text = context_text(source=self.trail.source)
        if text != self._said.get(connection, ""):
            say(connection.connection.dbapi_connection, text)
            self._said[connection] = text

    def _forget(self, connection: Connection, *rest: object) -> None:
        """What was said inside of a savepoint may be undone with it, or outlast it."""
        if rest and connection in self._said:
            self._said[connection] = "?"  # something, or nothing: it is said anew, be it nobody
        else:
            self._said.pop(connection, None)
