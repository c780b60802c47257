"""``audit archive`` and ``audit purge``: old months out of the trail, and destroyed after their retention."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from audit_core.archives.places import open_place
from audit_core.cli.keys import may_state
from audit_core.cli.place import Anchors, Archives, Url, open_trail
from audit_core.cli.proofs import write_proof
from audit_core.cli.report import moment
from audit_core.cli.terminal import note, progress_bar, say
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.verify import Result
from audit_core.retention.archiving import Archiver, Held
from audit_core.retention.months import checked_month
from audit_core.retention.policies import Retention, Stays
from audit_core.retention.purging import Locked, Purger, Remains
from audit_core.trail import AuditTrail

Keep = Annotated[
    str | None,
    typer.Option(
        "--keep", envvar="AUDIT_RETENTION", show_envvar=True, metavar="POLICIES",
        help="How long events are kept: hipaa (6 years), pci (1 year, 3 months at hand), sox (7 years), or your own, "
        "10y or 12m/3m; with what it is about, tag:cards=pci; several with commas.",
    ),
]  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(archive)
    app.command()(purge)


def archive(
    context: typer.Context,
    *,
    url: Url = None,
    before: Annotated[
        datetime, typer.Option(metavar="DATE", parser=moment, help="Every whole month before this day goes.")
    ],
    to: Annotated[str, typer.Option(metavar="URL", help="s3://bucket/prefix with Object Lock, or file:///folder.")],
    keep: Keep = None,
    anchor: Anchors = None,
) -> None:
    """Move old months out of the trail. It can prove them as before. Run it again if it was interrupted."""
    now, place = datetime.now(UTC), open_place(to)
    month, retention = checked_month(before, now), Retention.parse(keep, now) if keep else None
    with open_trail(context, url) as trail:
        may_state(trail, "archive")
        _check(trail, anchor)
        archived = 0
        for found in Archiver(trail.chain, place, trail.event, retention).run(month):
            if isinstance(found, Held):
                hold = found.hold
                note(f"{found.month} stays: the {hold.kind} {hold.name} is held ({hold.reason}).", "yellow")
                continue
            if isinstance(found, Stays):
                note(f"{found} at hand.", "yellow")
                continue
            archived += found.events
            say(f"{found.month}  {count_of(found.events):>16}  {found.size:>12,} bytes  {found.object}")
    if not archived:
        note(f"There is nothing to archive before {month}.")


def purge(
    context: typer.Context,
    *,
    url: Url = None,
    keep: Keep = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the trail.")],
    archive: Archives = None,
    certificates: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where a certificate of each month goes: a proof, as of `audit prove`."),
    ] = None,
) -> None:  # fmt: skip
    """Destroy archived months whose retention is over. Run it again if it was interrupted."""
    if not keep:
        raise ConfigurationError(
            "How long are events kept? Say it with --keep, or AUDIT_RETENTION: hipaa, say, or 10y."
        )
    retention, purged = Retention.parse(keep, datetime.now(UTC)), 0
    with open_trail(context, url, archives=archive or ()) as trail:
        may_state(trail, "purge")
        for rule in retention.unused(trail.store):
            note(f"The policy {rule.text} is about no event that is still in the trail: is it misspelt?", "yellow")
        for found in Purger(trail.chain, trail.event, retention).run(reason):
            if isinstance(found, Held):
                note(f"{found.month} stays: the {found.hold.kind} {found.hold.name} is held.", "yellow")
            elif isinstance(found, Stays):
                note(f"{found}.", "yellow")
            elif isinstance(found, Remains):
                note(f"{found.month}: {found.why.rstrip('.')}.", "yellow")
            elif isinstance(found, Locked):
                note(f"{found.month} stays: it is locked until {found.until:%Y-%m-%d}.", "yellow")
            else:
                one, sequence = found
                purged += 1
                say(f"{one.month}  {count_of(one.events):>16}  purged by event {sequence:,}")
                if certificates is not None:
                    certificates.mkdir(parents=True, exist_ok=True)
                    write_proof(trail.prove(sequence), certificates / f"purged-{one.month}-{sequence}.json")
    if not purged:
        note("There is nothing to purge.")


def _check(trail: AuditTrail, anchors: list[str] | None) -> None:
    """What was tampered with is not archived as if it were whole."""
    with progress_bar("Verifying") as progress:
        found = trail.verify(progress=progress, anchors=anchors)
    if found.result is Result.FAILED:
        raise IntegrityError("The trail is not what was recorded, so nothing is archived: run `audit verify`.")
