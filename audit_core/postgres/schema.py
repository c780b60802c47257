"""Whether the tables, indexes and triggers in a schema are still the ones that our .sql files make.

What is changed there changes no row, and yet hides rows from a report, or lets them be changed. A superuser can make
the catalogue lie; what he changes in the rows is found all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import md5

from audit_core.integrity.verify import Finding
from audit_core.postgres import PostgresDatabase, script_for
from audit_core.sqlite import read_sql

CATALOG = "postgres.catalog"
_MONTH = re.compile(r"(?<=\.)audit_events_(?:\d{4}_\d\d|default)\b(?!\.)")
_ANY_MONTH = "audit_events_MONTH"
# An outbox lies in the trail's database unless the application's data do not; older trails lack the others.
_MAY_LACK = (".audit_outbox", ".audit_lock", ".audit_positions", ".audit_archived", ".audit_private")
_BODY = re.compile(r"CREATE OR REPLACE FUNCTION (\S+)\(.*?\$\$(.*?)\$\$", re.DOTALL)
_NOT_VALID, _RUNS_FUNCTION = " that is not valid", " that runs a function"
# Names are printed with their schema unless it is pg_catalog: what looks like ours is ours.
_QUERY = r"""
WITH ours AS (
    SELECT c.oid, c.oid::regclass::text AS name, c.relkind, c.relpersistence, c.relowner,
           c.relrowsecurity OR c.relforcerowsecurity AS has_policy, i.inhparent IS NOT NULL AS is_part,
           c.relispartition AND c.relkind = 'r' AND n.nspname = %(schema)s
           AND CASE WHEN c.relname = 'audit_events_default' THEN pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT'
                    WHEN c.relname ~ '^audit_events_\d{4}_(0[1-9]|1[0-2])$' AND c.relname !~ '_0000_' THEN
                        pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES FROM (%%L) TO (%%L)',
                            to_timestamp(right(c.relname, 7), 'YYYY_MM'),
                            to_timestamp(right(c.relname, 7), 'YYYY_MM') + interval '1 month')
                    ELSE false END AS is_month
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (n.nspname = %(schema)s AND c.relname IN ('audit_events', 'audit_checkpoints', 'audit_outbox', 'audit_lock',
                                                       'audit_positions', 'audit_archived', 'audit_private')
         OR i.inhparent IN (to_regclass(%(events)s), to_regclass(%(checkpoints)s), to_regclass(%(outbox)s),
                          to_regclass(%(lock)s), to_regclass(%(positions)s), to_regclass(%(archived)s),
                          to_regclass(%(private)s)))
), owners AS (
    SELECT oid FROM pg_roles WHERE rolsuper
    UNION ALL
    SELECT relowner FROM pg_class WHERE oid = to_regclass(%(events)s)
)
SELECT format('table %%s is %%s%%s%%s', name,
              CASE WHEN relkind = 'v' THEN 'a view' WHEN is_month THEN 'a month' WHEN is_part THEN 'a part'
                   ELSE relkind::text END,
              CASE relpersistence WHEN 'p' THEN '' ELSE ' that a crash empties' END,
              CASE WHEN relowner IN (SELECT oid FROM owners) THEN '' ELSE ' of another owner' END)
FROM ours
UNION ALL
SELECT format('table %%s hides rows by a policy', name) FROM ours WHERE has_policy
UNION ALL
SELECT format('column %%s.%%I %%s%%s%%s%%s%%s%%s', name, attname, format_type(atttypid, atttypmod),
              ' collate ' || CASE WHEN attcollation <> typcollation THEN attcollation::regcollation::text END,
              CASE WHEN attnotnull THEN ' not null' ELSE '' END,
              CASE WHEN attidentity = 'a' THEN ' always counted' WHEN attidentity = 'd' THEN ' counted' END,
              CASE WHEN attgenerated <> '' THEN ' generated' END, ' default ' || pg_get_expr(adbin, adrelid))
FROM ours JOIN pg_attribute ON attrelid = ours.oid JOIN pg_type t ON t.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND NOT is_month
UNION ALL
SELECT format('sequence of %%s.%%I is %%s from %%s to %%s by %%s, starts at %%s, keeps %%s%%s', name, attname,
              format_type(seqtypid, NULL), seqmin, seqmax, seqincrement, seqstart, seqcache,
              CASE WHEN seqcycle THEN ', begins again' END)
FROM ours JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND refobjid = ours.oid AND deptype = 'i'
JOIN pg_sequence ON seqrelid = d.objid AND d.classid = 'pg_class'::regclass
JOIN pg_attribute ON attrelid = ours.oid AND attnum = refobjsubid
UNION ALL
SELECT format('index %%s%%s%%s', regexp_replace(pg_get_indexdef(indexrelid), '^CREATE ', ''),
              CASE WHEN indisvalid AND indisready THEN '' ELSE ' that is not valid' END,
              CASE WHEN runs_function THEN ' that runs a function' ELSE '' END)
FROM ours JOIN pg_index ON indrelid = ours.oid, LATERAL (
    SELECT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indexrelid
                   AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)) AS runs_function) AS extra
WHERE NOT is_month OR runs_function OR CASE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
                                            THEN NOT (indisvalid AND indisready) ELSE indisunique OR indisexclusion END
UNION ALL
SELECT format('constraint %%I on %%s: %%s', conname, name, pg_get_constraintdef(c.oid))
FROM ours JOIN pg_constraint c ON conrelid = ours.oid
WHERE contype IN ('c', 'f', 'x') OR condeferrable OR NOT convalidated
UNION ALL
SELECT format('trigger %%I on %%s: %%s %%s', tgname, name, tgenabled,
              regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER [^ ]+ ', ''))
FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal OR tgparentid <> 0
UNION ALL
SELECT format('rule %%I on %%s', rulename, name)
FROM ours JOIN pg_rewrite ON ev_class = ours.oid WHERE rulename <> '_RETURN'
UNION ALL
SELECT format('function %%s gives %%s in %%s%%s%%s%%s %%s: %%s', p.oid::regprocedure,
              CASE WHEN proretset THEN 'rows of ' ELSE '' END || format_type(prorettype, NULL), lanname,
              CASE WHEN prosecdef THEN ' as its owner' END,
              CASE WHEN proisstrict OR provolatile <> 'v' OR prokind <> 'f' THEN ' of another kind' END,
              CASE WHEN proowner IN (SELECT oid FROM owners) THEN '' ELSE ' of another owner' END,
              proconfig, md5(prosrc))
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
    findings = check_catalog(database)
    yield from findings
    if not findings:
        yield from _check_places(database)
        yield from _check_unindexed(database)


def check_catalog(database: PostgresDatabase) -> list[Finding]:
    """The same without a look at the rows."""
    # Looked at again before an alarm: an index that is being rebuilt changes its name meanwhile.
    return _differences(database) and _differences(database)


def _differences(database: PostgresDatabase) -> list[Finding]:
    return list(_compare(_wanted(database), catalog(database)))


def _compare(wanted: list[str], found: list[str]) -> Iterator[Finding]:
    if not any(line.startswith("table ") for line in found):
        yield Finding("empty", None, "the tables of a trail", "none of them")
    tables = [line for line in found if line.startswith("table ")]
    lacking = [name for name in _MAY_LACK if not any(f"{name} is" in line for line in tables)]
    for line in _missing(wanted, found):
        if not any(name in line for name in lacking):
            yield Finding("schema", None, line, "nothing like it")
    for line in found:
        if _as_any_month(line) not in wanted and not _is_harmless(line, wanted):
            yield Finding("schema", None, "nothing but what is ours", line)


def _wanted(database: PostgresDatabase) -> list[str]:
    """What `audit init` makes in a schema of this name, as this server prints it."""
    name = database.fetch("SELECT quote_ident(%s)", (database.schema,))[0][0]
    lines = [re.sub(r"\baudit\.", f"{name}.", line) for line in read_sql(CATALOG).splitlines()]
    for function, body in _BODY.findall(script_for("postgres.sql", database.schema)):
        own = f"function {name}.{function.rpartition('.')[2]}("
        hashed = md5(body.encode(), usedforsecurity=False).hexdigest()
        lines = [f"{line} {hashed}" if line.startswith(own) else line for line in lines]
    return lines


def catalog(database: PostgresDatabase) -> list[str]:
    """What there is, a line each."""
    names = ("events", "checkpoints", "outbox", "lock", "positions", "archived", "private")
    values = {"schema": database.schema, **{name: database.table(f"audit_{name}") for name in names}}
    may_lock = "SELECT relkind = 'p' AND has_table_privilege(oid, 'SELECT') FROM pg_class WHERE oid = to_regclass(%s)"
    with database.transaction() as connection:
        if database.fetch(may_lock, (values["events"],), connection) == [(True,)]:
            # The months are being exchanged, perhaps: the snapshot of the query must be younger than the lock.
            database.execute(f"LOCK TABLE {values['events']} IN ACCESS SHARE MODE", None, connection)
        return sorted(str(line) for (line,) in database.fetch(_QUERY, values, connection))


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


def _check_unindexed(database: PostgresDatabase) -> Iterator[Finding]:
    """A row that no index leads to is shown by reports, and passed over by whoever walks the chain in its order."""
    events = database.table("audit_events")
    with database.transaction() as connection:
        connection.execute("SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off")
        everything = f"SELECT count(*), count(sequence), coalesce(max(sequence), -1)::bigint FROM {events}"
        rows, numbered, highest = database.fetch(everything, (), connection)[0]
    # What is sealed from now on lies above the highest.
    walk = f"SELECT count(*), coalesce(max(sequence), -1)::bigint FROM {events} WHERE sequence <= %s"
    walked, last = database.fetch(walk, (highest,))[0]
    if rows != numbered:
        yield Finding("schema", None, "a sequence in every row", f"{rows - numbered} rows without one")
    if (walked, last) != (numbered, highest):
        yield Finding("schema", None, f"{numbered} rows by their sequence", f"{walked}: REINDEX TABLE {events}")


def _is_harmless(line: str, wanted: list[str]) -> bool:
    """An index that a DBA has added or is rebuilding, unless it refuses rows that ours take, or runs a function."""
    if not line.startswith("index ") or line.endswith(_RUNS_FUNCTION):
        return False
    if line.startswith("index INDEX "):
        return _MONTH.search(line) is None
    return any(_on_what(line) == _on_what(own) for own in wanted if own.startswith("index UNIQUE "))


def _on_what(index: str) -> str:
    """The table and the columns, without the name of the index."""
    rest = _MONTH.sub("audit_events", index.removesuffix(_NOT_VALID)).partition(" ON ")[2]
    return rest.removeprefix("ONLY ")


def _missing(wanted: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    """Every month, the default one among them, must have what the others have."""
    lines = set(found)
    months = sorted({month[0] for line in lines if (month := _MONTH.search(line))} | {"audit_events_default"})
    for line in wanted:
        names = months if _ANY_MONTH in line else [_ANY_MONTH]
        yield from (there for name in names if (there := line.replace(_ANY_MONTH, name)) not in lines)


def _as_any_month(line: str) -> str:
    return _MONTH.sub(_ANY_MONTH, line)
