"""``audit triggers``: changes told by the database itself (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, TypeAlias

import typer

from audit_core.cli.application import AuditorPath, load_auditor
from audit_core.cli.place import Url, chosen_url
from audit_core.cli.terminal import note, say, say_exactly
from audit_core.compose import compose
from audit_core.context import Actor, AuditContext
from audit_core.errors import ConfigurationError
from audit_core.event import ActorType, Outcome
from audit_core.outbox.postgres import PostgresOutbox
from audit_core.postgres import PostgresDatabase
from audit_core.process.account import account
from audit_core.redaction import Redactor
from audit_core.triggers import Triggers
from audit_core.triggers.tables import Table

_Record: TypeAlias = Callable[[str, Iterable[Table], Sequence[str]], None]

app = typer.Typer(
    no_args_is_help=True,
    help="Triggers that tell of every change (PostgreSQL).\n\nWhoever makes it, be it by raw SQL: see "
    "docs/triggers.md.",
)

Tables = Annotated[
    list[str] | None, typer.Option("--tables", metavar="TABLE", help="A table, as name or schema.name; repeatable.")
]
All = Annotated[bool, typer.Option("--all", help="All tables of the application, but for association tables.")]
Except = Annotated[list[str] | None, typer.Option("--except", metavar="TABLE", help="Not this one; repeatable.")]
OnlySql = Annotated[bool, typer.Option("--sql", help="Print the SQL, and run nothing.")]


def _columns(what: str) -> Any:
    return typer.Option(metavar="TABLE.COLUMN", help=f"{what}; repeatable.")


@app.command()
def install(
    context: typer.Context,
    *,
    url: Url = None,
    tables: Tables = None,
    everything: All = False,
    leave_out: Except = None,
    exclude_column: Annotated[list[str] | None, _columns("Leave out its values")] = None,
    redact: Annotated[list[str] | None, _columns("Tell its values as [redacted]")] = None,
    mask: Annotated[list[str] | None, _columns("Tell the last four characters alone")] = None,
    tell: Annotated[list[str] | None, _columns("Tell its values, though its name is sensitive")] = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="TABLE=TYPE", help="The type of resource that its rows are; repeatable.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Rows of one statement that are told one by one; above it, one summary."),
    ] = None,
    auditor: AuditorPath = None,
    only_sql: OnlySql = False,
) -> None:
    """Make the triggers, or let them follow what has changed. May be repeated."""
    with _opened(context, url, auditor) as (triggers, record):
        everything = everything or (not tables and triggers.known is not None)
        left_out = triggers.left_out() if everything else []
        chosen = triggers.chosen(_several(tables, everything), everything=everything, leave_out=leave_out or ())
        script = triggers.install_sql(
            chosen,
            limit=limit,
            names=dict(map(_pair, resource or ())),
            columns={
                "exclude": exclude_column or (), "replace": redact or (), "mask": mask or (), "tell": tell or (),
            },
        ) + triggers.drop_sql(left_out)  # fmt: skip
        if only_sql:
            say_exactly(script)
            return
        found = list(triggers.check(triggers.with_triggers()))
        triggers.run(script)
        record("installed", chosen, found)
        if left_out:
            record("dropped", left_out, [])
        _say_installed(triggers, chosen, left_out)


def _say_installed(triggers: Triggers, chosen: Iterable[Table], left_out: Iterable[Table]) -> None:
    for table in chosen:
        say(f"told    {table.schema}.{table.name}")
    for table in left_out:
        say(f"dropped {table.schema}.{table.name}")
    if triggers.known is None:
        note(
            "The rules of your classes and of the trail's redactor are not known here: give --auditor MODULE:NAME, "
            "or repeat each with --exclude-column, --mask, --redact and --except."
        )
    for sentence in (*triggers.told_twice({(t.schema, t.name) for t in chosen}), *triggers.unhashed(chosen)):
        note(sentence)


@app.command()
def check(
    context: typer.Context,
    *,
    url: Url = None,
    tables: Tables = None,
    leave_out: Except = None,
    auditor: AuditorPath = None,
) -> None:
    """Say where the triggers are not what they were. Exit code 1 then; and say which tables never had any."""
    with _opened(context, url, auditor) as (triggers, _):
        excepted = triggers.chosen(leave_out or ())
        named = triggers.chosen(tables) if tables else triggers.expected()
        chosen = [table for table in named if table not in excepted]
        found, untold = list(triggers.check(chosen)), triggers.untold(chosen)
        found += triggers.told_twice(triggers.covered().intersection((t.schema, t.name) for t in chosen))
    for table in untold:
        say(f"{table.schema}.{table.name} has no triggers: its changes are told by the ORM's hooks alone.")
    for sentence in found:
        say(sentence, "red")
    if found:
        raise typer.Exit(1)
    number = len(chosen) - len(untold)
    those = {0: "No table has triggers.", 1: "The triggers of 1 table are as they were installed."}
    say(those.get(number, f"The triggers of {number} tables are as they were installed."), "green" if number else "")


@app.command()
def drop(
    context: typer.Context,
    *,
    url: Url = None,
    tables: Tables = None,
    everything: All = False,
    only_sql: OnlySql = False,
) -> None:
    """Remove the triggers, and with --all everything of theirs."""
    with _opened(context, url) as (triggers, record):
        names = _several(tables, everything)
        chosen = triggers.with_triggers() if everything else triggers.chosen(names)
        script = triggers.drop_sql(None if everything else chosen)
        if only_sql:
            say_exactly(script)
            return
        found = list(triggers.check(triggers.with_triggers()))
        triggers.run(script)
        record("dropped", chosen, found)


@contextmanager
def _opened(context: typer.Context, url: str | None, auditor: str | None = None) -> Iterator[tuple[Triggers, _Record]]:
    """In one transaction, with what records in it what was done. Raises ConfigurationError if it is no PostgreSQL."""
    chosen, known = chosen_url(context, url), context.obj.known
    if auditor is not None:
        found = load_auditor(auditor)
        from audit_core.orm.sqlalchemy import known_of

        known = known_of(found)
    if not chosen.startswith(("postgresql:", "postgres:")):
        raise ConfigurationError("Triggers are for PostgreSQL: give a URL like postgresql://host/database.")
    database = PostgresDatabase(chosen)
    try:
        with database.transaction() as connection:
            yield Triggers(connection, database.schema, known=known), partial(_record, database, connection)
    finally:
        database.close()


def _record(
    database: PostgresDatabase, connection: Any, change: str, tables: Iterable[Table], found: Sequence[str]
) -> None:
    """Beside the change itself, so that neither is without the other: when triggers were off, and who saw to it."""
    names = [f"{table.schema}.{table.name}" for table in tables]
    details = {"change": change, "tables": names, "found": list(found)}
    context = AuditContext(actor=Actor(account(), ActorType.ADMIN.value))
    event = compose("trail.triggers", None, Outcome.SUCCESS, details, context=context, source=None, redactor=Redactor())
    PostgresOutbox(database).put([event], connection)


def _several(tables: Sequence[str] | None, everything: bool) -> Sequence[str]:  # noqa: FBT001 - one of two options
    if bool(tables) == everything:
        raise ConfigurationError("Say for which tables: --tables NAME, once for each, or --all.")
    return tables or ()


def _pair(text: str) -> tuple[str, str]:
    table, sign, resource_type = text.partition("=")
    if not (table and sign and resource_type):
        raise ConfigurationError(f"--resource is TABLE=TYPE, not {text!r}.")
    return table, resource_type
