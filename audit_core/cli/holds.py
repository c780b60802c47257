"""``audit hold``: what must be kept, whatever its retention says."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from audit_core.cli.keys import may_state
from audit_core.cli.place import AsJson, Url, open_trail
from audit_core.cli.terminal import note, say, say_json
from audit_core.compose import split_resource
from audit_core.errors import AuditError, ConfigurationError
from audit_core.integrity.retention import Hold
from audit_core.integrity.statement import HELD, LIFTED
from audit_core.query import EventQuery
from audit_core.recorded_ids import LACKS_KEY
from audit_core.retention import holds
from audit_core.trail import AuditTrail

app = typer.Typer(
    no_args_is_help=True,
    help="Legal holds: what must stay, whatever its age.\n\nNo archive, purge or erasure touches it.",
)
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the trail.")]


class Kind(StrEnum):
    """What is held."""

    ACTOR = "actor"
    RESOURCE = "resource"
    TENANT = "tenant"


@app.command()
def add(
    context: typer.Context,
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="What is held: an actor, a resource, or all of a tenant.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="An id; a resource as patient:42, or patient for all.")],
    *,
    url: Url = None,
    reason: Reason,
) -> None:
    """Hold an actor, a resource or a tenant, by a signed event."""
    with open_trail(context, url) as trail:
        may_state(trail, "hold add")
        names = _resource_names(trail, name) if kind is Kind.RESOURCE else [name]
        with trail.store.transaction(patient=True) as connection:
            numbers = [
                holds.add(trail.chain, (kind.value, one), reason, trail.event(HELD), connection) for one in names
            ]
        unknown = [
            hold for hold in holds.holds(trail.chain) if hold.sequence in numbers and not _has_events(trail, hold)
        ]
    for number, one in zip(numbers, names, strict=True):
        say(f"Hold {number}: {kind.value} {one}.")
    for hold in unknown:
        note(f"No event is about the {hold.kind} {hold.name} so far: is it misspelt?", "yellow")


def _has_events(trail: AuditTrail, hold: Hold) -> bool:
    """Archived ones are not looked for where an archive cannot be had: then nothing is said."""
    try:
        return any(any(trail.select(query)) for query in holds.queries_of(hold))
    except AuditError:
        return True


def _resource_names(trail: AuditTrail, name: str) -> list[str]:
    """As events have it. A secret goes into no statement, unless events have it as it is."""
    kind, identifier = split_resource(name)
    if not kind or identifier is None:
        return [name]
    ids = trail.recorded_ids(kind, identifier)
    if not ids.is_secret:
        return [name]
    if ids.lacks_key:
        raise ConfigurationError(f"Nothing is held: {LACKS_KEY.format(kind)}.")
    plain, hashed = ids.any_of
    is_plain = any(True for _ in trail.select(EventQuery(resource_type=kind, resource_id=plain)))
    return [f"{kind}:{one}" for one in ((plain, hashed) if is_plain else (hashed,))]


@app.command()
def lift(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Of the hold: `audit hold list` shows it.")],
    *,
    url: Url = None,
    reason: Reason,
) -> None:
    """Lift a hold, by a signed event."""
    with open_trail(context, url) as trail:
        may_state(trail, "hold lift")
        with trail.store.transaction(patient=True) as connection:
            holds.lift(trail.chain, number, reason, trail.event(LIFTED), connection)
    say(f"Hold {number} is lifted.")


@app.command("list")
def list_holds(context: typer.Context, *, url: Url = None, as_json: AsJson = False) -> None:
    """Show the holds that were not lifted."""
    with open_trail(context, url) as trail:
        found = holds.holds(trail.chain)
    if as_json:
        say_json([hold._asdict() for hold in found])
        return
    for hold in found:
        say(f"{hold.sequence:>8}  {hold.kind:<8}  {hold.name}  ({hold.reason})")
    if not found:
        note("Nothing is held.")
