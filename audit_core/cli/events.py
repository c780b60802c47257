"""``audit events`` and ``audit show``: what happened last, and one event in full."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from audit_core.canonical import format_timestamp
from audit_core.chain.purged import purge_of
from audit_core.cli.place import Url, open_trail
from audit_core.cli.report import As, Format, Since, Until, write
from audit_core.cli.terminal import note, say_json
from audit_core.cli.trails import open_all
from audit_core.compose import split_resource
from audit_core.event import Outcome
from audit_core.noting import not_recorded
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter
from audit_core.reports.reporter import readable


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (events, show):
        app.command()(command)


def events(
    context: typer.Context,
    *,
    url: Url = None,
    actor: Annotated[str | None, typer.Option(metavar="ID", help="Who did it.")] = None,
    resource: Annotated[
        str | None, typer.Option(metavar="RESOURCE", help="patient:42, or patient for all of them.")
    ] = None,
    action: Annotated[str | None, typer.Option(metavar="ACTION", help="What was done: invoice.approve.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="How it ended.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Of this tenant.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="No more than so many.")] = 50,
    as_: As = Format.TABLE,
) -> None:
    """The newest events, newest first."""
    kind, identifier = split_resource(resource)
    if kind is not None and not kind.strip():
        raise typer.BadParameter("--resource is empty: say patient:42, or patient for all of them")
    query = EventQuery(
        actor=actor, resource_type=kind, resource_id=identifier, action=action,
        outcome=outcome and outcome.value, tenant=tenant, since=since, until=until,
    )  # fmt: skip
    with open_all(context, url) as trail:
        write(AuditReporter(trail).newest_events_report(query, limit), as_)


def show(
    context: typer.Context,
    event: Annotated[
        str,
        typer.Argument(metavar="EVENT", help="Its sequence, which `audit events` shows, or its id (--format csv)."),
    ],
    *,
    url: Url = None,
) -> None:
    """Show one event in full, as JSON. It says whether the event is sealed."""
    with open_trail(context, url) as trail:
        wanted = int(event) if event.isascii() and event.isdecimal() else event
        found = trail.find(wanted)
        if found is None and (gone := purge_of(trail.store, wanted)):
            raise LookupError(f"The event {event} is not there any more: {gone}; only its hash is left.")
        if found is None:
            raise LookupError(
                f"There is no event {event}: `audit events` shows sequences, and with --format csv event ids."
            )
        if why := trail.note_reading("trail.read", {"event": event}):
            note(not_recorded(why), "yellow")
        shown = asdict(readable(found))
        del shown["salts"]
        say_json({**shown, "timestamp": format_timestamp(found.timestamp), "sealed": found.sealed})
