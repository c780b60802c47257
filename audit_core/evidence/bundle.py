"""Write a bundle of evidence: see "Bundle" in docs/formats.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from audit_core.canonical import MAX_RECORD_BYTES, format_timestamp
from audit_core.chain.purged import Purged, purged_in
from audit_core.chain.subtrees import Span, Subtrees
from audit_core.errors import ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.evidence.archive import Archive, new_archive
from audit_core.evidence.gone import statements_of_gone, unless_purged_meanwhile
from audit_core.evidence.kept import Held, Shown, ask, show
from audit_core.evidence.page import write_page
from audit_core.evidence.selection import Selection
from audit_core.evidence.spool import Spool
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.keyring import Keyring, Reign
from audit_core.integrity.merkle import check_inclusion, plan_inclusion
from audit_core.integrity.note import encode_base64, parse_note
from audit_core.stores import AuditStore
from audit_core.trail import AuditTrail

FORMAT = 1
GAP = 100  # events of another time between two of the interval: so many are taken along, that nothing is left out
EVERY = 1_000  # events between two calls of progress
PROOF_BYTES = 4_096  # of the longest proof, of 63 hashes

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class Written:
    """What went into a bundle."""

    events: int  # that were asked for
    besides: int  # that stand beside them
    tree_size: int
    origin: str
    not_noted: str | None  # why this reading is not in the trail
    troubles: tuple[str, ...]  # anchors that could not be asked, and archives beside what was asked for
    purged: tuple[Purged, ...] = ()  # what is not there any more of the time that was asked for


@dataclass(frozen=True, slots=True)
class _Trust:
    note: str
    head: Checkpoint
    keys: Keyring  # as the trail names them

    @property
    def reigns(self) -> list[Reign]:
        """Of the keys that were named when the checkpoint was signed."""
        return [reign for reign in self.keys.reigns if reign.sequence < self.head.size]


def write_bundle(
    trail: AuditTrail, selection: Selection, path: Path, *, checkpoints: Sequence[str] = (), progress: Progress = None
) -> Written:
    """Write the events of a selection with all that proves them, under the newest checkpoint, to a new file.

    ``checkpoints`` are signed notes that were kept elsewhere; the trail's anchors are asked for more. What does not
    hold is not written: raises IntegrityError, LookupError where no event matches, ConfigurationError for a file that
    is there already, for too many events, and where a month was purged meanwhile.
    """
    if path.exists():
        raise ConfigurationError(f"The file {path} is there already, and is not overwritten: name another.")
    trust = _trust(trail)
    asked = selection.described()
    not_noted = trail.note_reading("trail.read", {"export": "bundle", **asked, "tree_size": trust.head.size})
    with unless_purged_meanwhile(trail.store, trust.keys), Spool.of(trust.head) as spool:
        _read(spool, selection, trail.chain.whole, progress)
        purged = tuple(purged_in(trail.store, selection.query))
        events = len(spool.sequences)
        wanted = {reign.sequence for reign in trust.reigns[1:]}
        wanted |= _warnings(trust)
        wanted |= statements_of_gone(spool, selection, trail.store, trust.keys)
        beside = _neighbours(spool) if selection.is_of_a_time else set()
        besides = _fill(spool, wanted, trail.chain.whole)
        near, away = _fill_beside(spool, beside, trail, trust.keys)
        besides = sorted(besides + near)
        nodes = _prove(spool, trail.store)
        held, troubles = ask(trail.anchoring.anchors, trail.chain, spool.sequences[-1], trust.head.size, trust.keys)
        shown = show([*(Held(note) for note in checkpoints), *held], trail.chain, trust.head, trust.keys)
        files = _small_files(trust, asked, events, besides, shown)
        with new_archive(path) as archive:
            _write(archive, files, shown, spool, nodes)
    return Written(events, len(besides), trust.head.size, trust.head.origin, not_noted, (*troubles, *away), purged)


def _warnings(trust: _Trust) -> set[int]:
    """Where the trail says that a key was stolen or a backup put back: whoever checks should hear of it."""
    found = {one.sequence for one in trust.keys.revocations} | {one.sequence for one in trust.keys.restorations}
    return {sequence for sequence in found if sequence < trust.head.size}


def _trust(trail: AuditTrail) -> _Trust:
    """The newest checkpoint, signed with a key that the trail names, and not of more than there is."""
    note, keys = trail.chain.checkpoint_note(), trail.chain.keyring
    if note is None or keys is None:
        raise ConfigurationError("The trail has no checkpoint yet: run `audit init`.")
    head = open_checkpoint(note, keys.key_at(Checkpoint.parse(parse_note(note)[0]).size))
    if head.size > trail.store.extent().events:
        raise IntegrityError(f"The checkpoint of {head.size} events is of more than there are: run `audit verify`.")
    return _Trust(note, head, keys)


def _read(spool: Spool, selection: Selection, store: AuditStore, progress: Progress) -> None:
    size = spool.head.size
    for count, row in enumerate(selection.rows(store, size)):
        spool.add(row)
        if progress and count % EVERY == 0:
            progress(count, size)
    if not spool.sequences:
        raise LookupError("No sealed event matches: there is nothing to prove.")


def _neighbours(spool: Spool) -> set[int]:
    """What lies between the events of an interval, and right before and after them, so that all can be counted.

    Of one that was sealed long after the others only its neighbours.
    """
    found = spool.sequences
    between = {n for a, b in pairwise(found) if b - a <= GAP + 1 for n in range(a + 1, b)}
    return between | {n + step for n in found for step in (-1, 1) if 0 <= n + step < spool.head.size}


def _fill(spool: Spool, wanted: set[int], store: AuditStore) -> list[int]:
    besides = sorted(wanted - set(spool.sequences))
    for sequence in besides:
        if (row := store.row(sequence)) is None:
            raise IntegrityError(f"The event {sequence} is missing: run `audit verify`.")
        spool.add(row)
    return besides


def _fill_beside(spool: Spool, places: set[int], trail: AuditTrail, keys: Keyring) -> tuple[list[int], list[str]]:
    """The neighbours of an interval, as far as they are at hand; and in a sentence each which archive is not."""
    found: list[int] = []
    away: dict[int, str] = {}
    for sequence in sorted(places - set(spool.sequences)):
        left = trail.store.find_left(sequence)
        if left is not None and (keys.is_purged(left.archive) or left.archive in away):
            continue
        try:
            found += _fill(spool, {sequence}, trail.chain.whole)
        except StoreUnavailableError as error:
            if left is None:
                raise
            away[left.archive] = f"{error} What stands beside the events of this time is left out."
    return found, list(away.values())


def _prove(spool: Spool, store: AuditStore) -> dict[Span, bytes]:
    """The nodes of all proofs. Plan, read, compute; then each proof is checked before it goes out."""
    head = spool.head
    plans = {sequence: plan_inclusion(sequence, head.size) for sequence in spool.sequences}
    spans = {span for plan in plans.values() for span in plan}
    subtrees = Subtrees(store)
    try:
        subtrees.read(spans, head.size)
        nodes = {span: subtrees.root(*span) for span in spans}
    except (ValueError, TypeError) as error:
        raise IntegrityError("What is stored is not a tree of hashes: run `audit verify`.") from error
    for sequence, plan in plans.items():
        try:
            check_inclusion(spool.leaf(sequence), sequence, head.size, [nodes[span] for span in plan], head.root)
        except IntegrityError as error:
            raise IntegrityError(
                f"The event {sequence} is not what the checkpoint was signed over: nothing is exported; run `audit "
                "verify`, which names every finding."
            ) from error
    return nodes


def _small_files(
    trust: _Trust, asked: Mapping[str, Any], events: int, besides: Sequence[int], shown: Sequence[Shown]
) -> dict[str, str]:
    """Everything but records and proofs, by the names of the files."""
    about = {
        "format": FORMAT,
        "origin": trust.head.origin,
        "tree_size": trust.head.size,
        "selection": asked,
        "events": events,
        "besides": list(besides),
    }
    lines = [_line(_described(number, one, trust.head.size)) for number, one in enumerate(shown, 1)]
    kept = {_name(number, one, "checkpoint"): one.held.note for number, one in enumerate(shown, 1)}
    return {
        "bundle.json": json.dumps(about, ensure_ascii=False, indent=1) + "\n",
        "checkpoint.txt": trust.note,
        "keys.jsonl": "".join(map(_named, trust.reigns)),
        "consistency.jsonl": "".join(lines),
        **kept,
    }


def _named(reign: Reign) -> str:
    return _line({"from": max(1, reign.first), "key": str(reign.key), "event": reign.sequence or None})


def _name(number: int, shown: Shown, kind: str) -> str:
    return f"kept/{number}-{shown.size}.{kind}"


def _described(number: int, shown: Shown, size: int) -> dict[str, Any]:
    held = shown.held
    return {
        "checkpoint": _name(number, shown, "checkpoint"),
        "first": shown.size,
        "second": size,
        "hashes": [encode_base64(digest) for digest in shown.hashes],
        "where": held.where or None,
        "since": None if held.since is None else format_timestamp(held.since),
        "receipt": None if held.signed is None else _name(number, shown, "tsr"),
    }


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def _write(
    archive: Archive, files: Mapping[str, str], shown: Sequence[Shown], spool: Spool, nodes: Mapping[Span, bytes]
) -> None:
    count = len(spool.sequences)
    archive.add("README.txt", [resources.files(__package__).joinpath("README.txt").read_bytes()])
    for name, text in files.items():
        archive.add(name, [text.encode()])
    for number, one in enumerate(shown, 1):
        if one.held.signed is not None:
            archive.add(_name(number, one, "tsr"), [one.held.signed])
    archive.add("records.jsonl", (record + b"\n" for record in spool.records()), size=count * MAX_RECORD_BYTES)
    archive.add("proofs.jsonl", _proofs(spool, nodes), size=count * PROOF_BYTES)
    archive.add("evidence.html", write_page(files, nodes, spool.records()), size=2 * count * MAX_RECORD_BYTES)


def _proofs(spool: Spool, nodes: Mapping[Span, bytes]) -> Iterator[bytes]:
    texts = {span: encode_base64(node) for span, node in nodes.items()}
    for sequence in spool.sequences:
        hashes = [texts[span] for span in plan_inclusion(sequence, spool.head.size)]
        yield _line({"index": sequence, "hashes": hashes}).encode()
