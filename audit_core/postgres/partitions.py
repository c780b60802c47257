"""The months of the trail: made ahead of time, and moved out of the default partition where they were not."""

from __future__ import annotations

from typing import Any, NamedTuple

from audit_core.canonical import RECORD_COLUMNS
from audit_core.errors import ConfigurationError
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.sealing import lock_sealing

MONTHS_AHEAD = 3
_EVENTS, _DEFAULT = "audit_events", "audit_events_default"
_NEW_DEFAULT = "audit_moving_default"
_OLD_MONTH = "audit_moving_month"
_NAMES_ANOTHER = {"42P01", "3F000"}  # a function whose body names a table, or a schema, that is not there


class Partition(NamedTuple):
    """One table of the trail, and what lies in it."""

    name: str
    bounds: str  # as PostgreSQL prints them
    rows: int | None  # None where this role may not count them
    size: int  # bytes, indexes included
    is_estimate: bool = True  # of rows


class Partitions:
    """Of one trail. What changes them needs the owner; ``make`` may also be called by the sealer."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.database = database
        self._events, self._default = database.table(_EVENTS), database.table(_DEFAULT)

    def make(self, months_ahead: int = MONTHS_AHEAD) -> list[str]:
        """Make those that are missing, from this month on; their names. Raises ConfigurationError."""
        function = self.database.table("audit_make_partitions")
        try:
            return [row[0] for row in self.database.fetch(f"SELECT {function}(%s)", (months_ahead,))]
        except ConfigurationError as error:
            self._require_default()
            if getattr(error.__cause__, "sqlstate", None) not in _NAMES_ANOTHER or not self.database.has_table(_EVENTS):
                raise
            raise ConfigurationError(
                f"The function {function} is not the one of this schema, which was renamed, perhaps: run `audit init` "
                "as the owner, which makes it again."
            ) from error

    def has_default(self) -> bool:
        """Whether there is a default partition, in which an event lies whose month has none."""
        query = "SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)"
        return self.database.fetch(query, (self._events,)) != [(False,)]

    def make_default(self) -> None:
        """Make the default partition again, if somebody has dropped it."""
        if self.has_default():
            return
        if _DEFAULT in self.detached():
            raise ConfigurationError(self.how_to_attach(_DEFAULT))
        with self.database.transaction() as connection:
            connection.execute(f"CREATE TABLE {self._default} PARTITION OF {self._events} DEFAULT")
            self._guard(_DEFAULT, connection)

    def detached(self) -> list[str]:
        """Tables that have the name of a partition, and are none."""
        query = (
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s "
            "AND relkind IN ('r', 'p', 'f') AND relname ~ '^audit_events_(\\d{4}_(0[1-9]|1[0-2])|default)$' "
            "AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid AND inhparent = to_regclass(%s)) ORDER BY 1"
        )
        return [row[0] for row in self.database.fetch(query, (self.database.schema, self._events))]

    def lost(self) -> list[str]:
        """What to do about each that is missing, in a sentence."""
        detached = self.detached()
        lines = [self.how_to_attach(name) for name in detached]
        if not self.has_default() and _DEFAULT not in detached:
            lines.append(
                f"{self._events} has lost its default partition: run `audit init` as the owner, which makes it again."
            )
        return lines

    def how_to_attach(self, name: str) -> str:
        """What to do about a table that is detached."""
        start, stop = ("", "") if name == _DEFAULT else _bounds(name.removeprefix(f"{_EVENTS}_"))
        bounds = f"FOR VALUES FROM ({start}) TO ({stop})" if start else "DEFAULT"
        table = self.database.table(name)
        return (
            f"{table} is there, and is no part of the trail: attach it again (ALTER TABLE {self._events} ATTACH "
            f"PARTITION {table} {bounds}), or rename it, and run this again."
        )

    def all(self) -> list[Partition]:
        """What there is, in order of time, the default one first."""
        query = (
            "SELECT relname, pg_get_expr(relpartbound, c.oid), reltuples::bigint, pg_total_relation_size(c.oid), "
            "has_table_privilege(c.oid, 'SELECT') FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = to_regclass(%s) ORDER BY pg_get_expr(relpartbound, c.oid) <> 'DEFAULT', relname"
        )
        return [
            Partition(name, bounds, rows, size)
            if rows > 0
            else Partition(name, bounds, self._count(name) if may_read else None, size, is_estimate=False)
            for name, bounds, rows, size, may_read in self.database.fetch(query, (self._events,))
        ]

    def _count(self, name: str) -> int:
        """Before the first ANALYZE there is no estimate, and one of no rows may be from before the month began."""
        return int(self.database.fetch(f"SELECT count(*) FROM {self.database.table(name)}")[0][0])

    def may_make(self) -> bool:
        """Whether this role may call the function that makes them; also where there is none."""
        query = "SELECT has_function_privilege(to_regprocedure(%s), 'EXECUTE')"
        name = self.database.table("audit_make_partitions")
        return self.database.fetch(query, (f"{name}(integer)",)) != [(False,)]

    def months_in_default(self) -> list[str]:
        """The months (``2026_11``) that have events in the default partition, as far as this role may look there."""
        may_read = "SELECT has_table_privilege(to_regclass(%s), 'SELECT')"
        if not (self.has_default() and self.database.fetch(may_read, (self._default,))[0][0]):
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
        self._require_default()
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
            lock_sealing(self.database, connection, patient=True)
            if self.months_in_default() != months:
                raise ConfigurationError("A month has begun in the meantime: run it again.")
            self._copy(months, copied, connection)
            self._exchange(months, connection)
        return months

    def replace_month(self, month: str, stays: str, values: tuple[Any, ...], connection: Any) -> None:
        """Drop a month (``2026_01``), in the transaction of ``connection``; what ``stays`` has a smaller one."""
        name, old = self.database.table(f"{_EVENTS}_{month}"), self.database.table(_OLD_MONTH)
        columns = ", ".join((*RECORD_COLUMNS, "event_hash", "ip_text"))
        start, stop = _bounds(month)
        connection.execute(f"ALTER TABLE {self._events} DETACH PARTITION {name}")
        if self.database.fetch(f"SELECT EXISTS (SELECT FROM {name} WHERE {stays})", values, connection)[0][0]:
            connection.execute(
                f"ALTER TABLE {name} RENAME TO {_OLD_MONTH}; "
                f"CREATE TABLE {name} PARTITION OF {self._events} FOR VALUES FROM ({start}) TO ({stop})"
            )
            self._guard(f"{_EVENTS}_{month}", connection)
            connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {old} WHERE {stays}", values)
            name = old
        connection.execute(f"DROP TABLE {name}")

    def _require_default(self) -> None:
        if not self.has_default():
            raise ConfigurationError(self.lost()[-1])

    def _prepare(self, month: str, connection: Any) -> None:
        final = self.database.table(f"{_EVENTS}_{month}")
        if self.database.fetch("SELECT to_regclass(%s) IS NOT NULL", (final,), connection)[0][0]:
            raise ConfigurationError(self.how_to_attach(f"{_EVENTS}_{month}"))
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
