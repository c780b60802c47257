"""``audit export`` and ``audit check-bundle``: evidence for somebody without the database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audit_core.cli.bundles import as_json, limits, said_of_ranges, summary, verdict
from audit_core.cli.place import Anchors, AsJson, Url, open_trail, read_checkpoint, read_key
from audit_core.cli.report import Since, Until
from audit_core.cli.terminal import note, progress_bar, say, say_json
from audit_core.cli.tiles import Tiles, write_tiles
from audit_core.cli.words import count_of
from audit_core.compose import split_resource
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence.bundle import Written, write_bundle
from audit_core.evidence.check import check_bundle
from audit_core.evidence.checked import CheckedBundle, Verdict
from audit_core.evidence.selection import Selection
from audit_core.noting import not_recorded
from audit_core.query import EventQuery
from audit_core.recorded_ids import LACKS_KEY, RecordedIds
from audit_core.trail import AuditTrail

EXIT_CODES = {Verdict.OK: 0, Verdict.FAILED: 1, Verdict.UNTRUSTED: 3}
Checkpoints = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="A signed checkpoint that was kept elsewhere; repeatable.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(export)
    app.command("check-bundle")(check_a_bundle)


def export(
    context: typer.Context,
    *,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Events, their proofs and a page that checks them, as a new ZIP file."),
    ] = None,
    tiles: Tiles = None,
    url: Url = None,
    actor: Annotated[str | None, typer.Option(metavar="ID", help="Who did it.")] = None,
    resource: Annotated[
        str | None, typer.Option(metavar="RESOURCE", help="patient:42, or patient for all of them.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="Of this tenant.")] = None,
    since: Since = None,
    until: Until = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Instead of a choice: so many events of the whole trail, drawn by --seed."
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --sample: any text, which the auditor chooses.")
    ] = None,
    checkpoint: Checkpoints = None,
    anchor: Anchors = None,
) -> None:
    """Export evidence that others can check. As a --bundle or as --tiles; they need no database: docs/evidence.md."""
    if tiles is not None:
        if (bundle, actor, resource, tenant, since, until, sample, seed, checkpoint) != (None,) * 9:
            raise ConfigurationError("--tiles is all of the trail, without the other options of `audit export`.")
        with open_trail(context, url) as trail:
            write_tiles(trail, tiles)
        return
    if bundle is None:
        raise ConfigurationError("Export to what? Name a file: --bundle evidence.zip, or a folder: --tiles DIR.")
    kind, identifier = _of_resource(resource)
    query = EventQuery(
        actor=actor, resource_type=kind, resource_id=identifier, tenant=tenant, since=since, until=until,
        newest_first=False,
    )  # fmt: skip
    selection = Selection(query, sample, seed)
    kept = [read_checkpoint(path) for path in checkpoint or ()]
    with open_trail(context, url, anchors=anchor or ()) as trail, progress_bar("Reading") as progress:
        if kind is not None and identifier is not None:
            identifier = _one_id(trail, trail.recorded_ids(kind, identifier), query)
            selection = replace(selection, query=replace(query, resource_id=identifier))
        written = write_bundle(trail, selection, bundle, checkpoints=kept, progress=progress)
    _say_written(bundle, written)


def _of_resource(resource: str | None) -> tuple[str | None, str | None]:
    kind, identifier = split_resource(resource)
    if kind is not None and not kind.strip():
        raise typer.BadParameter("--resource is empty: say patient:42, or patient for all of them")
    return kind, None if identifier is None else str(identifier)


def _one_id(trail: AuditTrail, ids: RecordedIds, query: EventQuery) -> str:
    """The one that events have: a bundle says which it was asked for, and can say only one."""
    if not ids.is_secret:
        return ids.any_of[0]
    about = (replace(query, resource_type=ids.resource_type, resource_id=one) for one in ids.any_of)
    found = [str(one.resource_id) for one in about if any(True for _ in trail.select(one))]
    if len(found) > 1:
        raise ConfigurationError(
            f"Some events have the id of this {ids.resource_type} as it is and some its hash, and a bundle is of one "
            f"id: give a time within which it is one, or export all of {ids.resource_type}."
        )
    if not found and ids.lacks_key:
        raise ConfigurationError(f"Nothing was found: {LACKS_KEY.format(ids.resource_type)}.")
    return found[0] if found else ids.any_of[-1]


def _say_written(bundle: Path, written: Written) -> None:
    for trouble in written.troubles:
        note(trouble, "yellow")
    for gone in written.purged:
        note(f"{gone}, and cannot be in it.", "yellow")
    if written.not_noted:
        note(not_recorded(written.not_noted), "yellow")
    beside = f", and {count_of(written.besides)} beside them" if written.besides else ""
    say(
        f"{bundle}: {count_of(written.events)}{beside}, proven under the checkpoint of {written.tree_size:,} events of "
        f"{written.origin}."
    )
    say("Whoever checks it needs the verifier key from you by another way: `audit keygen --verifier` prints it.")


def check_a_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `audit export --bundle` wrote.")],
    *,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY|FILE", help="The verifier key, or a file that holds it; repeatable."),
    ] = None,
    checkpoint: Checkpoints = None,
    as_json_: AsJson = False,
) -> None:
    """Check a bundle; needs no database. Exit code 0 OK, 1 FAILED, 3 consistent, but no key was given; 2 no bundle."""
    keys = [read_key(text) for text in key or ()]
    known = [read_checkpoint(path) for path in checkpoint or ()]
    with file.open("rb") as opened:
        try:
            found = check_bundle(opened, keys, known)
        except IntegrityError as error:
            raise ConfigurationError(f"The file {file} is not what `audit export --bundle` writes: {error}.") from None
    if as_json_:
        say_json({"exit_code": EXIT_CODES[found.verdict], **as_json(found)})
    else:
        _say(found)
    raise typer.Exit(EXIT_CODES[found.verdict])


def _say(found: CheckedBundle) -> None:
    for fault in found.faults:
        say(str(fault), "red")
    text, style = verdict(found)
    say(text, style)
    if plainly := summary(found):
        say(plainly, style)
    for line in [*said_of_ranges(found), *limits(found)]:
        say(f"  {line}")
