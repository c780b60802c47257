"""``audit erase``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_core.chain.erasing import NO_VALUES, Erasing
from audit_core.cli.place import Url, note_queues, open_trail
from audit_core.cli.proofs import document_of, write_document
from audit_core.cli.terminal import note, say
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.reports.text import safe_json
from audit_core.trail import AuditTrail

CERTIFICATE = "audit-core erasure v1"
NO_RIGHT = (
    "This user may not erase what the trail keeps of people: run `audit erase` as one who has the role audit_eraser, "
    "which `audit init --roles` makes."
)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(erase)


def erase(
    context: typer.Context,
    *,
    url: Url = None,
    actor: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Whose addresses, user agents, and details of what was about no one resource."),
    ] = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="RESOURCE", help="Whose details: patient:42; repeatable.")
    ] = None,
    basis: Annotated[str, typer.Option(metavar="TEXT", help="Why, in law. It stands in the trail: name nobody.")],
    approved_by: Annotated[str, typer.Option(metavar="TEXT", help="Who has decided it; it stands in the trail.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the certificate.")],
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="SQLite: write the file anew, which others have to wait for.")
    ] = False,
) -> None:
    """Erase personal values that are kept apart.

    They lie outside of the records (docs/erasure.md). A signed event says so, and a certificate shows it.
    """
    if actor is None and not resource:
        raise typer.BadParameter("say whose: --actor ID, or --resource patient:42, or both")
    if out.exists():  # before anything is gone
        raise ConfigurationError(f"The file {out} is there already, and is not overwritten: give another name.")
    if not out.parent.is_dir():
        raise ConfigurationError(f"There is no folder {out.parent} for the certificate: make it, or give another name.")
    with open_trail(context, url) as trail:
        _require_right(trail)
        note_queues(trail)
        done = trail.erase(actor=actor, resources=resource or (), basis=basis, approved_by=approved_by)
        if done.statements:
            write_document(safe_json(json.dumps(_certificate(trail, done), indent=2)) + "\n", out)
        _say(trail, done, out, vacuum=vacuum)
        for name in () if done.statements else _unknown(trail, actor, resource or ()):
            note(f"No event is about {name}: is it misspelt?", "yellow")


def _unknown(trail: AuditTrail, actor: str | None, resources: Iterable[str]) -> Iterator[str]:
    """The names that no event has."""
    if actor is not None and not any(trail.events(actor=actor)):
        yield f"the actor {actor}"
    yield from (f"the resource {one}" for one in resources if not any(trail.events(resource=one)))


def _require_right(trail: AuditTrail) -> None:
    trail.store.extent()  # there is a trail
    values = trail.store.values
    if values is None or not values.is_created():
        raise ConfigurationError(NO_VALUES)
    if not values.may_erase():
        raise StoreUnavailableError(NO_RIGHT)


def _certificate(trail: AuditTrail, done: Erasing) -> dict[str, Any]:
    """What was erased, and that the trail says so: each statement with its proof."""
    return {
        "certificate": CERTIFICATE,
        "origin": trail.chain.origin,
        "basis": done.basis,
        "approved_by": done.approved_by,
        "values": done.values,
        "erased": done.erased,
        "reasons": [
            {"statement": sequence, "basis": basis, "approved_by": approved_by}
            for sequence, (basis, approved_by) in zip(done.statements, done.reasons, strict=True)
        ],
        "statements": [document_of(trail.prove(sequence)) for sequence in done.statements],
    }


def _said(done: Erasing) -> str:
    if done.before:
        events = ", ".join(f"{sequence:,}" for sequence in done.statements)
        return (
            f"Nothing is left of that: it was erased before, by event {events}, and nothing was erased now. The basis "
            "and the approval that were given now are not recorded: the certificate has those of then."
        )
    spans = {n for ranges in done.erased.values() for first, last in ranges for n in range(first, last + 1)}
    return f"{count_of(done.values, 'value')} of {count_of(len(spans))} erased, with their salts."


def _say(trail: AuditTrail, done: Erasing, out: Path, *, vacuum: bool) -> None:
    if not done.statements:
        say("Nothing is kept of that outside of the records: nothing was erased, and no event says so.", "yellow")
    else:
        say(_said(done))
        say(f"certificate   {out}")
    if vacuum and trail.store.values is not None and trail.store.values.forget():
        note("The file was written anew: it holds nothing of them any more.")
    elif trail.store.name == "sqlite":
        note("Pages of the file may hold traces until it is written anew: `audit erase --vacuum`, or VACUUM.", "yellow")
    elif trail.store.name == "postgresql":
        note("Dead rows hold them until the owner runs VACUUM on audit_private and audit_outbox.", "yellow")
    note("Backups, replicas, WAL archives and exported copies still have them: see docs/erasure.md.")
    if not trail.store.may_append() or next(trail.waiting(), None) is not None:
        note("What still waits to be sealed was not looked at: erase again once it is.", "yellow")
