"""Installing triggers, following a schema that has changed, finding where they are not what they were, dropping them.

An attacker who owns a table, or is a superuser, can disable, replace or drop its triggers: ``check`` says so, and
nothing that was told before is lost. Who only writes rows can do nothing about them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from audit_core.errors import ConfigurationError, Cures
from audit_core.redaction import Redactor
from audit_core.triggers.installed import Installed, read_functions, read_installed
from audit_core.triggers.known import Known
from audit_core.triggers.rules import Given, Rules, Treatment, is_called, rules_for, spellings_anywhere, unhashed
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
_OUTBOX = """
SELECT current_setting('server_version_num')::int, pg_get_userbyid(c.relowner),
       pg_get_userbyid(c.relowner) = current_user
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = 'audit_outbox'
"""
_TOLD = {"tell": "as it is", "mask": "masked", "replace": "as [redacted]", "exclude": "not at all"}
_SHARED = """
SELECT p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname = 'audit_json'
"""


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
        self._installed = read_installed(connection, schema)
        self._functions = read_functions(connection, schema)

    def chosen(
        self, names: Iterable[str] = (), *, everything: bool = False, leave_out: Iterable[str] = ()
    ) -> list[Table]:
        """The tables of these names with their parts; or all that are an application's, but for association tables.

        Where its classes are known, all are those of the audited ones.
        """
        of_class = self.known.table_of if self.known else str
        left_out = {(table.schema, table.name) for table in choose(self.tables, map(of_class, leave_out))}
        if everything and self.known is not None:
            return [t for t in self._of_classes(self.known) if (t.schema, t.name) not in left_out]
        if not everything:
            return [t for t in choose(self.tables, map(of_class, names)) if (t.schema, t.name) not in left_out]
        return [table for table in self.applications() if (table.schema, table.name) not in left_out]

    def applications(self) -> list[Table]:
        """All tables but those of frameworks, and association tables."""
        return [table for table in self.tables if table.name not in NOT_AUDITED and not table.is_association]

    def expected(self) -> list[Table]:
        """All that are the application's, and those that have or had triggers of ours."""
        chosen = self.chosen(everything=True)
        return [table for table in self.tables if table in chosen or self._had(table)]

    def with_triggers(self) -> list[Table]:
        """Those that have or had triggers of ours."""
        return [table for table in self.tables if self._had(table)]

    def left_out(self) -> list[Table]:
        """Those that have triggers of ours, and that the application's classes leave out."""
        return [table for table in self.tables if self._on(table).triggers and self._reason_against(table)]

    def untold(self, tables: Iterable[Table]) -> list[Table]:
        """Those of them that never had triggers, or whose triggers were removed by ``drop``."""
        return [table for table in tables if not self._had(table)]

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
        told as they are: ``{"exclude": ["patient.photo"], "mask": ["patient.phone"]}``. Raises ConfigurationError for
        a table that the application's classes leave out.
        """
        given = Given.of(self.tables, limit, names, columns, self.known)
        parts = [shared_sql(self.schema)]
        for table in tables:
            if reason := self._reason_against(table):
                name = f"{table.schema}.{table.name}"
                raise ConfigurationError(f"{name} has rows of {reason}, which is not audited: it gets no triggers.")
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
        chosen = self.tables if tables is None else list(tables)
        places = list(self._installed) if tables is None else [(t.schema, t.name) for t in chosen]
        functions = self._functions.copy() if tables is None else {self._own(t) for t in chosen} & self._functions
        parts = []
        for schema, name in places:
            there = self._installed.get((schema, name), Installed())
            table = f"{quoted(schema)}.{quoted(name)}"
            parts += [f"DROP TRIGGER IF EXISTS {trigger} ON {table};" for trigger in there.triggers]
            functions |= {self._plain(function) for function in there.functions if self._is_ours(function)}
        parts += [f"DROP FUNCTION IF EXISTS {function}();" for function in sorted(functions)]
        if tables is None:
            parts.append(f"DROP FUNCTION IF EXISTS {quoted(self.schema)}.audit_json(text);")
        return "".join(f"{part}\n" for part in parts)

    def run(self, script: str) -> None:
        """Run what these functions give, in the connection's own transaction."""
        if script:
            with closing(dbapi(self.connection).cursor()) as cursor:
                cursor.execute(script)

    def check(self, tables: Iterable[Table]) -> Iterator[str]:
        """A sentence for everything in which these tables' triggers are not what ``install`` would make.

        A table that never had any is no such thing: the ORM's hooks tell of it.
        """
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

    def told_twice(self, tables: Collection[tuple[str, str]]) -> Iterator[str]:
        """A sentence where the application's hooks tell of these tables (schema and name) beside their triggers."""
        if self.known and self.known.cure:
            of_classes = [(table.schema, table.name) for table in self._of_classes(self.known)]
            if twice := [".".join(name) for name in of_classes if name in tables]:
                yield f"Each change of {', '.join(twice)} leaves two events: {self.known.cure}."

    def _check_table(self, table: Table, given: Given) -> Iterator[str]:
        name, there = f"{table.schema}.{table.name}", self._on(table)
        if not self._had(table):
            return
        if reason := there.triggers and self._reason_against(table):
            yield (
                f"{name} has triggers, and rows of {reason}, which is not audited: they are told all the same; run "
                "`audit triggers install`."
            )
            return
        if there.triggers.keys().isdisjoint(wanted_triggers(table)):
            yield f"{name} has lost its triggers: what happened meanwhile was not told; run `audit triggers install`."
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

    def _check_function(self, table: Table, name: str, there: Installed, given: Given) -> Iterator[str]:
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
        if set(columns) != set(rules.treatments):
            return
        yield from _differences(name, rules, rules_for(table, self.redactor, replace(given, limit=rules.limit), rules))
        ((body, is_safe, _),) = there.functions.values()
        if not is_safe or body != function_body(table, rules, self.schema, self.version):
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

    def _on(self, table: Table) -> Installed:
        return self._installed.get((table.schema, table.name), Installed())

    def _had(self, table: Table) -> bool:
        """Whether ``install`` was here and ``drop`` was not: who drops triggers by hand may leave their function."""
        return bool(self._on(table).triggers) or self._own(table) in self._functions

    def _own(self, table: Table) -> str:
        return function_name(self.schema, table)

    def _reason_against(self, table: Table) -> str | None:
        known = self.known or Known({})
        name = next((n for n in spellings_anywhere(table) if n in known.left_out or n in known.resources), "")
        return known.left_out.get(name)

    def _of_classes(self, known: Known) -> list[Table]:
        """Those of audited classes. A name without a schema is one in public or by the search_path, if there is one."""
        found = [table for table in self.tables if is_called(table, known.resources)]
        there = {name for table in found for name in spellings_anywhere(table)}
        elsewhere = {name for name in known.resources if name not in there}
        found += [table for table in self.tables if not elsewhere.isdisjoint(spellings_anywhere(table))]
        return [table for table in self.tables if table in found and not self._reason_against(table)]

    def _is_ours(self, function: str) -> bool:
        return self._plain(function).startswith(f"{quoted(self.schema)}.audit_tell_")

    def _plain(self, function: str) -> str:
        """format('%I') quotes only where it must."""
        schema, _, name = function.rpartition(".")
        return f"{schema if schema.startswith(chr(34)) else quoted(schema)}.{name}"


def _differences(name: str, there: Rules, wanted: Rules) -> Iterator[str]:
    cure = "run `audit triggers install`"
    for column, treatment in wanted.treatments.items():
        if treatment != there.treatments[column]:
            was, now = _TOLD[there.treatments[column]], _TOLD[treatment]
            yield f"{name}.{column} is told {was}, and by the application's rules {now}: {cure}."
    if replace(there, treatments=wanted.treatments) != wanted:
        yield f"{name} is told by other names than the application has: {cure}."


def install(
    connection: Any,
    tables: Iterable[str] = (),
    *,
    schema: str = "audit",
    redactor: Redactor | None = None,
    known: Known | None = None,
    limit: int | None = None,
    names: Mapping[str, str] | None = None,
    columns: Mapping[Treatment, Iterable[str]] | None = None,
) -> None:
    """For a migration: install the triggers of these tables, or of all, on its connection and in its transaction.

    ``known`` is what the application's classes say of its tables: ``known_of(auditor)`` of SQLAlchemy.
    """
    triggers, wanted = Triggers(connection, schema, redactor, known), list(tables)
    chosen = triggers.chosen(wanted, everything=not wanted)
    triggers.run(triggers.install_sql(chosen, limit=limit, names=names, columns=columns))
    for sentence in triggers.unhashed(chosen):
        logger.warning("%s", sentence)
