"""``audit triggers``: changes told by the database itself (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from audit_core.cli.place import Url, chosen_url
from audit_core.cli.terminal import note, say, say_exactly
from audit_core.errors import ConfigurationError
from audit_core.postgres import PostgresDatabase
from audit_core.triggers import Triggers

app = typer.Typer(no_args_is_help=True, help="Triggers that tell of changes, whoever makes them (PostgreSQL).")

Tables = Annotated[
    list[str] | None, typer.Option("--tables", metavar="TABLE", help="A table, as name or schema.name; repeatable.")
]
All = Annotated[bool, typer.Option("--all", help="All tables of the application, but for association tables.")]
Except = Annotated[list[str] | None, typer.Option("--except", metavar="TABLE", help="Not this one; repeatable.")]
OnlySql = Annotated[bool, typer.Option("--sql", help="Print the SQL, and run nothing.")]
Columns = Annotated[list[str] | None, typer.Option(metavar="TABLE.COLUMN")]


@app.command()
def install(
    context: typer.Context,
    *,
    url: Url = None,
    tables: Tables = None,
    everything: All = False,
    leave_out: Except = None,
    exclude_column: Columns = None,
    redact: Columns = None,
    mask: Columns = None,
    tell: Columns = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="TABLE=TYPE", help="The resource type that it has elsewhere.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="Rows of one statement that are told one by one.")] = None,
    only_sql: OnlySql = False,
) -> None:
    """Make the triggers, or make them follow what has changed; may be repeated."""
    with _opened(context, url) as triggers:
        everything = everything or (not tables and triggers.known is not None)
        chosen = triggers.chosen(_several(tables, everything), everything=everything, leave_out=leave_out or ())
        script = triggers.install_sql(
            chosen,
            limit=limit,
            names=dict(map(_pair, resource or ())),
            columns={
                "exclude": exclude_column or (), "replace": redact or (), "mask": mask or (), "tell": tell or (),
            },
        )  # fmt: skip
        if only_sql:
            say_exactly(script)
            return
        triggers.run(script)
        for table in chosen:
            say(f"told    {table.schema}.{table.name}")
        for sentence in triggers.unhashed(chosen):
            note(sentence)


@app.command()
def check(context: typer.Context, *, url: Url = None, tables: Tables = None, leave_out: Except = None) -> None:
    """Say where the triggers are not what they were, and which tables have none; exit code 1 then."""
    with _opened(context, url) as triggers:
        chosen = triggers.chosen(tables or (), everything=not tables, leave_out=leave_out or ())
        found = list(triggers.check(chosen))
        for sentence in found:
            say(sentence, "red")
    if found:
        raise typer.Exit(1)
    say(f"The triggers of {len(chosen)} tables are as they were installed.", "green")


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
    with _opened(context, url) as triggers:
        names = _several(tables, everything)
        script = triggers.drop_sql(None if everything else triggers.chosen(names))
        if only_sql:
            say_exactly(script)
        else:
            triggers.run(script)


@contextmanager
def _opened(context: typer.Context, url: str | None) -> Iterator[Triggers]:
    """In one transaction. Raises ConfigurationError for another database than PostgreSQL."""
    chosen = chosen_url(context, url)
    if not chosen.startswith(("postgresql:", "postgres:")):
        raise ConfigurationError("Triggers are for PostgreSQL: give a URL like postgresql://host/database.")
    database = PostgresDatabase(chosen)
    try:
        with database.transaction() as connection:
            yield Triggers(connection, database.schema, known=context.obj.known)
    finally:
        database.close()


def _several(tables: Sequence[str] | None, everything: bool) -> Sequence[str]:  # noqa: FBT001 - one of two options
    if bool(tables) == everything:
        raise ConfigurationError("Say for which tables: --tables NAME, once for each, or --all.")
    return tables or ()


def _pair(text: str) -> tuple[str, str]:
    table, sign, resource_type = text.partition("=")
    if not (table and sign and resource_type):
        raise ConfigurationError(f"--resource is TABLE=TYPE, not {text!r}.")
    return table, resource_type
