"""``audit acknowledge-restore``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Annotated

import typer

from audit_core.chain.known import Answer, Kept
from audit_core.chain.seen import BEFORE
from audit_core.chain.statements import acknowledge, find_lost
from audit_core.cli.keys import Reason, may_state
from audit_core.cli.memory import recall, usual_place
from audit_core.cli.place import Anchors, Url, open_trail
from audit_core.cli.terminal import note, say
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.integrity.note import Signer
from audit_core.integrity.statement import RESTORED
from audit_core.key_files import find_key
from audit_core.trail import AuditTrail


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(acknowledge_restore)


def acknowledge_restore(
    context: typer.Context,
    *,
    url: Url = None,
    anchor: Anchors = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `audit verify --state` remembers, besides anchors.")
    ] = None,
    newer_key: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A key that replaced the present one after the backup was made; repeatable."),
    ] = None,
    reason: Reason,
) -> None:
    """Say that a backup was put back. The trail then names the events that it lacks, and is sealed again."""
    with open_trail(context, url) as trail:
        may_state(trail, "acknowledge-restore")
        answers = [*trail.anchoring.ask(anchor), *_remembered(state or usual_place(trail.url))]
        for answer in answers:
            if answer.trouble:
                note(f"{answer.where} could not be asked, and what it knows is not acknowledged: {answer.trouble}")
        held = [*trail.signing_key.held(), *map(_read_signer, newer_key or ())]
        lost = find_lost(trail.chain, answers, held, replaced=True)
        if not lost.trees:
            raise ConfigurationError(
                "Nobody who was asked knows of events that this trail has not: there is nothing to acknowledge. Name "
                "its anchors with --anchor, or what was verified with --state."
            )
        with trail.store.transaction(patient=True) as connection:
            acknowledge(trail.chain, lost, _events(trail), connection, reason=reason, held=held)
    say(f"{count_of(lost.events)} from sequence {lost.first:,} on are lost, and the trail says so in each verdict.")
    note(f"{count_of(len(lost.trees), 'checkpoint')} left behind. Running processes seal again within a minute.")
    if any(answer.seen for answer in answers):
        note("A witness refuses this trail for ever: name another one, or none.", "yellow")


def _read_signer(path: Path) -> Signer:
    if (signer := find_key(path)) is None:
        raise ConfigurationError(f"There is no signing key in {path}.")
    return signer


def _remembered(path: Path) -> Iterator[Answer]:
    if (seen := recall(path)) is not None:
        yield Answer(BEFORE, [Kept(seen.note)])


def _events(trail: AuditTrail) -> Iterator[AuditEvent]:
    return (trail.event(RESTORED) for _ in repeat(None))
