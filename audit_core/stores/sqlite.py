"""Sealed events in a SQLite file, beside the application's tables or in a file of their own.

An attacker who can write this file can change or remove any row; ``verify`` finds it unless he also holds the
signing key, or cuts off the tail of a trail that is not anchored.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from audit_core.canonical import encode, format_timestamp
from audit_core.errors import ConflictError, IntegrityError
from audit_core.integrity.verify import Finding
from audit_core.query import EQUALS, EventQuery, Place
from audit_core.rows import STORED_COLUMNS, Row
from audit_core.sqlite import LOCK_WAIT_SECONDS, PATIENT_WAIT_SECONDS, SqliteDatabase, translated_errors
from audit_core.stores import Extent, Left, StoredCheckpoint
from audit_core.stores.positions import Position
from audit_core.stores.sqlite_schema import check_indexes, check_schema
from audit_core.stores.values import SqliteValues, ValueStore

PAGE = 2_000  # rows a read takes at once: a read that lasts would keep the application's writers waiting
_COLUMNS = ", ".join(STORED_COLUMNS)
_SEQUENCE = STORED_COLUMNS.index("sequence")
_TIMESTAMP = STORED_COLUMNS.index("timestamp")
# Not ABORT, which would keep a copy of every page that a row touches: a row that is refused has changed nothing.
_INSERT_EVENT = f"INSERT OR FAIL INTO audit_events ({_COLUMNS}) VALUES ({', '.join('?' * len(STORED_COLUMNS))})"
_HEAD = ", ".join(StoredCheckpoint._fields)
_INSERT_CHECKPOINT = f"INSERT INTO audit_checkpoints ({_HEAD}) VALUES (?, ?, ?, ?, ?, ?)"
_HASHES = "SELECT sequence, event_hash FROM {} WHERE sequence >= :start AND sequence < :stop"
_LEFT = ", ".join(Left._fields)
_LAST = 2**63 - 1  # of SQLite's integers; text, which only a table made anew can hold in their place, is beyond
_IN_CHAIN = f"+sequence BETWEEN 0 AND {_LAST}"  # with the plus it is no reason to read by sequence, without an index


class SqliteStore:
    """The chain in one SQLite file. SQLite has one writer, so whoever writes an event seals it."""

    name = "sqlite"
    seals_in_transaction = True

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self._archives = False  # whether there is a table for what is left of archived events
        self.values: ValueStore | None = SqliteValues(database)

    def create(self) -> None:
        self.database.create("sqlite.sql")
        self.database.create("sqlite_archived.sql")
        self.database.create("sqlite_private.sql")
        self.database.create("sqlite_positions.sql")

    def is_created(self) -> bool:
        return self.database.has_table("audit_events")

    def may_append(self) -> bool:
        return True

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

    def is_writable(self) -> bool:
        path = self.database.path
        return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)

    def check_schema(self) -> Iterator[Finding]:
        with self.database.connection() as connection, translated_errors(self.database.path):
            yield from check_schema(connection)

    def check_indexes(self) -> Iterator[Finding]:
        with self.database.connection() as connection, translated_errors(self.database.path):
            if self.database.has_table("audit_events"):
                yield from check_indexes(connection)

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        query = (
            f"SELECT {_HEAD} FROM audit_checkpoints NOT INDEXED WHERE tree_size BETWEEN 0 AND {_LAST} "
            "ORDER BY tree_size DESC LIMIT 1"
        )
        rows = self._fetch(query, (), connection)
        return StoredCheckpoint(*rows[0]) if rows else None

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        query = (
            f"SELECT {_HEAD} FROM audit_checkpoints NOT INDEXED WHERE tree_size BETWEEN 0 AND ? "
            "AND frontier IS NOT NULL ORDER BY tree_size DESC LIMIT 1"
        )
        rows = self._fetch(query, (size,), connection)
        return StoredCheckpoint(*rows[0]) if rows else None

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        query = _HASHES.format("audit_events NOT INDEXED")
        if self._has_archived(connection):  # an event that is in both, as its removal was interrupted, is one leaf
            query = f"{query} UNION {_HASHES.format('audit_archived')}"
        rows = self._fetch(f"{query} ORDER BY sequence", {"start": start, "stop": stop}, connection)
        return [row[1] for row in rows]

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        ids = list(event_ids)
        found: set[str] = set()
        for start in range(0, len(ids), 500):  # SQLite's oldest limit on parameters is 999
            some = ids[start : start + 500]
            marks = ", ".join("?" * len(some))
            query = f"SELECT event_id FROM audit_events WHERE event_id IN ({marks}) AND {_IN_CHAIN}"
            found.update(row[0] for row in self._fetch(query, some, connection))
            if self._has_archived(connection):
                query = f"SELECT event_id FROM audit_archived WHERE event_id IN ({marks})"
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
            f"SELECT (SELECT max(sequence) FROM audit_events NOT INDEXED WHERE sequence <= {_LAST}), "
            f"(SELECT max(tree_size) FROM audit_checkpoints NOT INDEXED WHERE tree_size <= {_LAST})"
        )
        last, signed = self._fetch(query, ())[0]
        return Extent(0 if last is None else int(last) + 1, int(signed or 0))  # beyond what SQLite could count

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        query = (
            f"SELECT {_COLUMNS} FROM audit_events NOT INDEXED WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?"
        )
        last = _LAST if stop is None else stop - 1
        while start <= last:
            page = self._fetch(query, (start, last, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            start = page[-1][_SEQUENCE] + 1

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        query = (
            f"SELECT {_HEAD} FROM audit_checkpoints NOT INDEXED WHERE tree_size > ? AND tree_size <= {_LAST} "
            "ORDER BY tree_size LIMIT ?"
        )
        while True:
            page = self._fetch(query, (after, PAGE))
            yield from map(StoredCheckpoint._make, page)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        query = "SELECT event_id, max(sequence) FROM audit_events GROUP BY event_id HAVING count(*) > 1"
        yield from self._fetch(query, ())
        if self._has_archived():
            again = "SELECT e.event_id, e.sequence FROM audit_archived a JOIN audit_events e USING (event_id)"
            yield from self._fetch(f"{again} WHERE e.sequence <> a.sequence", ())

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        if sequence > _LAST:
            return None
        query = f"SELECT {_COLUMNS} FROM audit_events NOT INDEXED WHERE sequence = ?"
        rows = self._fetch(query, (sequence,), connection)
        return rows[0] if rows else None

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM audit_events WHERE event_id = ? AND {_IN_CHAIN}"
        rows = self._fetch(query, (event_id,), connection)
        return rows[0] if rows else None

    def select(self, query: EventQuery) -> Iterator[Row]:
        after = query.after
        while True:
            page = self._fetch(*_compile(query, after))
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][_TIMESTAMP], page[-1][_SEQUENCE], ""

    def left(self, start: int = 0, stop: int | None = None) -> Iterator[Left]:
        query = f"SELECT {_LEFT} FROM audit_archived WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?"
        last, size = _LAST if stop is None else stop - 1, 1  # mostly it is only asked whether there is any
        while start <= last and self._has_archived():
            page = self._fetch(query, (start, last, size))
            yield from map(Left._make, page)
            if len(page) < size:
                return
            start, size = page[-1][0] + 1, PAGE

    def find_left(self, event: str | int) -> Left | None:
        if not self._has_archived() or (isinstance(event, int) and event > _LAST):
            return None
        column = "sequence" if isinstance(event, int) else "event_id"
        rows = self._fetch(f"SELECT {_LEFT} FROM audit_archived WHERE {column} = ?", (event,))
        return Left(*rows[0]) if rows else None

    def positions(self, queue: str, parts: Collection[str], connection: Any = None) -> dict[str, Position]:
        wanted = "part IN (SELECT value FROM json_each(?))"
        query = f"SELECT part, value, kept_at FROM audit_positions WHERE queue = ? AND {wanted}"
        rows = self._fetch(query, (queue, encode(list(parts)).decode()), connection)
        return {part: Position(value, kept_at) for part, value, kept_at in rows}

    def keep_positions(self, queue: str, values: Mapping[str, str], connection: Any) -> None:
        now = format_timestamp(datetime.now(UTC))
        rows = [(queue, part, value, now) for part, value in values.items()]
        with self.database.cursor(connection) as cursor:
            cursor.executemany("INSERT OR REPLACE INTO audit_positions VALUES (?, ?, ?, ?)", rows)

    def forget_positions(self, queue: str, before: str, connection: Any) -> None:
        with self.database.cursor(connection) as cursor:
            cursor.execute(
                "DELETE FROM audit_positions WHERE queue = ? AND part <> '' AND kept_at < ?", (queue, before)
            )

    def queues_since(self, moment: str) -> list[str]:
        query = "SELECT queue FROM audit_positions WHERE part = '' AND kept_at > ? ORDER BY 1"
        return [queue for (queue,) in self._fetch(query, (moment,))]

    def close(self) -> None:
        self.database.close()

    def _has_archived(self, connection: Any = None) -> bool:
        """A trail that an earlier version has made has no such table until somebody writes to it."""
        if not self._archives:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'audit_archived'"
            self._archives = bool(self._fetch(query, (), connection))
        return self._archives

    def _fetch(self, query: str, parameters: Sequence[Any] | Mapping[str, Any], connection: Any = None) -> list[Any]:
        """Rows that an attacker may have edited: text that is not UTF-8 is no error of the database."""
        with self.database.cursor(connection) as cursor:
            try:
                cursor.execute(query, parameters)
                return list(cursor.fetchall())
            except sqlite3.OperationalError as error:
                if "decode" not in str(error):
                    raise
                if connection is not None:
                    raise IntegrityError(f"{self.database.path} was tampered with: run `audit verify`.") from error
        return self._fetch_undecoded(query, parameters)

    def _fetch_undecoded(self, query: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """What is not UTF-8 comes back with surrogates, which no honest row has."""
        with self.database.connection() as connection:
            usual: Callable[[bytes], Any] = connection.text_factory
            connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            try:
                return connection.execute(query, parameters).fetchall()
            finally:
                connection.text_factory = usual


def insert_events(store: SqliteStore, rows: Iterable[Row]) -> None:
    """Fill a store that nobody else uses, without a checkpoint: a copy to search in."""
    with store.database.transaction() as connection:
        connection.executemany(_INSERT_EVENT, rows)


def _compile(query: EventQuery, after: Place | None) -> tuple[str, list[Any]]:
    """The SELECT of one page: keyset, never OFFSET."""
    clauses = [_IN_CHAIN]
    values: list[Any] = []
    for name, column in EQUALS.items():
        if (value := getattr(query, name)) is not None:
            clauses.append(f"{column} = ?")
            values.append(value)
    for column, several in (("resource_id", query.resource_ids), ("actor_type", query.actor_types)):
        if several:
            clauses.append(f"{column} IN ({', '.join('?' * len(several))})")
            values += several
    for moment, operator in ((query.since, ">="), (query.until, "<")):
        if moment is not None:
            clauses.append(f"timestamp {operator} ?")
            values.append(format_timestamp(moment))
    if after is not None:
        clauses.append(f"(timestamp, sequence) {'<' if query.newest_first else '>'} (?, ?)")
        values += after[:2]
    way = "DESC" if query.newest_first else "ASC"
    order = f"ORDER BY timestamp {way}, sequence {way} LIMIT {PAGE}"
    return f"SELECT {_COLUMNS} FROM audit_events WHERE {' AND '.join(clauses)} {order}", values
