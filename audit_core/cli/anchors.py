"""``audit anchor``, and what anchors hold in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from audit_core.canonical import format_timestamp, parse_timestamp
from audit_core.chain.known import Answer
from audit_core.cli.place import Anchors, Url, open_trail, refuse_of_one
from audit_core.cli.terminal import say
from audit_core.cli.words import count_of
from audit_core.errors import ConfigurationError


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(anchor)


def anchor(context: typer.Context, *, url: Url = None, anchor: Anchors = None) -> None:
    """Give each anchor the newest checkpoint, once. Exit code 2 where one does not take it."""
    if context.obj.is_about_several:
        refuse_of_one(anchor=anchor)
        from audit_core.cli.roof import anchor_trails
        from audit_core.cli.trails import open_trails

        with open_trails(context) as (trails, _):
            raise typer.Exit(anchor_trails(trails))
    with open_trail(context, url, anchors=anchor or ()) as trail:
        if not trail.anchoring.anchors:
            raise ConfigurationError("Which anchor? Give its URL with --anchor, or set AUDIT_ANCHORS.")
        if trail.chain.checkpoint_note() is None:
            raise ConfigurationError("The trail has no checkpoint yet: run `audit init`.")
        states = trail.anchor_now()
    for state in states:
        if state.trouble is None:
            say(f"{count_of(state.size)} are anchored: {state.name}.")
    if any(state.trouble for state in states):
        raise typer.Exit(2)  # each was told when it happened


def holding(answer: Answer) -> dict[str, Any]:
    """What an anchor says, for JSON: its largest checkpoint, and since when it has that."""
    newest = max(answer.kept, key=lambda kept: kept.size, default=None)
    trouble = answer.trouble or "; ".join(map(str, answer.findings)) or None
    kept_at = newest.kept_at if newest else None
    return {
        "name": answer.where,
        "size": newest.size if newest else 0,
        "kept_at": format_timestamp(kept_at) if kept_at else None,
        "trouble": trouble,
    }


def in_words(held: Mapping[str, Any]) -> str:
    """The same in a line."""
    if held["trouble"] and not held["size"]:
        return f"{held['name']}: {held['trouble']}"
    text = f"{held['name']}: {count_of(held['size'])}"
    if held["kept_at"]:
        age = datetime.now(UTC) - parse_timestamp(held["kept_at"])
        text += f", for {timedelta(seconds=max(0, int(age.total_seconds())))}"
    return f"{text}; {held['trouble']}" if held["trouble"] else text
