"""Sealed events in PostgreSQL: partitioned by month, appended with COPY by one sealer at a time.

An attacker who owns the tables or is a superuser can change or remove any row; ``verify`` finds it unless he also
holds the signing key, or cuts off the tail of a trail that is not anchored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from audit_core.canonical import decode, encode, format_timestamp
from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Finding
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.making import ARCHIVED_TABLE, POSITIONS, PRIVATE_TABLE, is_there, make, mend, require_utf8
from audit_core.postgres.schema import check_schema
from audit_core.postgres.sealing import LOCK_TABLE, lock_sealing
from audit_core.query import EQUALS, EventQuery, Place
from audit_core.rows import STORED_COLUMNS, Row
from audit_core.stores import Extent, Left, StoredCheckpoint
from audit_core.stores.positions import Position
from audit_core.stores.postgres_values import PostgresValues
from audit_core.stores.values import ValueStore

PAGE = 50_000  # rows of one COPY: a snapshot held for long would keep the server from cleaning up
INDEXED = 128  # characters of a resource's id: a longer one might not fit into an index
HIGHEST = 2**63 - 1  # sequence that a row can have
SELECT_PAGE = 2_000  # rows that a query reads at once
_SEQUENCE = STORED_COLUMNS.index("sequence")
_TIMESTAMP = STORED_COLUMNS.index("timestamp")
_DETAILS = STORED_COLUMNS.index("details")
_ADDRESS = STORED_COLUMNS.index("ip_address")
_PREVIOUS = STORED_COLUMNS.index("previous_hash")
_HASH = STORED_COLUMNS.index("event_hash")
# A time that no event of ours has, such as one before Christ, must not look like one: to_char knows no era.
_CANONICAL_TIME = (
    "CASE WHEN {0} BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' "
    "THEN to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') ELSE {0}::text END"
)
_FROM_TEXT = "\x01"  # before an address that lies in ip_text
_AS_TEXT = {
    "sequence": "sequence::bigint",  # whatever somebody has made of the columns
    "details": "details::text",
    "event_id": "event_id::text",
    "ip_address": "CASE WHEN ip_text IS NULL THEN abbrev(ip_address) ELSE concat(E'\\x01', ip_text, ip_address) END",
    "previous_hash": "encode(previous_hash, 'hex')",
    "event_hash": "encode(event_hash, 'hex')",
    "timestamp": _CANONICAL_TIME.format("timestamp"),
}
# No expression keeps the name of its column: ORDER BY would take it for that.
_COLUMNS = ", ".join(f"{_AS_TEXT[name]} AS {name}_" if name in _AS_TEXT else name for name in STORED_COLUMNS)
_CHECKPOINT = (
    "tree_size::bigint, first_sequence::bigint, root, signature, frontier, "
    f"{_CANONICAL_TIME.format('sealed_at')} AS sealed_at_"
)
_BETWEEN = "sequence >= %(start)s AND sequence < %(stop)s"
_LEFT = "SELECT sequence::bigint, encode(event_hash, 'hex'), event_id::text, archive::bigint"
_HAS_TABLE = "SELECT to_regclass(%s) IS NOT NULL"
_MAY_READ = "SELECT has_table_privilege(to_regclass(%s), 'SELECT')"
_MAY_LOCK = "coalesce(has_table_privilege(to_regclass(%s), 'UPDATE'), true)"  # one that is not there sealing misses
_DOTTED_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)


class PostgresStore:
    """The chain in one schema of a PostgreSQL database."""

    name = "postgresql"
    seals_in_transaction = False

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self.values: ValueStore | None = PostgresValues(database)
        self._events, self._checkpoints = database.table("audit_events"), database.table("audit_checkpoints")
        self._positions, self._archived = database.table(POSITIONS), database.table(ARCHIVED_TABLE)
        self._archives = False  # whether what is left of archived events can be read

    def create(self) -> None:
        require_utf8(self.database)
        for table in ("audit_outbox", LOCK_TABLE, POSITIONS, ARCHIVED_TABLE, PRIVATE_TABLE):  # before any is made
            is_there(self.database, table)
        make(self.database, "postgres.sql", "audit_events")
        make(self.database, "postgres_lock.sql", LOCK_TABLE)
        make(self.database, "postgres_positions.sql", POSITIONS)
        make(self.database, "postgres_archived.sql", ARCHIVED_TABLE)
        make(self.database, "postgres_private.sql", PRIVATE_TABLE)

        mend(self.database)

    def is_created(self) -> bool:
        return is_there(self.database, "audit_events")

    def is_writable(self) -> bool:
        question = (
            "SELECT has_column_privilege(%s, 'event', 'INSERT') AND current_setting('transaction_read_only') = 'off'"
        )
        return bool(self._fetch(question, (self.database.table("audit_outbox"),), None)[0][0])

    def check_schema(self) -> Iterator[Finding]:
        return check_schema(self.database)

    def check_indexes(self) -> Iterator[Finding]:
        """The server vouches for them; only a superuser could make them lie (``amcheck`` looks for that)."""
        return iter(())

    def may_append(self) -> bool:
        outbox = self.database.table("audit_outbox")
        needed = [(self._events, "INSERT"), (self._checkpoints, "INSERT"), (outbox, "SELECT"), (outbox, "DELETE")]
        question = " AND ".join(["has_table_privilege(%s, %s)"] * len(needed))
        values = [*(value for pair in needed for value in pair), self.database.table(LOCK_TABLE)]
        may, may_lock = self._fetch(f"SELECT {question}, {_MAY_LOCK}", values, None)[0]
        if may and not may_lock:  # an answer of No would leave the sealing to a process of another role
            raise ConfigurationError(
                f"{self.database.name}: this role may add to the trail and not lock {LOCK_TABLE}, so that it seals "
                "nothing: grant it what `audit init --roles` grants."
            )
        return bool(may)

    @contextmanager
    def transaction(self, *, patient: bool = False) -> Iterator[Any]:
        with self.database.transaction() as connection:
            lock_sealing(self.database, connection, patient=patient)
            yield connection

    @contextmanager
    def savepoint(self, connection: Any) -> Iterator[None]:
        with connection.transaction():
            yield

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        query = f"SELECT {_CHECKPOINT} FROM {self._checkpoints} ORDER BY tree_size DESC LIMIT 1"
        return _checkpoint(self._fetch(query, (), connection))

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        query = (
            f"SELECT {_CHECKPOINT} FROM {self._checkpoints} WHERE tree_size <= %s AND frontier IS NOT NULL "
            "ORDER BY tree_size DESC LIMIT 1"
        )
        return _checkpoint(self._fetch(query, (size,), connection))

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        query = f"SELECT sequence, encode(event_hash, 'hex') FROM {self._events} WHERE {_BETWEEN}"
        if self._may_read_archived(connection):
            query += f" UNION ALL SELECT sequence, encode(event_hash, 'hex') FROM {self._archived} WHERE {_BETWEEN}"
        rows = self._fetch(f"{query} ORDER BY sequence", {"start": start, "stop": stop}, connection)
        return [row[1] for row in rows]

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        ids = [event_id for event_id in event_ids if _is_uuid(event_id)]
        query = f"SELECT event_id::text FROM {self._events} WHERE event_id = ANY(%(ids)s::uuid[])"
        if self._may_read_archived(connection):
            query += f" UNION ALL SELECT event_id::text FROM {self._archived} WHERE event_id = ANY(%(ids)s::uuid[])"
        return {row[0] for row in self._fetch(query, {"ids": ids}, connection)} if ids else set()

    def append(self, rows: Sequence[Row], checkpoint: StoredCheckpoint, connection: Any) -> None:
        columns = ", ".join((*STORED_COLUMNS, "ip_text"))
        with self.database.translated():
            with connection.cursor().copy(f"COPY {self._events} ({columns}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(_stored(row))
            connection.execute(f"INSERT INTO {self._checkpoints} VALUES (%s, %s, %s, %s, %s, %s)", checkpoint)

    def extent(self) -> Extent:
        query = (
            f"SELECT coalesce((SELECT max(sequence) FROM {self._events}), -1)::bigint, "
            f"coalesce((SELECT max(tree_size) FROM {self._checkpoints}), 0)::bigint"
        )
        last, signed = self._fetch(query, (), None)[0]
        return Extent(last + 1, signed)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        last = HIGHEST if stop is None else min(stop - 1, HIGHEST)
        count = PAGE
        while count >= PAGE and start <= last:
            count = 0
            # With ties: a second row of the same sequence must not fall between two pages.
            for row in self._copy(
                f"SELECT {_COLUMNS} FROM {self._events} WHERE sequence >= {start:d} AND sequence <= {last:d} "
                f"ORDER BY sequence FETCH FIRST {PAGE} ROWS WITH TIES"
            ):
                count, start = count + 1, row[_SEQUENCE] + 1
                yield row

    def rows_of(self, month: str) -> Iterator[Row]:
        """The rows of one partition, in order of sequence, in constant memory."""
        start = 0
        while True:
            query = f"SELECT {_COLUMNS} FROM {month} WHERE sequence >= %s ORDER BY sequence LIMIT {PAGE}"
            page = [_read(row) for row in self._fetch(query, (start,), None)]
            yield from page
            if len(page) < PAGE:
                return
            start = page[-1][_SEQUENCE] + 1

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        query = f"SELECT {_CHECKPOINT} FROM {self._checkpoints} WHERE tree_size > %s ORDER BY tree_size LIMIT {PAGE}"
        while True:
            page = self._fetch(query, (after,), None)
            yield from map(StoredCheckpoint._make, page)
            if len(page) < PAGE:
                return
            after = page[-1][0]

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        twice = f"SELECT event_id FROM {self._events} GROUP BY event_id HAVING count(*) > 1"
        for (event_id,) in self._fetch(twice, (), None):
            place = f"SELECT max(sequence) FROM {self._events} WHERE event_id = %s"
            yield str(event_id), self._fetch(place, (event_id,), None)[0][0]
        if self._has_archived():
            again = f"SELECT event_id, e.sequence FROM {self._archived} JOIN {self._events} e USING (event_id)"
            for event_id, sequence in self._fetch(again, (), None):
                yield str(event_id), sequence

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        return self._one("sequence = %s", sequence, connection)

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        return self._one("event_id = %s::uuid", event_id, connection) if _is_uuid(event_id) else None

    def select(self, query: EventQuery) -> Iterator[Row]:
        after = query.after
        while True:
            page = [_read(row) for row in self._fetch(*self._compile(query, after), None)]
            yield from page
            if len(page) < SELECT_PAGE:
                return
            after = page[-1][_TIMESTAMP], page[-1][_SEQUENCE], ""

    def left(self, start: int = 0, stop: int | None = None) -> Iterator[Left]:
        last = HIGHEST if stop is None else min(stop - 1, HIGHEST)
        query = f"{_LEFT} FROM {self._archived} WHERE sequence BETWEEN %s AND %s ORDER BY sequence LIMIT %s"
        size = 1  # mostly it is only asked whether there is any
        while start <= last and self._has_archived():
            page = self._fetch(query, (start, last, size), None)
            yield from map(Left._make, page)
            if len(page) < size:
                return
            start, size = page[-1][0] + 1, PAGE

    def find_left(self, event: str | int) -> Left | None:
        if not self._has_archived() or (isinstance(event, str) and not _is_uuid(event)):
            return None
        condition = "sequence = %s" if isinstance(event, int) else "event_id = %s::uuid"
        rows = self._fetch(f"{_LEFT} FROM {self._archived} WHERE {condition}", (event,), None)
        return Left(*rows[0]) if rows else None

    def positions(self, queue: str, parts: Collection[str], connection: Any = None) -> dict[str, Position]:
        query = (
            f"SELECT part, value, {_CANONICAL_TIME.format('kept_at')} FROM {self._positions} "
            "WHERE queue = %s AND part = ANY(%s)"
        )
        rows = self._fetch(query, (queue, list(parts)), connection)
        return {part: Position(value, kept_at) for part, value, kept_at in rows}

    def keep_positions(self, queue: str, values: Mapping[str, str], connection: Any) -> None:
        statement = (
            f"INSERT INTO {self._positions} SELECT %s, part, value, now() FROM unnest(%s::text[], %s::text[]) "
            "AS kept (part, value) ON CONFLICT (queue, part) DO UPDATE SET value = excluded.value, kept_at = now()"
        )
        self.database.execute(statement, (queue, list(values), list(values.values())), connection)

    def forget_positions(self, queue: str, before: str, connection: Any) -> None:
        statement = f"DELETE FROM {self._positions} WHERE queue = %s AND part <> '' AND kept_at < %s::timestamptz"
        self.database.execute(statement, (queue, before), connection)

    def queues_since(self, moment: str) -> list[str]:
        query = f"SELECT queue FROM {self._positions} WHERE part = '' AND kept_at > %s::timestamptz ORDER BY 1"
        return [queue for (queue,) in self._fetch(query, (moment,), None)]

    def close(self) -> None:
        self.database.close()

    def _has_archived(self) -> bool:
        """A trail that an earlier version has made has no such table until `audit init` is run again."""
        return self._archives or self._fetch(_HAS_TABLE, (self._archived,), None) == [(True,)]

    def _may_read_archived(self, connection: Any) -> bool:
        """A sealer whose role was not granted it yet goes on: while nothing is archived it lacks nothing."""
        if not self._archives:
            self._archives = self._fetch(_MAY_READ, (self._archived,), connection) == [(True,)]
        return self._archives

    def _one(self, condition: str, value: Any, connection: Any) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM {self._events} WHERE {condition} AND sequence >= 0 LIMIT 1"
        rows = self._fetch(query, (value,), connection)
        return _read(rows[0]) if rows else None

    def _fetch(self, query: str, parameters: Sequence[Any] | Mapping[str, Any], connection: Any) -> list[Any]:
        return self.database.fetch(query, parameters, connection)

    def _copy(self, query: str) -> Iterator[Row]:
        """The server goes on while its rows are used. A transaction of its own."""
        with self.database.transaction() as own, own.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
            copy.set_types(_TYPES)
            yield from map(_read, copy.rows())

    def _compile(self, query: EventQuery, after: Place | None) -> tuple[str, list[Any]]:
        """The SELECT of one page: keyset, never OFFSET."""
        clauses, values = ["sequence >= 0"], list[Any]()
        for name, column in EQUALS.items():
            if (value := getattr(query, name)) is not None:
                clauses.append(f"{column} = %s")
                values.append(value)
        if query.resource_id is not None:  # as the index has it
            clauses.append(f"left(resource_id, {INDEXED}) = left(%s, {INDEXED})")
            values.append(query.resource_id)
        if query.resource_ids:
            clauses += ["resource_id = ANY(%s)", f"left(resource_id, {INDEXED}) = ANY(%s)"]
            values += [list(query.resource_ids), [one[:INDEXED] for one in query.resource_ids]]
        if query.actor_types:
            clauses.append("actor_type = ANY(%s)")
            values.append(list(query.actor_types))
        for moment, operator in ((query.since, ">="), (query.until, "<")):
            if moment is not None:
                clauses.append(f"timestamp {operator} %s::timestamptz")
                values.append(format_timestamp(moment))
        if after is not None:
            clauses.append(f"(timestamp, sequence) {'<' if query.newest_first else '>'} (%s::timestamptz, %s)")
            values += after[:2]
        way = "DESC" if query.newest_first else "ASC"
        return (
            f"SELECT {_COLUMNS} FROM {self._events} WHERE {' AND '.join(clauses)} "
            f"ORDER BY timestamp {way}, sequence {way} LIMIT {SELECT_PAGE}"
        ), values


_TYPES = ["int8" if name == "sequence" else "text" for name in STORED_COLUMNS]


def _checkpoint(rows: list[Any]) -> StoredCheckpoint | None:
    return StoredCheckpoint(*rows[0]) if rows else None


def _stored(row: Row) -> list[Any]:
    """The columns as COPY takes them, ``ip_text`` last."""
    values = [*row, None]
    values[_PREVIOUS], values[_HASH] = f"\\x{row[_PREVIOUS]}", f"\\x{row[_HASH]}"
    if (address := row[_ADDRESS]) is not None and not _fits_inet(address):
        values[_ADDRESS], values[-1] = None, address
    return values


def _read(stored: Sequence[Any]) -> Row:
    """A row with its details as canonical JSON: jsonb has an order of its own."""
    row = list(stored)
    if (address := row[_ADDRESS]) is not None and address.startswith(_FROM_TEXT):
        # What inet could hold is there, or somebody has put it where no query finds it.
        row[_ADDRESS] = address if _fits_inet(address[1:]) else address[1:]
    try:  # noqa: SIM105 - every row that is verified comes this way, and suppress takes a third of the time
        row[_DETAILS] = encode(decode(row[_DETAILS])).decode()
    except (ValueError, TypeError, RecursionError):  # no event of ours has such details: they will not fit their hash
        pass
    return tuple(row)


@lru_cache(maxsize=4096)
def _fits_inet(text: str) -> bool:
    """Whether inet gives the text back as it was."""
    if _DOTTED_QUAD.fullmatch(text):
        return True
    try:
        plain = str(ip_address(text))
    except ValueError:
        return False
    # inet takes no zone, and prints what is all zeros at its beginning as IPv4 does.
    return plain == text and "%" not in text and not text.startswith("::")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except (ValueError, AttributeError, TypeError):
        return False
