"""Which tables are left to triggers, asked on the application's own connection."""

from __future__ import annotations

from contextlib import closing
from typing import Any, TypeAlias

from audit_core.triggers.tables import literal

KNOWN_SECONDS = 60.0  # after that a database is asked again
Names: TypeAlias = frozenset[tuple[str | None, str]]  # schema, or None where the name alone means the table

_COVERED = (
    # Whether its name alone means it, wherever the search_path leads: then all tables of this name are told.
    "SELECT n.nspname::text, c.relname::text, pg_table_is_visible(c.oid) AND count(*) OVER (PARTITION BY c.relname) = "
    "(SELECT count(*) FROM pg_class o WHERE o.relname = c.relname AND o.relkind IN ('r', 'p', 'v', 'f') "
    "AND o.relpersistence <> 't') FROM pg_trigger t "
    "JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace "
    "WHERE t.tgname IN ('audit_create', 'audit_update', 'audit_delete') AND t.tgenabled IN ('O', 'A') "
    "AND left(p.proname, 11) = 'audit_tell_' AND pn.nspname = {schema} GROUP BY c.oid, 1, 2 HAVING count(*) = 3"
)


def covered_tables(connection: Any, schema: str) -> Names:
    """Of the database of this DB-API connection, whose outbox is in ``schema``."""
    names: set[tuple[str | None, str]] = set()
    with closing(connection.cursor()) as cursor:
        cursor.execute(_COVERED.format(schema=literal(schema)))
        for namespace, table, visible in cursor.fetchall():
            names |= {(namespace, table), (None, table)} if visible else {(namespace, table)}
    return frozenset(names)
