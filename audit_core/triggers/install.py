"""Installing triggers, following a schema that has changed, finding where they are not what they were, dropping them.

An attacker who owns a table, or is a superuser, can disable, replace or drop its triggers: ``check`` says so, and
nothing that was told before is lost. Who only writes rows can do nothing about them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from audit_core.errors import ConfigurationError, Cures
from audit_core.redaction import Redactor
from audit_core.triggers.rules import Given, Known, Rules, Treatment, is_called, rules_for, unhashed
from audit_core.triggers.sql import (
    TRIGGERS,
    function_body,
    function_name,
    shared_sql,
    table_sql,
    trigger_shape,
    wanted_triggers,
)
from audit_core.triggers.tables import NOT_AUDITED, Table, choose, dbapi, quoted, read_tables, rows_of

logger = logging.getLogger("audit_core")
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
_OUTBOX = """
SELECT current_setting('server_version_num')::int, pg_get_userbyid(c.relowner),
       pg_get_userbyid(c.relowner) = current_user
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = 'audit_outbox'
"""
_SHARED = """
SELECT p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname = 'audit_json'
"""


@dataclass(slots=True)
class _Installed:
    """What there is on one table."""

    triggers: dict[str, bool] = field(default_factory=dict)  # whether it is enabled, by name
    shapes: dict[str, str] = field(default_factory=dict)  # when it fires, by name
    functions: dict[str, tuple[str, bool, str | None]] = field(default_factory=dict)  # body, is safe, comment


class Triggers:
    """The triggers of one database, seen through a connection of psycopg, psycopg2, SQLAlchemy or Django.

    Raises ConfigurationError where the database has no outbox.
    """

    def __init__(
        self, connection: Any, schema: str = "audit", redactor: Redactor | None = None, known: Known | None = None
    ) -> None:
        self.connection, self.schema, self.known = connection, schema, known
        self.redactor = redactor or (known.redactor if known else None) or Redactor()
        found = rows_of(connection, _OUTBOX, [schema])
        if not found:
            raise ConfigurationError(f"This database has no outbox in schema {schema}: {Cures.make_tables}.")
        self.version, owner, is_own = found[0]
        self.owner: str | None = None if is_own else owner
        self.tables = read_tables(connection, schema)
        self._installed: dict[tuple[str, str], _Installed] = {}
        for namespace, table, trigger, enabled, shape, function, body, safe, comment in rows_of(
            connection, _INSTALLED, [list(TRIGGERS), schema]
        ):
            its = self._installed.setdefault((namespace, table), _Installed())
            its.triggers[trigger], its.shapes[trigger] = enabled, shape
            its.functions[function] = body, safe, comment

    def chosen(
        self, names: Iterable[str] = (), *, everything: bool = False, leave_out: Iterable[str] = ()
    ) -> list[Table]:
        """The tables of these names with their parts; or all that are an application's, but for association tables.

        Where its classes are known, all are those of the audited ones.
        """
        of_class = self.known.table_of if self.known else str
        left_out = {(table.schema, table.name) for table in choose(self.tables, map(of_class, leave_out))}
        if everything and self.known is not None:
            return [t for t in self.tables if (t.schema, t.name) not in left_out and is_called(t, self.known.resources)]
        if not everything:
            return [t for t in choose(self.tables, map(of_class, names)) if (t.schema, t.name) not in left_out]
        return [
            table
            for table in self.tables
            if (table.schema, table.name) not in left_out and table.name not in NOT_AUDITED and not table.is_association
        ]

    def install_sql(
        self,
        tables: Iterable[Table],
        *,
        limit: int | None = None,
        names: Mapping[str, str] | None = None,
        columns: Mapping[Treatment, Iterable[str]] | None = None,
    ) -> str:
        """What makes the triggers of these tables, or makes them follow what has changed; may be run again.

        ``names`` gives tables the resource type that they have elsewhere, ``columns`` says per treatment which are not
        told as they are: ``{"exclude": ["patient.photo"], "mask": ["patient.phone"]}``.
        """
        given = Given.of(self.tables, limit, names, columns, self.known)
        parts = [shared_sql(self.schema)]
        for table in tables:
            there = self._on(table)
            rules = rules_for(table, self.redactor, given, self._rules(table))
            parts.append(table_sql(table, rules, self.schema, self.version, self.owner))
            disabled = [name for name, enabled in there.triggers.items() if not enabled and name in TRIGGERS]
            parts += [f"ALTER TABLE {table.full_name} ENABLE TRIGGER {name};" for name in disabled]
            own = function_name(self.schema, table)
            others = [one for one in there.functions if self._is_ours(one) and self._plain(one) != own]
            parts += [f"DROP FUNCTION {other}();" for other in others]
        return "\n".join(parts) + "\n"

    def drop_sql(self, tables: Iterable[Table] | None = None) -> str:
        """What removes the triggers of these tables, or everything of ours."""
        places = [(t.schema, t.name) for t in tables] if tables is not None else list(self._installed)
        parts = []
        for schema, name in places:
            there = self._installed.get((schema, name), _Installed())
            table = f"{quoted(schema)}.{quoted(name)}"
            parts += [f"DROP TRIGGER IF EXISTS {trigger} ON {table};" for trigger in there.triggers]
            parts += [
                f"DROP FUNCTION IF EXISTS {function}();" for function in there.functions if self._is_ours(function)
            ]
        if tables is None:
            parts.append(f"DROP FUNCTION IF EXISTS {quoted(self.schema)}.audit_json(text);")
        return "".join(f"{part}\n" for part in parts)

    def run(self, script: str) -> None:
        """Run what these functions give, in the connection's own transaction."""
        if script:
            with closing(dbapi(self.connection).cursor()) as cursor:
                cursor.execute(script)

    def check(self, tables: Iterable[Table]) -> Iterator[str]:
        """A sentence for everything in which these tables' triggers are not what ``install`` would make."""
        if self._installed and [row[0] for row in rows_of(self.connection, _SHARED, [self.schema])] != [
            shared_sql(self.schema).split("$$")[1]
        ]:
            yield f"The function {self.schema}.audit_json is not ours any more: run `audit triggers install`."
        given = Given.of(self.tables, application=self.known)
        for table in tables:
            yield from self._check_table(table, given)

    def covered(self) -> set[tuple[str, str]]:
        """Schema and name of the tables whose rows are told by enabled triggers of ours."""
        return {
            (table.schema, table.name)
            for table in self.tables
            if all(self._on(table).triggers.get(name) for name in wanted_triggers(table))
            and function_name(self.schema, table) in map(self._plain, self._on(table).functions)
        }

    def has_none(self, table: Table) -> bool:
        """Whether the table has not one trigger of ours."""
        return self._on(table).triggers.keys().isdisjoint(wanted_triggers(table))

    def _check_table(self, table: Table, given: Given) -> Iterator[str]:
        name, there = f"{table.schema}.{table.name}", self._on(table)
        if self.has_none(table):
            yield f"{name} has no triggers: its changes are told by the ORM's hooks alone."
            return
        for trigger in wanted_triggers(table):
            if trigger not in there.triggers:
                yield f"{name} has lost its trigger {trigger}: run `audit triggers install`."
        for trigger, enabled in there.triggers.items():
            if not enabled:
                yield f"{name}'s trigger {trigger} is disabled: what happened meanwhile was not told."
            if trigger in TRIGGERS and there.shapes[trigger] != trigger_shape(trigger):
                yield f"{name}'s trigger {trigger} does not fire as installed: run `audit triggers install`."
        yield from self._check_function(table, name, there, given)

    def _check_function(self, table: Table, name: str, there: _Installed, given: Given) -> Iterator[str]:
        own, rules = function_name(self.schema, table), self._rules(table)
        if rules is None or list(map(self._plain, there.functions)) != [own]:
            yield f"{name}'s triggers call another function than ours for it: run `audit triggers install`."
            return
        columns = [column.name for column in table.columns]
        for column in columns:
            if column not in rules.treatments:
                yield f"{name} has a new column {column}, which is not told: run `audit triggers install`."
        for column in rules.treatments:
            if column not in columns:
                yield f"{name} has no column {column} any more: run `audit triggers install`."
        if set(columns) == set(rules.treatments) and rules != rules_for(
            table, self.redactor, replace(given, limit=rules.limit), rules
        ):
            yield f"{name} is told by other names or rules than the application has: run `audit triggers install`."
        ((body, is_safe, _),) = there.functions.values()
        if set(columns) == set(rules.treatments) and (
            not is_safe or body != function_body(table, rules, self.schema, self.version)
        ):
            yield f"{name}'s function or its columns are not what was installed: run `audit triggers install`."

    def outdated(self, tables: Iterable[Table]) -> list[Table]:
        """Those of them whose triggers tell of other columns, or by other names or rules, than they would now."""
        given = Given.of(self.tables, application=self.known)
        there = ((table, self._on(table)) for table in tables)
        return [table for table, its in there if its.triggers and any(self._check_function(table, "", its, given))]

    def unhashed(self, tables: Iterable[Table]) -> Iterator[str]:
        """A sentence for every column that the hooks hash and a trigger cannot."""
        given = Given.of(self.tables, application=self.known)
        for table in tables:
            rules = rules_for(table, self.redactor, given, self._rules(table))
            for column in unhashed(self.redactor, rules):
                yield (
                    f"{table.schema}.{table.name}.{column} is told as [redacted], not as its hash: a trigger has no "
                    "place for the key."
                )

    def _rules(self, table: Table) -> Rules | None:
        ours = [comment for name, (_, _, comment) in self._on(table).functions.items() if self._is_ours(name)]
        return Rules.parse(ours[0]) if ours else None

    def _on(self, table: Table) -> _Installed:
        return self._installed.get((table.schema, table.name), _Installed())

    def _is_ours(self, function: str) -> bool:
        return self._plain(function).startswith(f"{quoted(self.schema)}.audit_tell_")

    def _plain(self, function: str) -> str:
        """format('%I') quotes only where it must."""
        schema, _, name = function.rpartition(".")
        return f"{schema if schema.startswith(chr(34)) else quoted(schema)}.{name}"


def install(
    connection: Any,
    tables: Iterable[str] = (),
    *,
    schema: str = "audit",
    redactor: Redactor | None = None,
    limit: int | None = None,
    names: Mapping[str, str] | None = None,
    columns: Mapping[Treatment, Iterable[str]] | None = None,
) -> None:
    """For a migration: install the triggers of these tables, or of all, on its connection and in its transaction."""
    triggers, wanted = Triggers(connection, schema, redactor), list(tables)
    chosen = triggers.chosen(wanted, everything=not wanted)
    triggers.run(triggers.install_sql(chosen, limit=limit, names=names, columns=columns))
    for sentence in triggers.unhashed(chosen):
        logger.warning("%s", sentence)
