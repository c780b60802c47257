"""``audit export``: the trail for somebody who does not have its database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit_core.cli.place import Url, open_trail
from audit_core.cli.terminal import note, progress_bar, say
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError
from audit_core.evidence.tiles import export_tiles
from audit_core.reports.reading import NOT_RECORDED
from audit_core.trail import AuditTrail

Tiles = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write all of it to a folder as C2SP tiles, or what came since to the same one."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)


def export(context: typer.Context, *, url: Url = None, tiles: Tiles = None) -> None:
    """Write the trail for somebody without its database, who checks it with the verifier key."""
    if tiles is None:
        raise ConfigurationError("Export what? Give --tiles DIR.")
    with open_trail(context, url) as trail:
        _export_tiles(trail, tiles)


def _export_tiles(trail: AuditTrail, folder: Path) -> None:
    if not trail.note_reading("trail.read", {"exported": "tiles"}):
        note(NOT_RECORDED, "yellow")
    with progress_bar("Exporting") as progress:
        done = export_tiles(trail.chain, folder, progress)
    say(f"{count_of(done.size)} in {folder}, {done.size - done.before:,} of them new. Whoever gets them needs the "
        "verifier key by another way.")  # fmt: skip
