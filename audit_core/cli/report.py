"""``audit report``."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from audit_core.cli.place import Url
from audit_core.cli.terminal import console, note
from audit_core.cli.trails import open_all
from audit_core.reports import AuditReporter, write_csv, write_json, write_page, write_table
from audit_core.reports.render import AnyReport

app = typer.Typer(
    name="report", help="Who looked at or changed what, and who was refused.", no_args_is_help=True,
    rich_markup_mode=None, add_completion=False,
)  # fmt: skip


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class SubjectFormat(StrEnum):
    """How a report about a person is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    HTML = "html"


def moment(text: str) -> datetime:
    """A time as it is typed; a day is meant from its beginning."""
    return _moment(text, days=0)


def _until(text: str) -> datetime:
    """A day is meant with all its hours."""
    return _moment(text, days=1)


def _moment(text: str, days: int) -> datetime:
    try:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=days)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too late") from None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 date or time, like 2026-01-31 or 2026-01-31T12:00Z"
        ) from None


Since = Annotated[
    datetime | None, typer.Option(parser=moment, metavar="DATE", help="From this day or time on (UTC, ISO 8601).")
]
Until = Annotated[
    datetime | None, typer.Option(parser=_until, metavar="DATE", help="To the end of this day, or before this time.")
]
As = Annotated[Format, typer.Option("--format", help="How to write it.")]


@app.command()
def access(
    context: typer.Context,
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="patient:42, or patient for all of them.")],
    identifier: Annotated[str | None, typer.Argument(metavar="ID", help="The id, if it is not in RESOURCE.")] = None,
    *,
    url: Url = None,
    since: Since = None,
    until: Until = None,
    as_: As = Format.TABLE,
) -> None:
    """Who looked at or changed a resource."""
    kind, name = resource, identifier
    if identifier is None:
        kind, colon, rest = resource.partition(":")
        name = rest if colon else None
    if not kind.strip():
        raise typer.BadParameter("RESOURCE is empty: say patient:42, or patient for all of them")
    with open_all(context, url) as trail:
        write(AuditReporter(trail).access_report(kind, name, since, until), as_)


@app.command()
def privileged(
    context: typer.Context, *, url: Url = None, since: Since = None, until: Until = None, as_: As = Format.TABLE
) -> None:
    """All actions of administrators."""
    with open_all(context, url) as trail:
        write(AuditReporter(trail).privileged_action_report(since, until), as_)


@app.command()
def failures(
    context: typer.Context,
    *,
    url: Url = None,
    since: Since = None,
    until: Until = None,
    as_: As = Format.TABLE,
    min_failures: Annotated[int, typer.Option("--min", metavar="N", min=1, help="Who has fewer is left out.")] = 5,
) -> None:
    """Repeated failures by actor, by account and by address."""
    with open_all(context, url) as trail:
        write(AuditReporter(trail).failed_access_report(since, until, min_failures), as_)


@app.command()
def subject(
    context: typer.Context,
    *,
    url: Url = None,
    actor: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="The person as whoever acts; repeatable.")
    ] = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="TYPE:ID", help="What is about the person: patient:42; repeatable.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Of this tenant, where ids repeat.")] = None,
    since: Since = None,
    until: Until = None,
    as_: Annotated[SubjectFormat, typer.Option("--format", help="How to write it.")] = SubjectFormat.TABLE,
    open_type: Annotated[
        list[str] | None,
        typer.Option(
            "--open", metavar="TYPE", help="Resources of this type hold nothing of others: show all; repeatable."
        ),
    ] = None,
    detail: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="This detail (reason, say) holds nothing of others: show it; repeatable."),
    ] = None,
    hide_names: Annotated[bool, typer.Option("--hide-names", help="Call those who looked person 1, person 2.")] = False,
) -> None:
    """Everything about one person (GDPR Article 15). It is for that person: what is of others is withheld."""
    with open_all(context, url) as trail:
        try:
            report = AuditReporter(trail).subject_report(
                actors=actor or (), resources=resource or (), start=since, end=until, tenant=tenant,
                open_types=open_type or (), open_details=detail or (), hide_names=hide_names,
            )  # fmt: skip
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if as_ is SubjectFormat.HTML:
            write_page(report, sys.stdout)
        else:
            write(report, Format(as_.value))


def write(report: AnyReport, format_: Format) -> None:
    """Rows on stdout; what a CSV has no place for goes to stderr."""
    if format_ is Format.TABLE:
        write_table(report, console(sys.stdout))
    elif format_ is Format.JSON:
        write_json(report, sys.stdout)
    else:
        write_csv(report, sys.stdout)
        for line in [*report.coverage.sentences(), *map(str, report.statements), *report.limits]:
            note(line)
