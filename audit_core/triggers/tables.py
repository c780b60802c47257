"""What a table of PostgreSQL has for columns, and what its triggers have to know of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from audit_core.errors import ConfigurationError

# What the frameworks and extensions keep for themselves: none of it is an application's data.
NOT_AUDITED = frozenset(
    "alembic_version django_migrations django_session django_content_type django_admin_log auth_permission "
    "spatial_ref_sys".split()
)
_KINDS = {
    "int2": "int", "int4": "int", "int8": "int", "oid": "int", "bool": "bool", "numeric": "decimal",
    "float4": "float", "float8": "float", "timestamptz": "datetime", "timestamp": "datetime", "time": "time",
    "interval": "interval", "bytea": "bytes", "json": "json", "jsonb": "json", "inet": "address",
    "uuid": "uuid",
}  # fmt: skip
_TEXTS = frozenset("text varchar bpchar name citext xml".split())
_PLAIN = frozenset("int bool decimal json address uuid".split())
_QUERY = """
SELECT n.nspname, c.relname, c.relkind, rn.nspname, root.relname,
       ARRAY(SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place)::text[],
       ARRAY(SELECT DISTINCT unnest(f.conkey) FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f'),
       pg_table_is_visible(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class root ON root.oid = coalesce(pg_partition_root(c.oid), c.oid)
JOIN pg_namespace rn ON rn.oid = root.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
AND left(n.nspname, 3) <> 'pg_' AND n.nspname <> %s
ORDER BY 1, 2
"""
_COLUMNS = """
WITH RECURSIVE base (named, oid) AS (
    SELECT oid, oid FROM pg_type
    UNION ALL SELECT named, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd'
)
SELECT n.nspname, c.relname, a.attnum, a.attname, t.typname, t.typtype, e.typname, e.typtype
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN base ON base.named = a.atttypid JOIN pg_type t ON t.oid = base.oid AND t.typtype <> 'd'
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
AND left(n.nspname, 3) <> 'pg_' AND n.nspname NOT IN ('information_schema', %s)
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Column:
    """``kind`` is how the sealer reads the text that PostgreSQL prints; "" is a text."""

    name: str
    kind: str
    is_plain: bool  # its text depends on no setting of the session


@dataclass(frozen=True, slots=True)
class Table:
    """One table as the catalogue has it."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    root: tuple[str, str]  # the partitioned table that it is a part of, or itself
    is_partitioned: bool
    is_association: bool  # it holds nothing but two references
    is_visible: bool = False  # the search_path finds it by its name alone

    @property
    def full_name(self) -> str:
        """As it is written in SQL."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a constant, whatever standard_conforming_strings is."""
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def rows_of(connection: Any, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
    """What a query gives on a connection of psycopg, psycopg2, SQLAlchemy or Django."""
    with closing(dbapi(connection).cursor()) as cursor:
        cursor.execute(query, tuple(parameters))
        return list(cursor.fetchall())


def dbapi(connection: Any) -> Any:
    """The connection whose cursors take ``%s``."""
    return connection.connection.dbapi_connection if hasattr(connection, "exec_driver_sql") else connection


def read_tables(connection: Any, own_schema: str) -> list[Table]:
    """Every table of the database that can have our triggers; the trail's own schema aside."""
    columns: dict[tuple[str, str], list[tuple[int, Column]]] = {}
    for schema, table, number, *rest in rows_of(connection, _COLUMNS, [own_schema]):
        columns.setdefault((schema, table), []).append((number, _column(*rest)))
    found = []
    for schema, name, relkind, root_schema, root, key, references, visible in rows_of(connection, _QUERY, [own_schema]):
        its = columns.get((schema, name), [])
        others = [number for number, column in its if number not in references and column.name not in key]
        is_association = len(references) == 2 and not others and len(its) <= 3
        only = tuple(column for _, column in its)
        is_partitioned = _text(relkind) == "p"
        found.append(
            Table(schema, name, only, tuple(key), (root_schema, root), is_partitioned, is_association, visible)
        )
    return found


def choose(tables: Iterable[Table], names: Iterable[str]) -> Iterator[Table]:
    """The tables of these names, with or without their schema. Raises ConfigurationError for one that there is not."""
    known = {f"{table.schema}.{table.name}": table for table in tables}
    visible = {table.name: table for table in known.values() if table.is_visible}
    for name in names:
        table = known.get(name) or visible.get(name) or known.get(f"public.{name}")
        if table is None:
            raise ConfigurationError(f"There is no table {name} that can have triggers: write it as schema.table.")
        yield table
        yield from (part for part in known.values() if _is_part(part, table))


def _is_part(part: Table, table: Table) -> bool:
    return part is not table and part.root == (table.schema, table.name)


def _column(name: str, kind: str, typtype: Any, element: str | None, element_type: Any) -> Column:
    one, what = (kind, typtype) if element is None else (element, element_type)
    plain = one in _TEXTS or _text(what) == "e" or _KINDS.get(one) in _PLAIN
    return Column(name, _KINDS.get(one, "") + ("" if element is None else "[]"), plain)


def _text(value: Any) -> str:
    """Psycopg gives the type "char" as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
