"""The months of a trail in PostgreSQL: a partition is dropped in the transaction that leaves what proofs need of it.

Only the owner can: no trigger lets anybody delete, and no role is granted anything for it. An owner who drops a
partition without a signed statement has removed events, and that is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audit_core.errors import ConfigurationError
from audit_core.integrity.statement import ABOUT, STATEMENTS
from audit_core.postgres.making import ARCHIVED_TABLE
from audit_core.postgres.partitions import Partitions
from audit_core.rows import Row
from audit_core.stores import Left
from audit_core.stores.postgres import PostgresStore

NO_TABLE = "42P01"
_STATEMENTS = ", ".join(f"'{kind}'" for kind in sorted(STATEMENTS))
_STAYS = f"(sequence <= 0 OR (action IN ({_STATEMENTS}) AND resource_type = '{ABOUT}' AND resource_id = %s) IS TRUE)"


class PostgresMonths:
    """Each month is a partition; what lies in the default one is given its own first."""

    def __init__(self, store: PostgresStore) -> None:
        self._store, self._database = store, store.database
        self._partitions = Partitions(store.database)

    def prepare(self, before: str) -> None:
        self._require_owner()
        self._store.create()
        if any(month.replace("_", "-") < before for month in self._partitions.months_in_default()):
            self._partitions.move_from_default()

    def until(self, before: str) -> list[str]:
        names = (partition.name.removeprefix("audit_events_") for partition in self._partitions.all())
        months = sorted(name.replace("_", "-") for name in names if name != "default")
        return [month for month in months if month < before and self._has_rows(month)]

    def rows(self, month: str) -> Iterator[Row]:
        try:
            yield from self._store.rows_of(self._table(month))
        except ConfigurationError as error:
            if getattr(error.__cause__, "sqlstate", None) != NO_TABLE:
                raise
            # Somebody else has archived it and dropped it: there is nothing more to read, and nothing is stated of it.

    def going(self, month: str, log: str, connection: Any) -> Iterator[Left]:
        with connection.cursor(name="audit_going") as cursor:
            cursor.execute(
                "SELECT sequence, encode(event_hash, 'hex'), event_id::text, -1 "
                f"FROM {self._table(month)} WHERE NOT {_STAYS} ORDER BY sequence",
                (log,),
            )
            yield from map(Left._make, cursor)

    def leave(self, month: str, archive: int, log: str, connection: Any) -> None:
        connection.execute(
            f"INSERT INTO {self._database.table(ARCHIVED_TABLE)} (sequence, archive, event_id, event_hash) "
            f"SELECT sequence, %s, event_id, event_hash FROM {self._table(month)} WHERE NOT {_STAYS} ORDER BY sequence",
            (archive, log),
        )

    def drop(self, month: str, log: str, connection: Any) -> None:
        self._partitions.replace_month(month.replace("-", "_"), _STAYS, (log,), connection)

    def finish(self) -> int:
        """There is never anything left to do: it is all one transaction."""
        return 0

    def _table(self, month: str) -> str:
        return self._database.table(f"audit_events_{month.replace('-', '_')}")

    def _has_rows(self, month: str) -> bool:
        return bool(self._database.fetch(f"SELECT EXISTS (SELECT FROM {self._table(month)})")[0][0])

    def _require_owner(self) -> None:
        query = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%s)"
        events = self._database.table("audit_events")
        if self._database.fetch(query, (events,)) == [(False,)]:
            raise ConfigurationError(f"Only the owner of {events} can archive its months: run it as that role.")
