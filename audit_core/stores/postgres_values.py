"""Where the values lie in PostgreSQL that are kept outside of the records: see ``ValueStore``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from audit_core.postgres import PostgresDatabase
from audit_core.postgres.making import PRIVATE_TABLE, is_there, make
from audit_core.private import KeptValue
from audit_core.stores.values import BEYOND_AT_MOST, LAST, in_pages

_COLUMNS = "sequence::bigint, name, salt, value"


class PostgresValues:
    """In a table of the trail's schema."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database, self._table = database, database.table(PRIVATE_TABLE)

    def create(self) -> None:
        make(self._database, "postgres_private.sql", PRIVATE_TABLE)

    def is_created(self) -> bool:
        return is_there(self._database, PRIVATE_TABLE)

    def keep(self, values: Sequence[KeptValue], connection: Any) -> None:
        with self._database.translated(), connection.cursor().copy(f"COPY {self._table} FROM STDIN") as copy:
            for value in values:
                copy.write_row(value)

    def values(self, start: int = 0, stop: int | None = None) -> Iterator[KeptValue]:
        query = (
            f"SELECT {_COLUMNS} FROM {self._table} WHERE sequence >= %s AND sequence < %s "
            "ORDER BY sequence, name LIMIT %s"
        )
        yield from in_pages(partial(self._read, query), start, LAST if stop is None else stop)

    def of(self, sequences: Sequence[int]) -> list[KeptValue]:
        query = f"SELECT {_COLUMNS} FROM {self._table} WHERE sequence = ANY(%s::bigint[])"
        return self._read(query, (list(sequences),)) if sequences else []

    def beyond(self, stop: int) -> list[tuple[Any, Any]]:
        query = (
            f"SELECT sequence::bigint, name FROM {self._table} WHERE sequence >= %s "
            f"ORDER BY sequence DESC LIMIT {BEYOND_AT_MOST}"
        )
        return list(self._database.fetch(query, (stop,)))

    def may_erase(self) -> bool:
        query = "SELECT has_table_privilege(%s, 'DELETE') AND has_table_privilege(%s, 'SELECT')"
        return bool(self._database.fetch(query, (self._table, self._table))[0][0])

    def erase(self, places: Sequence[tuple[int, str]], connection: Any) -> None:
        query = (
            f"DELETE FROM {self._table} USING unnest(%s::bigint[], %s::text[]) AS gone (sequence, name) "
            f"WHERE {PRIVATE_TABLE}.sequence = gone.sequence AND {PRIVATE_TABLE}.name = gone.name"
        )
        sequences, names = [place[0] for place in places], [place[1] for place in places]
        self._database.execute(query, (sequences, names), connection)

    def _read(self, query: str, parameters: Sequence[Any]) -> list[KeptValue]:
        return [KeptValue(*row) for row in self._database.fetch(query, parameters)]

    def forget(self) -> bool:
        """Nobody but its owner may VACUUM a table, nor within a transaction of ours."""
        return False
