"""``audit verify``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from audit_core.chain import Verification
from audit_core.cli.place import AsJson, Url, open_trail, read_file, read_key
from audit_core.cli.terminal import note, progress_bar, say, say_json
from audit_core.cli.words import describe, limits, verdict
from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.note import VerifierKey, parse_note, split_signature
from audit_core.integrity.verify import Finding, Result
from audit_core.reports.reading import NOT_RECORDED, can_record
from audit_core.trail import AuditTrail

EXIT_CODES = {Result.OK: 0, Result.FAILED: 1, Result.UNANCHORED: 3}
SHOWN = 100  # findings of one kind; --json has all
Progress = Callable[[int, int], None] | None


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(verify)


def verify(
    context: typer.Context,
    *,
    url: Url = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY|FILE", help="The verifier key, or a file that holds it.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A signed checkpoint that was kept elsewhere; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the whole trail. Exit code 0 OK, 1 FAILED, 3 UNANCHORED, 2 could not be verified."""
    pinned = read_key(key) if key else None
    notes = {path: read_file(path) for path in checkpoint or ()}
    with open_trail(context, url) as trail:
        known, strange = _sort_notes(notes, pinned or _named_key(trail))
        with progress_bar("Verifying") as progress:
            found = _check(trail, pinned, known, progress)
        if strange:
            found = replace(found, result=Result.FAILED, findings=(*found.findings, *strange))
        waiting = sum(1 for _ in trail.waiting())
        (_say_json if as_json else _say)(found, trail, waiting)
    raise typer.Exit(EXIT_CODES[found.result])


def _check(trail: AuditTrail, pinned: VerifierKey | None, known: Sequence[str], progress: Progress) -> Verification:
    if can_record(trail):
        return trail.verify(pinned, known, progress)
    note(NOT_RECORDED, "yellow")
    own = trail.chain.key if trail.status()["key_is_ours"] else None
    return trail.chain.verify(pinned or own, known, progress)


def _named_key(trail: AuditTrail) -> VerifierKey | None:
    """The key that the trail names; where that is no key, verifying it says so."""
    try:
        return trail.chain.key
    except IntegrityError:
        return None


def _sort_notes(notes: dict[Path, str], key: VerifierKey | None) -> tuple[list[str], list[Finding]]:
    """The notes that the key signed, and a finding for each one of this chain that another key signed."""
    known, strange = [], []
    for path, text in notes.items():
        try:
            if key is not None:
                open_checkpoint(text, key)
            known.append(text)
        except IntegrityError as error:
            if key is None or (kept := _of_another_key(text, key)) is None:
                raise IntegrityError(f"{path} is no checkpoint of this trail to verify with: {error}") from None
            strange.append(Finding("known", kept.size, f"a trail signed by the key of {path}", f"one signed by {key}"))
    return known, strange


def _of_another_key(text: str, key: VerifierKey) -> Checkpoint | None:
    """The note, if it is of the same chain by another key: then the trail was signed anew since it was kept."""
    try:
        body, signatures = parse_note(text)
        kept = Checkpoint.parse(body)
        hashes = [split_signature(signature)[0] for name, signature in signatures if name == key.name]
    except IntegrityError:
        return None
    return kept if kept.origin == key.name and hashes and key.key_hash not in hashes else None


def _say(found: Verification, trail: AuditTrail, waiting: int) -> None:
    _say_findings(found.findings, trail, "red")
    _say_findings(found.warnings, trail, "yellow", "Warning: ")
    text, style = verdict(found)
    say(text, style)
    for line in limits(found, waiting):
        say(f"  {line}")


def _say_findings(findings: Iterable[Finding], trail: AuditTrail, style: str, prefix: str = "") -> None:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= SHOWN:
            say(prefix + describe(finding, trail)[0], style)
    for kind, count in seen.items():
        if count > SHOWN:
            say(f"{prefix}And {count - SHOWN:,} more of the kind {kind!r}; --json has them all.", style)


def _say_json(found: Verification, trail: AuditTrail, waiting: int) -> None:
    say_json(
        {
            "result": found.result.value,
            "exit_code": EXIT_CODES[found.result],
            "origin": found.origin,
            "size": found.size,
            "anchored": found.anchored,
            "pinned": found.pinned,
            "waiting": waiting,
            "findings": [_as_dict(finding, trail) for finding in found.findings],
            "warnings": [_as_dict(finding, trail) for finding in found.warnings],
            "verdict": verdict(found)[0],
            "limits": limits(found, waiting),
        }
    )


def _as_dict(finding: Finding, trail: AuditTrail) -> dict[str, Any]:
    text, event_id = describe(finding, trail)
    return {**asdict(finding), "event_id": event_id, "text": text}
