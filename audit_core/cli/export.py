"""``audit export``: the trail for somebody who does not have its database."""

from __future__ import annotations

import typer

from audit_core.cli.place import Url, open_trail
from audit_core.cli.tiles import Tiles, write_tiles
from audit_core.errors import ConfigurationError


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)


def export(context: typer.Context, *, url: Url = None, tiles: Tiles = None) -> None:
    """Export evidence that others can check without the database."""
    if tiles is None:
        raise ConfigurationError("Export to what? Name a folder: --tiles DIR.")
    with open_trail(context, url) as trail:
        write_tiles(trail, tiles)
