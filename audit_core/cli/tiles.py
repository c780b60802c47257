"""``audit export --tiles``: all of the trail, for other people's tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit_core.cli.terminal import note, progress_bar, say
from audit_core.cli.words import count_of
from audit_core.evidence.tiles import export_tiles
from audit_core.noting import not_recorded
from audit_core.trail import AuditTrail

Tiles = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="All of the trail, as a folder of C2SP tiles for other tools; run again, it adds what is new.",
    ),
]


def write_tiles(trail: AuditTrail, folder: Path) -> None:
    """Export to ``folder``, and say how much there is now. That the trail was read is in what is written."""
    if why := trail.note_reading("trail.read", {"exported": "tiles"}):
        note(not_recorded(why), "yellow")
    with progress_bar("Exporting") as progress:
        done = export_tiles(trail.chain, folder, progress)
    new = f"{done.size - done.before:,} of them new"
    if done.lacking:
        note(
            f"{count_of(done.lacking, 'bundle')} of entries left out: events in them were purged, and only hashes are "
            f"left. From sequence {done.whole_from:,} on every entry is there.",
            "yellow",
        )
    say(f"{count_of(done.size)} in {folder}, {new}. Whoever gets them needs the verifier key by another way.")
