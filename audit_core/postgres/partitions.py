"""The months of the trail: made ahead of time, and moved out of the default partition where they were not."""

from __future__ import annotations

from typing import Any, NamedTuple

from audit_core.canonical import RECORD_COLUMNS
from audit_core.errors import ConfigurationError
from audit_core.postgres import LOCK, PostgresDatabase

MONTHS_AHEAD = 3
_EVENTS, _DEFAULT = "audit_events", "audit_events_default"
_NEW_DEFAULT = "audit_moving_default"


class Partition(NamedTuple):
    """One table of the trail, and what lies in it."""

    name: str
    bounds: str  # as PostgreSQL prints them
    rows: int  # an estimate
    size: int  # bytes, indexes included


class Partitions:
    """Of one trail. What changes them needs the owner; ``make`` may also be called by the sealer."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self._events, self._default = database.table(_EVENTS), database.table(_DEFAULT)

    def make(self, months_ahead: int = MONTHS_AHEAD) -> list[str]:
        """Make those that are missing, from this month on; their names."""
        function = self.database.table("audit_make_partitions")
        return [row[0] for row in self.database.fetch(f"SELECT {function}(%s)", (months_ahead,))]

    def all(self) -> list[Partition]:
        """What there is, in order of time, the default one first."""
        query = (
            "SELECT relname, pg_get_expr(relpartbound, c.oid), greatest(reltuples, 0)::bigint, "
            "pg_total_relation_size(c.oid) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = to_regclass(%s) ORDER BY pg_get_expr(relpartbound, c.oid) <> 'DEFAULT', relname"
        )
        return [Partition(*row) for row in self.database.fetch(query, (self._events,))]

    def months_in_default(self) -> list[str]:
        """The months (``2026_11``) that have events in the default partition, as far as this role may look there."""
        if not self.database.fetch("SELECT has_table_privilege(%s, 'SELECT')", (self._default,))[0][0]:
            return []
        query = (
            f"SELECT DISTINCT to_char(timestamp AT TIME ZONE 'UTC', 'YYYY_MM') FROM {self._default} "
            "WHERE timestamp >= '1900-01-01' AND timestamp < '2200-01-01' ORDER BY 1"
        )
        return [row[0] for row in self.database.fetch(query)]

    def move_from_default(self) -> list[str]:
        """Give every month in the default partition one of its own; the months.

        The rows are copied while the trail is read and sealed as ever. Only then are the tables exchanged, in a
        moment in which nobody seals. Raises ConfigurationError for anybody but the owner, and where a month has no
        place.
        """
        owned = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
        if self.database.fetch(owned, (self._default,)) == [(False,)]:
            raise ConfigurationError(
                f"Only the owner of {self._default} can give its months partitions of their own: run it as that role."
            )
        if not (months := self.months_in_default()):
            return []
        with self.database.transaction() as connection:
            for month in months:
                self._prepare(month, connection)
            connection.execute(self._like(_NEW_DEFAULT))
        with self.database.transaction() as connection:
            copied = self._copy(months, None, connection)
        with self.database.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, to_regclass(%s)::oid::int)", (LOCK, self._events))
            if self.months_in_default() != months:
                raise ConfigurationError("A month has begun in the meantime: run it again.")
            self._copy(months, copied, connection)
            self._exchange(months, connection)
        return months

    def _prepare(self, month: str, connection: Any) -> None:
        final = self.database.table(f"{_EVENTS}_{month}")
        if self.database.fetch("SELECT to_regclass(%s) IS NOT NULL", (final,), connection)[0][0]:
            raise ConfigurationError(
                f"{final} is there, and is no part of the trail: rename it, or attach it again (ALTER TABLE "
                f"{self._events} ATTACH PARTITION), and run this again."
            )
        name = self._moving(month)
        connection.execute(self._like(f"audit_moving_{month}"))
        # With this constraint the table is attached without being read.
        connection.execute(f"ALTER TABLE {name} ADD CONSTRAINT audit_month CHECK ({_within(month)})")

    def _like(self, name: str) -> str:
        table = self.database.table(name)  # what an earlier try has left is begun again
        return f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (LIKE {self._events} INCLUDING ALL)"

    def _copy(self, months: list[str], after: int | None, connection: Any) -> int:
        """Copy what came after this sequence, or all, whatever lies there; the highest that there was."""
        highest = connection.execute(f"SELECT coalesce(max(sequence), -1) FROM {self._default}").fetchone()[0]
        columns = ", ".join((*RECORD_COLUMNS, "event_hash", "ip_text"))
        new = f"sequence <= {highest:d}" + ("" if after is None else f" AND sequence > {after:d}")
        for month in months:
            connection.execute(
                f"INSERT INTO {self._moving(month)} ({columns}) SELECT {columns} FROM {self._default} "
                f"WHERE {new} AND {_within(month)} ORDER BY sequence"
            )
        others = " AND ".join(f"NOT ({_within(month)})" for month in months)
        connection.execute(
            f"INSERT INTO {self.database.table(_NEW_DEFAULT)} ({columns}) SELECT {columns} FROM {self._default} "
            f"WHERE {new} AND {others} ORDER BY sequence"
        )
        return int(highest)

    def _exchange(self, months: list[str], connection: Any) -> None:
        new_default = self.database.table(_NEW_DEFAULT)
        connection.execute(f"ALTER TABLE {self._events} DETACH PARTITION {self._default}")
        for month in months:
            name = self._moving(month)
            start, stop = _bounds(month)
            connection.execute(
                f"ALTER TABLE {self._events} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({stop}); "
                f"ALTER TABLE {name} DROP CONSTRAINT audit_month; "
                f"ALTER TABLE {name} RENAME TO audit_events_{month}"
            )
            self._guard(f"audit_events_{month}", connection)
        connection.execute(
            f"ALTER TABLE {self._events} ATTACH PARTITION {new_default} DEFAULT; DROP TABLE {self._default}; "
            f"ALTER TABLE {new_default} RENAME TO {_DEFAULT}"
        )
        self._guard(_DEFAULT, connection)

    def _guard(self, name: str, connection: Any) -> None:
        """Row triggers come with the table that it is a part of; this one does not."""
        connection.execute(
            f"CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON {self.database.table(name)} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {self.database.table('audit_refuse')}()"
        )

    def _moving(self, month: str) -> str:
        return self.database.table(f"audit_moving_{month}")


def _bounds(month: str) -> tuple[str, str]:
    start = f"'{month.replace('_', '-')}-01 00:00:00+00'"
    year, number = map(int, month.split("_"))
    return start, f"'{year + number // 12:04d}-{number % 12 + 1:02d}-01 00:00:00+00'"


def _within(month: str) -> str:
    start, stop = _bounds(month)
    return f"timestamp >= {start}::timestamptz AND timestamp < {stop}::timestamptz"
