"""What there is of our triggers in a database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audit_core.triggers.sql import TRIGGERS
from audit_core.triggers.tables import quoted, rows_of

_INSTALLED = """
SELECT n.nspname, c.relname, t.tgname, t.tgenabled IN ('O', 'A'),
       concat_ws(' ', t.tgtype, t.tgoldtable, t.tgnewtable, nullif(t.tgattr::text, ''), t.tgqual::text),
       format('%%I.%%I', pn.nspname, p.proname),
       p.prosrc, p.prosecdef AND 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig),
       obj_description(p.oid, 'pg_proc')
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
WHERE NOT t.tgisinternal AND (t.tgname = ANY (%s) OR pn.nspname = %s AND left(p.proname, 11) = 'audit_tell_')
"""
_FUNCTIONS = """
SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND left(p.proname, 11) = 'audit_tell_'
"""


@dataclass(slots=True)
class Installed:
    """What there is on one table."""

    triggers: dict[str, bool] = field(default_factory=dict)  # whether it is enabled, by name
    shapes: dict[str, str] = field(default_factory=dict)  # when it fires, by name
    functions: dict[str, tuple[str, bool, str | None]] = field(default_factory=dict)  # body, is safe, comment


def read_installed(connection: Any, schema: str) -> dict[tuple[str, str], Installed]:
    """What there is on each table that has any, by its schema and name."""
    installed: dict[tuple[str, str], Installed] = {}
    for namespace, table, trigger, enabled, shape, function, body, safe, comment in rows_of(
        connection, _INSTALLED, [list(TRIGGERS), schema]
    ):
        its = installed.setdefault((namespace, table), Installed())
        its.triggers[trigger], its.shapes[trigger] = enabled, shape
        its.functions[function] = body, safe, comment
    return installed


def read_functions(connection: Any, schema: str) -> set[str]:
    """The functions of ours, also those that no trigger calls any more."""
    return {f"{quoted(schema)}.{row[0]}" for row in rows_of(connection, _FUNCTIONS, [schema])}
