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
_HARMFUL = (" that is not valid", " that runs a function")
_OPTIONAL = ("audit_outbox",)  # lies in the trail's database unless the application's data do not
_QUERY = r"""
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relrowsecurity, i.inhparent IS NOT NULL AS is_part,
           c.relispartition AND c.relkind = 'r' AND n.nspname = %(schema)s AS is_month
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (n.nspname = %(schema)s AND c.relname IN ('audit_events', 'audit_checkpoints', 'audit_outbox')
         OR i.inhparent IN (to_regclass(%(events)s), to_regclass(%(checkpoints)s), to_regclass(%(outbox)s)))
)
SELECT format('table %%s is %%s%%s', CASE WHEN is_month OR NOT is_part THEN relname ELSE oid::regclass::text END,
              CASE WHEN relkind = 'v' THEN 'a view' WHEN is_month THEN 'a month' WHEN is_part THEN 'a part'
                   ELSE relkind::text END,
              CASE relpersistence WHEN 'p' THEN '' ELSE ' that a crash empties' END)
FROM ours
UNION ALL
SELECT format('table %%s hides rows by a policy', relname) FROM ours WHERE relrowsecurity
UNION ALL
SELECT format('column %%s.%%s %%s%%s%%s%%s', relname, attname, format_type(atttypid, atttypmod),
              CASE WHEN attnotnull THEN ' not null' ELSE '' END,
              CASE WHEN attidentity = 'a' THEN ' always counted' WHEN attidentity = 'd' THEN ' counted' END,
              ' default ' || pg_get_expr(adbin, adrelid))
FROM ours JOIN pg_attribute ON attrelid = ours.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND NOT is_month
UNION ALL
SELECT format('index %%s%%s%%s', regexp_replace(pg_get_indexdef(indexrelid), '^CREATE ', ''),
              CASE WHEN indisvalid AND indisready THEN '' ELSE ' that is not valid' END,
              CASE WHEN EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                                AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass))
                   THEN ' that runs a function' ELSE '' END)
FROM ours JOIN pg_index ON indrelid = ours.oid WHERE NOT is_month
UNION ALL
SELECT format('constraint %%s on %%s: %%s', conname, relname, pg_get_constraintdef(c.oid))
FROM ours JOIN pg_constraint c ON conrelid = ours.oid WHERE contype IN ('c', 'f', 'x') AND NOT is_month
UNION ALL
SELECT format('trigger %%s on %%s: %%s %%s', tgname, relname, tgenabled,
              regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER [^ ]+ ', ''))
FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal OR tgparentid <> 0
UNION ALL
SELECT format('rule %%s on %%s', rulename, relname)
FROM ours JOIN pg_rewrite ON ev_class = ours.oid WHERE rulename <> '_RETURN'
UNION ALL
SELECT format('function %%s(%%s) %%s%%s %%s %%s', proname, pg_get_function_identity_arguments(p.oid), lanname,
              CASE WHEN prosecdef THEN ' as its owner' ELSE '' END, lower(proconfig::text),
              md5(replace(prosrc, format('"%%s".', %(schema)s), 'audit.')))
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
WHERE n.nspname = %(schema)s AND proname IN ('audit_refuse', 'audit_make_partitions')
"""
_PARTS = (
    "SELECT inhrelid::bigint, inhrelid::regclass::text, pg_get_partition_constraintdef(inhrelid) FROM pg_inherits "
    "WHERE inhparent = to_regclass(%s) AND pg_get_partition_constraintdef(inhrelid) IS NOT NULL ORDER BY 2"
)
_MISPLACED_AT_MOST = 1_000


def check_schema(database: PostgresDatabase) -> Iterator[Finding]:
    """Yield what is missing, differs, or was added to our tables. Other tables and further indexes are no finding."""
    is_sound = True
    for finding in check_catalog(database):
        is_sound = False
        yield finding
    if is_sound:
        yield from _check_places(database)


def check_catalog(database: PostgresDatabase) -> Iterator[Finding]:
    """The same without a look at the rows."""
    return _compare(read_sql(CATALOG).splitlines(), catalog(database))


def _compare(wanted: list[str], found: list[str]) -> Iterator[Finding]:
    if not any(line.startswith("table ") for line in found):
        yield Finding("empty", None, "the tables of a trail", "none of them")
    optional = [name for name in _OPTIONAL if not any(line.startswith(f"table {name} ") for line in found)]
    for line in _missing(wanted, found):
        if not any(name in line for name in optional):
            yield Finding("schema", None, line, "nothing like it")
    for line in found:
        if _as_any_month(line) not in wanted and not _is_harmless(line):
            yield Finding("schema", None, "nothing but what is ours", line)


def catalog(database: PostgresDatabase) -> list[str]:
    """What there is, a line each."""
    names = ("events", "checkpoints", "outbox")
    values = {"schema": database.schema, **{name: database.table(f"audit_{name}") for name in names}}
    ours = re.compile(rf'(?<![\w"])"?{database.schema}"?\.')
    return sorted(ours.sub("", str(line)) for (line,) in database.fetch(_QUERY, values))


def _check_places(database: PostgresDatabase) -> Iterator[Finding]:
    """A row in the wrong month is read when everything is, and passed over when a time is asked for."""
    events = database.table("audit_events")
    parts = database.fetch(_PARTS, (events,))
    if not parts:
        return
    names = {oid: name for oid, name, _ in parts}
    fits = " ".join(f"WHEN {oid} THEN {bounds}" for oid, _, bounds in parts)
    query = (  # within a CASE no condition keeps the planner from looking into a month
        f"SELECT sequence::bigint, tableoid::bigint FROM {events} WHERE NOT CASE tableoid {fits} END "
        f"LIMIT {_MISPLACED_AT_MOST}"
    )
    with database.transaction() as connection:
        connection.execute("SET LOCAL enable_seqscan = on")
        found = connection.execute(query).fetchall()
    for sequence, oid in found:
        yield Finding("schema", sequence, f"a time within {names[oid]}", "another one")


def _is_harmless(line: str) -> bool:
    """An index that a DBA has added, unless it refuses rows, shows too few, or runs what somebody wrote."""
    return line.startswith("index INDEX ") and not line.endswith(_HARMFUL)


def _missing(wanted: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    """Every month, the default one among them, must have what the others have."""
    lines = set(found)
    months = sorted({month[0] for line in lines if (month := _MONTH.search(line))} | {"audit_events_default"})
    for line in wanted:
        names = months if _ANY_MONTH in line else [_ANY_MONTH]
        yield from (there for name in names if (there := line.replace(_ANY_MONTH, name)) not in lines)


def _as_any_month(line: str) -> str:
    return _MONTH.sub(_ANY_MONTH, line)
