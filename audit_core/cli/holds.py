"""``audit hold``: what must be kept, whatever its retention says."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from audit_core.cli.keys import may_state
from audit_core.cli.place import AsJson, Url, open_trail
from audit_core.cli.terminal import note, say, say_json
from audit_core.integrity.statement import HELD, LIFTED
from audit_core.retention import holds

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
        with trail.store.transaction(patient=True) as connection:
            number = holds.add(trail.chain, (kind.value, name), reason, trail.event(HELD), connection)
    say(f"Hold {number}: {kind.value} {name}.")


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
