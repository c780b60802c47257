"""Sealed events in a SQLite file, beside the application's tables or in a file of their own.

An attacker who can write this file can change or remove any row; ``verify`` finds it unless he also holds the
signing key, or cuts off the tail of a trail that is not anchored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.errors import ConflictError
from audit_core.query import EQUALS, EventQuery, Place
from audit_core.rows import STORED_COLUMNS, Row
from audit_core.sqlite import LOCK_WAIT_SECONDS, PATIENT_WAIT_SECONDS, SqliteDatabase
from audit_core.stores import Extent, StoredCheckpoint

PAGE = 2_000  # rows a read takes at once: a read that lasts would keep the application's writers waiting
_COLUMNS = ", ".join(STORED_COLUMNS)
_SEQUENCE = STORED_COLUMNS.index("sequence")
_TIMESTAMP = STORED_COLUMNS.index("timestamp")
# Not ABORT, which would keep a copy of every page that a row touches: a row that is refused has changed nothing.
_INSERT_EVENT = f"INSERT OR FAIL INTO audit_events ({_COLUMNS}) VALUES ({', '.join('?' * len(STORED_COLUMNS))})"
_INSERT_CHECKPOINT = "INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?, ?, ?)"


class SqliteStore:
    """The chain in one SQLite file. SQLite has one writer, so whoever writes an event seals it."""

    name = "sqlite"
    seals_in_transaction = True

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database

    def create(self) -> None:
        self.database.create("sqlite.sql")

    def is_created(self) -> bool:
        return self.database.has_table("audit_events")

    def transaction(self, *, patient: bool = False) -> AbstractContextManager[Any]:
        return self.database.transaction(PATIENT_WAIT_SECONDS if patient else LOCK_WAIT_SECONDS)

    @contextmanager
    def savepoint(self, connection: Any) -> Iterator[None]:
        with self.database.cursor(connection) as cursor:
            cursor.execute("SAVEPOINT audit_seal")
            try:
                yield
            except BaseException:
                cursor.execute("ROLLBACK TO SAVEPOINT audit_seal")
                raise
            finally:
                cursor.execute("RELEASE SAVEPOINT audit_seal")

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        rows = self._fetch("SELECT * FROM audit_checkpoints ORDER BY tree_size DESC LIMIT 1", (), connection)
        return StoredCheckpoint(*rows[0]) if rows else None

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        query = (
            "SELECT * FROM audit_checkpoints WHERE tree_size <= ? AND frontier IS NOT NULL "
            "ORDER BY tree_size DESC LIMIT 1"
        )
        rows = self._fetch(query, (size,), connection)
        return StoredCheckpoint(*rows[0]) if rows else None

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        query = "SELECT event_hash FROM audit_events WHERE sequence >= ? AND sequence < ? ORDER BY sequence"
        return [row[0] for row in self._fetch(query, (start, stop), connection)]

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        ids = list(event_ids)
        found: set[str] = set()
        for start in range(0, len(ids), 500):  # SQLite's oldest limit on parameters is 999
            some = ids[start : start + 500]
            query = f"SELECT event_id FROM audit_events WHERE event_id IN ({', '.join('?' * len(some))})"
            found.update(row[0] for row in self._fetch(query, some, connection))
        return found

    def append(self, rows: Sequence[Row], checkpoint: StoredCheckpoint, connection: Any) -> None:
        with self.database.cursor(connection) as cursor:
            try:
                cursor.executemany(_INSERT_EVENT, rows)
                cursor.execute(_INSERT_CHECKPOINT, checkpoint)
            except sqlite3.IntegrityError as error:
                raise ConflictError(f"Sequence {checkpoint.first_sequence} is taken already ({error}).") from error

    def extent(self) -> Extent:
        query = (
            "SELECT coalesce((SELECT max(sequence) + 1 FROM audit_events), 0), "
            "coalesce((SELECT max(tree_size) FROM audit_checkpoints), 0)"
        )
        return Extent(*self._fetch(query, (), None)[0])

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        query = f"SELECT {_COLUMNS} FROM audit_events WHERE sequence >= ? AND sequence < ? ORDER BY sequence LIMIT ?"
        last = 2**63 - 1 if stop is None else stop
        while True:
            page = self._fetch_hostile(query, (start, last, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            start = page[-1][_SEQUENCE] + 1

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        query = "SELECT * FROM audit_checkpoints WHERE tree_size > ? ORDER BY tree_size LIMIT ?"
        while True:
            page = self._fetch_hostile(query, (after, PAGE))
            yield from map(StoredCheckpoint._make, page)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        query = "SELECT event_id, max(sequence) FROM audit_events GROUP BY event_id HAVING count(*) > 1"
        yield from self._fetch_hostile(query, ())

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        rows = self._fetch(f"SELECT {_COLUMNS} FROM audit_events WHERE sequence = ?", (sequence,), connection)
        return rows[0] if rows else None

    def find(self, event_id: str) -> Row | None:
        rows = self._fetch(f"SELECT {_COLUMNS} FROM audit_events WHERE event_id = ?", (event_id,), None)
        return rows[0] if rows else None

    def select(self, query: EventQuery) -> Iterator[Row]:
        after = query.after
        while True:
            page = self._fetch(*_compile(query, after), None)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][_TIMESTAMP], page[-1][_SEQUENCE]

    def close(self) -> None:
        self.database.close()

    def _fetch(self, query: str, parameters: Sequence[Any], connection: Any) -> list[Any]:
        with self.database.cursor(connection) as cursor:
            cursor.execute(query, parameters)
            return list(cursor.fetchall())

    def _fetch_hostile(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        """Like _fetch, of rows that an attacker may have edited: text that is not UTF-8 comes back as it is."""
        with self.database.connection() as connection:
            try:
                return connection.execute(query, parameters).fetchall()
            except sqlite3.OperationalError as error:
                if "decode" not in str(error):
                    raise
            usual: Callable[[bytes], Any] = connection.text_factory
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            try:
                return connection.execute(query, parameters).fetchall()
            finally:
                connection.text_factory = usual


def _compile(query: EventQuery, after: Place | None) -> tuple[str, list[Any]]:
    """The SELECT of one page: keyset, never OFFSET."""
    clauses, values = [], []
    for name, column in EQUALS.items():
        if (value := getattr(query, name)) is not None:
            clauses.append(f"{column} = ?")
            values.append(value)
    if query.actor_types:
        clauses.append(f"actor_type IN ({', '.join('?' * len(query.actor_types))})")
        values += query.actor_types
    for moment, operator in ((query.since, ">="), (query.until, "<")):
        if moment is not None:
            clauses.append(f"timestamp {operator} ?")
            values.append(format_timestamp(moment))
    if after is not None:
        clauses.append(f"(timestamp, sequence) {'<' if query.newest_first else '>'} (?, ?)")
        values += after
    where = f"WHERE {' AND '.join(clauses)} " if clauses else ""
    way = "DESC" if query.newest_first else "ASC"
    order = f"ORDER BY timestamp {way}, sequence {way} LIMIT {PAGE}"
    return f"SELECT {_COLUMNS} FROM audit_events {where}{order}", values
