"""The outbox as a table of a SQLite file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from audit_core.event import AuditEvent
from audit_core.outbox import Waiting
from audit_core.rows import to_json
from audit_core.sqlite import SqliteDatabase, plain_cursor
from audit_core.waiting import read_waiting

PAGE = 500
_POSTGRES_DRIVER = re.compile("postgresql|psycopg|asyncpg")


def is_postgres(connection: Any) -> bool:
    """Whether a DB-API connection is to PostgreSQL, by its driver: nothing is asked."""
    return _POSTGRES_DRIVER.search(type(connection).__module__) is not None


class SqliteOutbox:
    """Events that wait in the SQLite file whose transaction carried them."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database

    def create(self) -> None:
        if not self.is_created():
            self.database.create("sqlite_outbox.sql")

    def is_created(self) -> bool:
        return self.database.has_table("audit_outbox")

    def owns(self, connection: Any) -> bool:
        # A statement that PostgreSQL does not know would break the caller's transaction.
        return not is_postgres(connection) and self.database.owns(connection)

    def commit(self, events: Sequence[AuditEvent]) -> None:
        with self.database.transaction() as connection:
            self.put(events, connection)

    def reserve(self, connection: Any) -> None:
        with plain_cursor(connection) as cursor:  # its errors are the caller's: he would meet them with his own write
            cursor.execute("DELETE FROM audit_outbox WHERE 0")

    def put(self, events: Sequence[AuditEvent], connection: Any) -> None:
        self.put_json(map(to_json, events), connection)

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        rows = [(event,) for event in events]
        with self.database.cursor(connection) as cursor:
            cursor.executemany("INSERT INTO audit_outbox (event) VALUES (?)", rows)

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        if connection is None and not self.database.has_table("audit_outbox"):
            return []  # where nothing could be put, nothing waits: one database less must not hold up the others
        return self._page(0, limit, connection)

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        if not ids:
            return
        if connection is None:
            with self.database.transaction() as own:
                self.remove(ids, own)
            return
        with self.database.cursor(connection) as cursor:
            # SQLite has one writer and its ids ascend: between two that were taken there is none that was not.
            cursor.execute("DELETE FROM audit_outbox WHERE id BETWEEN ? AND ?", (min(ids), max(ids)))

    def waiting(self) -> Iterator[AuditEvent]:
        if not self.database.has_table("audit_outbox"):
            return
        last = 0
        while page := self._page(last, PAGE, None):
            for waiting in page:
                yield read_waiting(waiting.event)
            last = page[-1].id

    def close(self) -> None:
        self.database.close()

    def _page(self, after: int, limit: int, connection: Any) -> list[Waiting]:
        with self.database.cursor(connection) as cursor:
            # As bytes: text that is not UTF-8 is no event, and must not hold up the rest.
            query = "SELECT id, CAST(event AS BLOB) FROM audit_outbox WHERE id > ? ORDER BY id LIMIT ?"
            cursor.execute(query, (after, limit))
            return [Waiting(id_, event.decode("utf-8", "surrogateescape")) for id_, event in cursor.fetchall()]
