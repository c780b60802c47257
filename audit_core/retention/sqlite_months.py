"""The months of a trail in SQLite: an event is removed only once what proofs need of it is committed.

The trigger that refuses DELETE has no exception that somebody could use: it is dropped and made again in the
transaction that removes, as whoever can write the file could do anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit_core.integrity.statement import ABOUT, STATEMENTS
from audit_core.retention.months import MONTH, SEQUENCE, next_month
from audit_core.rows import STORED_COLUMNS, Row
from audit_core.sqlite import PATIENT_WAIT_SECONDS
from audit_core.stores import Left
from audit_core.stores.sqlite import PAGE, SqliteStore

AT_ONCE = 500  # events that one transaction removes: the application's writers wait so long
_COLUMNS = ", ".join(STORED_COLUMNS)
_GUARD = "audit_events_no_delete"
_STATEMENTS = ", ".join(f"'{kind}'" for kind in sorted(STATEMENTS))
_GOES = f"sequence > 0 AND NOT (action IN ({_STATEMENTS}) AND resource_type = '{ABOUT}' AND resource_id = :log)"
_LEFT = ", ".join(Left._fields)
_GOING = (
    "SELECT sequence, event_hash, event_id, :archive FROM audit_events WHERE timestamp >= :start AND timestamp < :stop "
    f"AND {_GOES} ORDER BY sequence"
)
_BOTH = "FROM audit_events e CROSS JOIN audit_archived a ON a.sequence = e.sequence AND a.event_hash = e.event_hash"


class SqliteMonths:
    """Reads by pages in the order of the chain, and removes a little at a time."""

    def __init__(self, store: SqliteStore) -> None:
        self._store, self._database = store, store.database

    def prepare(self, before: str) -> None:
        """A file has no parts."""
        del before
        self._store.create()

    def until(self, before: str) -> list[str]:
        query = "SELECT DISTINCT substr(timestamp, 1, 7) FROM audit_events WHERE timestamp < ? ORDER BY 1"
        return [month for (month,) in self._fetch(query, (before,)) if MONTH.fullmatch(str(month))]

    def rows(self, month: str) -> Iterator[Row]:
        bounds = (month, next_month(month))
        between = "timestamp >= ? AND timestamp < ?"
        first, last = self._fetch(
            f"SELECT min(sequence), max(sequence) FROM audit_events WHERE {between} AND sequence >= 0", bounds
        )[0]
        query = (
            f"SELECT {_COLUMNS} FROM audit_events NOT INDEXED WHERE sequence BETWEEN ? AND ? AND +timestamp >= ? "
            "AND +timestamp < ? ORDER BY sequence LIMIT ?"
        )
        while first is not None and first <= last:
            page = self._fetch(query, (first, last, *bounds, PAGE))
            yield from page
            if len(page) < PAGE:
                return
            first = page[-1][SEQUENCE] + 1

    def going(self, month: str, log: str, connection: Any) -> Iterator[Left]:
        yield from map(Left._make, connection.execute(_GOING, _bounds(month, log, -1)))

    def leave(self, month: str, archive: int, log: str, connection: Any) -> None:
        connection.execute(f"INSERT INTO audit_archived ({_LEFT}) {_GOING}", _bounds(month, log, archive))

    def drop(self, month: str, log: str, connection: Any) -> None:
        """Only afterwards, a little at a time: the application writes the same file."""

    def finish(self) -> int:
        removed, last = 0, -1
        query = f"SELECT e.sequence {_BOTH} WHERE e.sequence > ? ORDER BY e.sequence LIMIT {AT_ONCE}"
        while sequences := [row[0] for row in self._fetch(query, (last,))]:
            last = sequences[-1]
            with self._database.transaction(PATIENT_WAIT_SECONDS) as connection:
                removed += self._remove(sequences, connection)
        return removed

    def _remove(self, sequences: list[int], connection: Any) -> int:
        """Those that are archived still, in a transaction at whose end the guard stands as before."""
        guard = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?", (_GUARD,))
        found = guard.fetchone()
        connection.execute(f"DROP TRIGGER IF EXISTS {_GUARD}")
        marks = ", ".join("?" * len(sequences))
        removed = connection.execute(
            f"DELETE FROM audit_events WHERE sequence IN (SELECT e.sequence {_BOTH} WHERE e.sequence IN ({marks}))",
            sequences,
        ).rowcount
        if found:
            connection.execute(found[0])
        return int(removed)

    def _fetch(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._database.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())


def _bounds(month: str, log: str, archive: int) -> dict[str, Any]:
    return {"start": month, "stop": next_month(month), "log": log, "archive": archive}
