"""The outbox as a table of a PostgreSQL database: the application needs INSERT on it, and nothing else."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from audit_core.canonical import MAX_RECORD_BYTES
from audit_core.event import AuditEvent
from audit_core.outbox import BYTES_AT_ONCE, Waiting
from audit_core.outbox.late import LOWEST, Cursor, Snapshot
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.making import is_there, make
from audit_core.rows import to_json
from audit_core.waiting import read_waiting

PAGE = 500
AT_ONCE = 200  # events that one statement writes, in one parameter: a parameter for each costs half as much again
_LINES = "pg_catalog.string_to_table({}, pg_catalog.chr(10))"  # no JSON of ours has a line feed, which is \\n in it
FULL_LOOK_SECONDS = 60.0
FULL_LOOK_SHARE = 100  # a full look that lasts is repeated so much more seldom
# What is longer than any event is read in part: whoever may insert may insert a gigabyte.
_LONG = 6 * MAX_RECORD_BYTES  # bytes of JSON, in which six may stand for one
_SIZE = f"least(octet_length(event), {_LONG})"
_EVENT = (
    f"CASE WHEN octet_length(event) <= {_LONG} THEN event "
    f"ELSE concat(left(event, {MAX_RECORD_BYTES}), '... ', octet_length(event), ' bytes') END"
)


class _Taken(NamedTuple):
    snapshot: Snapshot
    ids: list[int]
    cut: bool


class PostgresOutbox:
    """Events that wait in the database whose transaction carried them."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self._table = database.table("audit_outbox")
        self._cursor = Cursor()
        self._taken: _Taken | None = None
        self._removed: int | None = None  # an id of the last removal, whose transaction may not have committed
        self._full_look_at = 0.0  # time.monotonic()

    def create(self) -> None:
        if not self.is_created():  # else no permission to make it is needed
            make(self.database, "postgres_outbox.sql", "audit_outbox")

    def is_created(self) -> bool:
        return is_there(self.database, "audit_outbox")

    def reserve(self, connection: Any) -> None:
        """Nobody is refused here because somebody else has written."""

    def commit(self, events: Sequence[AuditEvent]) -> None:
        self.database.commit(self._insert("%s"), "\n".join(map(_ascii, map(to_json, events))))

    def owns(self, connection: Any) -> bool:
        if isinstance(connection, sqlite3.Connection) or "sqlite" in type(connection).__module__:
            return False
        cursor = connection.cursor()
        try:
            cursor.execute("SELECT extract(epoch FROM pg_postmaster_start_time())::text, current_database()::text")
            theirs = cursor.fetchone()
        finally:
            cursor.close()
        ours = "SELECT extract(epoch FROM pg_postmaster_start_time())::text = %s AND current_database() = %s"
        return self.database.fetch(ours, tuple(theirs))[0][0] is True

    def put(self, events: Sequence[AuditEvent], connection: Any) -> None:
        self.put_json(map(to_json, events), connection)

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        statement = self._insert("$1" if "asyncpg" in type(connection).__module__ else "%s")
        lines = map(_ascii, events)
        cursor = connection.cursor()
        try:
            while page := "\n".join(islice(lines, AT_ONCE)):
                self._execute(cursor, statement, page)
        finally:
            cursor.close()

    def _insert(self, place: str) -> str:
        return f"INSERT INTO {self._table} (event) SELECT {_LINES.format(place)}"

    def _execute(self, cursor: Any, statement: str, parameter: str) -> None:
        try:
            cursor.execute(statement, (parameter,))
        except Exception as error:
            raise self.database.explained(error) from error

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        if connection is None:
            with self.database.transaction() as own:
                return self.take(limit, own)
        began = time.monotonic()
        is_full = began >= self._full_look_at
        if self._cursor.is_endless(began):
            self._cursor.began(self._own_transaction(connection), began)
        while True:
            probes = self._cursor.probes(began)
            first = LOWEST if is_full else self._cursor.high + 1
            snapshot, rows, cut = self._look(first, probes, limit, connection)
            if any(row.id == self._removed for row in rows):  # what removed it was rolled back
                self._cursor, self._removed, is_full = Cursor(), None, True
            elif not self._cursor.overlooked(snapshot):
                break
        if rows and rows[0].id <= self._cursor.high and rows[0].id not in probes:
            self._cursor = Cursor()  # ids have gone back: the next look must not begin above them
        self._taken = _Taken(snapshot, [row.id for row in rows], cut)
        if is_full and not self._taken.cut:
            now = time.monotonic()
            self._full_look_at = now + max(FULL_LOOK_SECONDS, FULL_LOOK_SHARE * (now - began))
        if not rows:
            self._advance(self._taken)
        return rows

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        if not ids:
            return
        if connection is None:
            with self.database.transaction() as own:
                self.remove(ids, own)
            return
        self.database.execute(f"DELETE FROM {self._table} WHERE id = ANY(%s)", (list(ids),), connection)
        if self._taken and self._taken.ids == list(ids):
            self._advance(self._taken)
        self._removed = min(ids)

    def waiting(self) -> Iterator[AuditEvent]:
        first = LOWEST
        query = f"SELECT id, {_EVENT} FROM {self._table} WHERE id >= %s ORDER BY id LIMIT %s"
        while page := self.database.fetch(query, (first, PAGE)):
            for _, event in page:
                yield read_waiting(event)
            first = page[-1][0] + 1

    def close(self) -> None:
        self.database.close()

    def _look(self, first: int, probes: list[int], limit: int, connection: Any) -> tuple[Snapshot, list[Waiting], bool]:
        """One statement, one snapshot: a transaction's events are seen together. And whether there may be more."""
        if self._removed is not None:
            probes = [*probes, self._removed]
        query = (
            f"WITH found AS ((SELECT id, event FROM {self._table} WHERE id = ANY(%s) AND id < %s ORDER BY id LIMIT %s) "
            f"UNION ALL (SELECT id, event FROM {self._table} WHERE id >= %s ORDER BY id LIMIT %s)), "
            f"weighed AS (SELECT id, event, {_SIZE} AS size, "
            f"sum({_SIZE}) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS bytes FROM found) "
            "SELECT NULL, pg_current_snapshot()::text, 0 UNION ALL "
            f"(SELECT id, {_EVENT}, bytes FROM weighed WHERE bytes - size < {BYTES_AT_ONCE} ORDER BY id LIMIT %s)"
        )
        found = self.database.fetch(query, (probes, first, limit, first, limit, limit), connection)
        (_, snapshot, _), *rows = sorted(found, key=lambda row: (row[0] is not None, row[0]))
        cut = len(rows) == limit or bool(rows and rows[-1][2] >= BYTES_AT_ONCE)
        return Snapshot.parse(snapshot), [Waiting(id_, event) for id_, event, _ in rows], cut

    def _own_transaction(self, connection: Any) -> int:
        """The number of this transaction, which gets one now unless it has one."""
        ((number,),) = self.database.fetch("SELECT pg_current_xact_id()::text", (), connection)
        return int(number)

    def _advance(self, taken: _Taken) -> None:
        self._cursor.advance(taken.snapshot, taken.ids, time.monotonic(), cut=taken.cut)
        self._taken = None


def _ascii(text: str) -> str:
    """The application's connection may speak any encoding; JSON can do without."""
    return text if text.isascii() else json.dumps(json.loads(text), ensure_ascii=True, separators=(",", ":"))
