"""``audit archive``: old months out of the trail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from audit_core.archives.places import open_place
from audit_core.cli.keys import may_state
from audit_core.cli.place import Anchors, Url, open_trail
from audit_core.cli.report import moment
from audit_core.cli.terminal import note, progress_bar, say
from audit_core.cli.words import count_of
from audit_core.errors import IntegrityError
from audit_core.integrity.verify import Result
from audit_core.retention.archiving import Archiver, Held
from audit_core.retention.months import checked_month
from audit_core.trail import AuditTrail


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(archive)


def archive(
    context: typer.Context,
    *,
    url: Url = None,
    before: Annotated[
        datetime, typer.Option(metavar="DATE", parser=moment, help="Every whole month before this day goes.")
    ],
    to: Annotated[str, typer.Option(metavar="URL", help="s3://bucket/prefix with Object Lock, or file:///folder.")],
    anchor: Anchors = None,
) -> None:
    """Move old months out of the trail, which can prove them as before. Run it again if it was interrupted."""
    month, place = checked_month(before, datetime.now(UTC)), open_place(to)
    with open_trail(context, url) as trail:
        may_state(trail, "archive")
        _check(trail, anchor)
        archived = 0
        for found in Archiver(trail.chain, place, trail.event).run(month):
            if isinstance(found, Held):
                hold = found.hold
                note(f"{found.month} stays: the {hold.kind} {hold.name} is held ({hold.reason}).", "yellow")
                continue
            archived += found.events
            say(f"{found.month}  {count_of(found.events):>16}  {found.size:>12,} bytes  {found.object}")
    if not archived:
        note(f"There is nothing to archive before {month}.")


def _check(trail: AuditTrail, anchors: list[str] | None) -> None:
    """What was tampered with is not archived as if it were whole."""
    with progress_bar("Verifying") as progress:
        found = trail.verify(progress=progress, anchors=anchors)
    if found.result is Result.FAILED:
        raise IntegrityError("The trail is not what was recorded, so nothing is archived: run `audit verify`.")
