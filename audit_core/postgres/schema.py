"""Whether the tables, indexes and triggers in a schema are still the ones that our .sql files make.

What is changed there changes no row, and yet hides rows from a report, or lets them be changed. A superuser can make
the catalogue lie; what he changes in the rows is found all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from audit_core.integrity.verify import Finding
from audit_core.postgres import PostgresDatabase
from audit_core.sqlite import read_sql

CATALOG = "postgres.catalog"
_MONTH = re.compile(r"\baudit_events_(?:\d{4}_\d\d|default)\b")
_ANY_MONTH = "audit_events_MONTH"
_INVALID = " that is not valid"
_OPTIONAL = ("audit_outbox",)  # lies in the trail's database unless the application's data do not
_QUERY = r"""
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.relrowsecurity, i.inhparent IS NOT NULL AS is_month
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (c.relname IN ('audit_events', 'audit_checkpoints', 'audit_outbox')
         OR i.inhparent = to_regclass(%(events)s))
)
SELECT format('table %%s is %%s', relname,
              CASE WHEN relkind = 'v' THEN 'a view' WHEN is_month THEN 'a month' ELSE relkind::text END)
FROM ours
UNION ALL
SELECT format('table %%s hides rows by a policy', relname) FROM ours WHERE relrowsecurity
UNION ALL
SELECT format('column %%s.%%s %%s%%s', relname, attname, format_type(atttypid, atttypmod),
              CASE WHEN attnotnull THEN ' not null' ELSE '' END)
FROM ours JOIN pg_attribute ON attrelid = ours.oid WHERE attnum > 0 AND NOT attisdropped AND NOT is_month
UNION ALL
SELECT format('index %%s%%s', regexp_replace(pg_get_indexdef(indexrelid), '^CREATE ', ''),
              CASE WHEN indisvalid AND indisready THEN '' ELSE ' that is not valid' END)
FROM ours JOIN pg_index ON indrelid = ours.oid WHERE NOT is_month
UNION ALL
SELECT format('trigger %%s on %%s: %%s %%s', tgname, relname, tgenabled,
              regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER [^ ]+ ', ''))
FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal OR tgparentid <> 0
UNION ALL
SELECT format('rule %%s on %%s', rulename, relname)
FROM ours JOIN pg_rewrite ON ev_class = ours.oid WHERE rulename <> '_RETURN'
UNION ALL
SELECT format('function %%s %%s', proname, md5(prosrc))
FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE n.nspname = %(schema)s AND proname = 'audit_refuse'
"""


def check_schema(database: PostgresDatabase) -> Iterator[Finding]:
    """Yield what is missing, differs, or was added to our tables. Other tables and further indexes are no finding."""
    wanted = read_sql(CATALOG).splitlines()
    found = catalog(database)
    if not any(line.startswith("table ") for line in found):
        yield Finding("empty", None, "the tables of a trail", "none of them")
    optional = [name for name in _OPTIONAL if not any(line.startswith(f"table {name} ") for line in found)]
    for line in _missing(wanted, found):
        if not any(name in line for name in optional):
            yield Finding("schema", None, line, "nothing like it")
    for line in found:
        if _as_any_month(line) not in wanted and (not line.startswith("index ") or line.endswith(_INVALID)):
            yield Finding("schema", None, "nothing but what is ours", line)


def catalog(database: PostgresDatabase) -> list[str]:
    """What there is, a line each."""
    values = {"schema": database.schema, "events": database.table("audit_events")}
    return sorted(str(line).replace(f"{database.schema}.", "") for (line,) in database.fetch(_QUERY, values))


def _missing(wanted: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    """Every month, the default one among them, must have what the others have."""
    lines = set(found)
    months = sorted({month[0] for line in lines if (month := _MONTH.search(line))} | {"audit_events_default"})
    for line in wanted:
        names = months if _ANY_MONTH in line else [_ANY_MONTH]
        yield from (there for name in names if (there := line.replace(_ANY_MONTH, name)) not in lines)


def _as_any_month(line: str) -> str:
    return _MONTH.sub(_ANY_MONTH, line)
