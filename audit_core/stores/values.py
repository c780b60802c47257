"""Where the values lie that are kept outside of the records, in memory or in SQLite, beside the sealed events.

An attacker who can modify them can change, remove or move one, or put an erased one back: ``verify`` finds each. He can
read them: what is erased he may have copied before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from audit_core.errors import ConflictError
from audit_core.private import KeptValue
from audit_core.sqlite import SqliteDatabase

PAGE = 2_000
BEYOND_AT_MOST = 100
LAST = 2**63 - 1


class ValueStore(Protocol):
    """Values are added with their events, and may be erased. ``connection`` is a transaction of the store's."""

    def create(self) -> None:
        """Make the table if it is missing."""

    def is_created(self) -> bool:
        """Whether the table is there."""

    def keep(self, values: Sequence[KeptValue], connection: Any) -> None:
        """Add values. Raises ConflictError where one is there already, ConfigurationError without the table."""

    def values(self, start: int = 0, stop: int | None = None) -> Iterator[KeptValue]:
        """Those of the events from ``start`` to before ``stop``, by sequence, in constant memory."""

    def of(self, sequences: Sequence[int]) -> list[KeptValue]:
        """Those of these events."""

    def beyond(self, stop: int) -> list[tuple[Any, Any]]:
        """Sequence and name of the last 100 that lie not before ``stop``."""

    def may_erase(self) -> bool:
        """Whether this process's role may erase."""

    def erase(self, places: Sequence[tuple[int, str]], connection: Any) -> None:
        """Remove values with their salts, by sequence and name."""

    def forget(self) -> bool:
        """Overwrite what erased values have left in files, as far as that can be done; whether it was."""


def in_pages(read: Callable[[tuple[int, int, int]], list[KeptValue]], start: int, stop: int) -> Iterator[KeptValue]:
    """Page by page, each up to the end of an event: names may be anything, and no place to go on from."""
    limit = PAGE
    while len(page := read((start, stop, limit))) == limit:
        last = page[-1].sequence
        whole = [value for value in page if value.sequence != last]
        yield from whole
        start, limit = last, PAGE if whole else 2 * limit
    yield from page


class MemoryValues:
    """In a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, str], KeptValue] = {}

    def create(self) -> None:
        """There is nothing to make."""

    def is_created(self) -> bool:
        return True

    def keep(self, values: Sequence[KeptValue], connection: Any) -> None:
        del connection
        self.rows.update(((value.sequence, value.name), value) for value in values)

    def values(self, start: int = 0, stop: int | None = None) -> Iterator[KeptValue]:
        last = LAST if stop is None else stop
        yield from sorted(value for value in self.rows.values() if start <= value.sequence < last)

    def of(self, sequences: Sequence[int]) -> list[KeptValue]:
        wanted = set(sequences)
        return sorted(value for value in self.rows.values() if value.sequence in wanted)

    def beyond(self, stop: int) -> list[tuple[Any, Any]]:
        return [place for place in self.rows if place[0] >= stop][-BEYOND_AT_MOST:]

    def may_erase(self) -> bool:
        return True

    def erase(self, places: Sequence[tuple[int, str]], connection: Any) -> None:
        del connection
        for place in places:
            self.rows.pop(place, None)

    def forget(self) -> bool:
        return True


class SqliteValues:
    """In a table of the trail's file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    def create(self) -> None:
        self._database.create("sqlite_private.sql")

    def is_created(self) -> bool:
        return self._database.has_table("audit_private")

    def keep(self, values: Sequence[KeptValue], connection: Any) -> None:
        with self._database.cursor(connection) as cursor:
            try:
                cursor.executemany("INSERT INTO audit_private VALUES (?, ?, ?, ?)", values)
            except sqlite3.IntegrityError as error:
                raise ConflictError(f"Values from sequence {values[0].sequence} on are there already.") from error

    def values(self, start: int = 0, stop: int | None = None) -> Iterator[KeptValue]:
        query = (
            f"SELECT {_COLUMNS} FROM audit_private WHERE sequence >= ? AND sequence < ? ORDER BY sequence, name LIMIT ?"
        )
        yield from in_pages(partial(self._read, query), start, LAST if stop is None else stop)

    def of(self, sequences: Sequence[int]) -> list[KeptValue]:
        found: list[KeptValue] = []
        for start in range(0, len(sequences), 500):
            some = sequences[start : start + 500]
            marks = ", ".join("?" * len(some))
            found += self._read(f"SELECT {_COLUMNS} FROM audit_private WHERE sequence IN ({marks})", some)
        return found

    def beyond(self, stop: int) -> list[tuple[Any, Any]]:
        query = (
            "SELECT sequence, quote(name) FROM audit_private WHERE sequence >= ? "
            f"ORDER BY sequence DESC LIMIT {BEYOND_AT_MOST}"
        )
        with self._database.cursor() as cursor:
            return list(cursor.execute(query, (stop,)).fetchall())

    def may_erase(self) -> bool:
        return True

    def erase(self, places: Sequence[tuple[int, str]], connection: Any) -> None:
        with self._database.cursor(connection) as cursor:
            cursor.execute("PRAGMA secure_delete = ON")
            cursor.executemany("DELETE FROM audit_private WHERE sequence = ? AND name = ?", places)

    def forget(self) -> bool:
        """The file is written anew: pages of the outbox may have what was removed from there long ago."""
        with self._database.connection() as connection:
            connection.execute("PRAGMA busy_timeout = 10000")
            connection.execute("VACUUM")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    def _read(self, query: str, parameters: Sequence[Any]) -> list[KeptValue]:
        """As bytes, which need not be UTF-8: such a one fits no commitment."""
        with self._database.cursor() as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        return [KeptValue(row[0], *map(_text, row[1:])) for row in rows]


_COLUMNS = "sequence, CAST(name AS BLOB), CAST(salt AS BLOB), CAST(value AS BLOB)"


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
