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
from audit_core.chain import AuditChain
from audit_core.chain.purged import Purged, purged_among, purged_in
from audit_core.chain.subtrees import Span, Subtrees
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence.archive import Archive, new_archive
from audit_core.evidence.kept import Held, Shown, ask, show
from audit_core.evidence.page import write_page
from audit_core.evidence.selection import Selection, draw
from audit_core.evidence.spool import Spool
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.keyring import Keyring, Reign
from audit_core.integrity.merkle import check_inclusion, plan_inclusion
from audit_core.integrity.note import encode_base64, parse_note
from audit_core.retention.months import next_month
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
    troubles: tuple[str, ...]  # anchors that could not be asked
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
    is there already and for too many events.
    """
    if path.exists():
        raise ConfigurationError(f"The file {path} is there already, and is not overwritten: name another.")
    trust = _trust(trail)
    asked, purged = selection.described(), purged_in(trail.store, selection.query)
    _refuse_purged(selection, purged, trust.head.size, trail.store)
    not_noted = trail.note_reading("trail.read", {"export": "bundle", **asked, "tree_size": trust.head.size})
    with Spool.of(trust.head) as spool:
        _read(spool, selection, trail.chain.whole, progress)
        events = len(spool.sequences)
        wanted = {reign.sequence for reign in trust.reigns[1:]}
        wanted |= _neighbours(spool) if selection.is_of_a_time else set()
        besides = _fill(spool, wanted, trail.chain)
        nodes = _prove(spool, trail.store)
        held, troubles = ask(trail.anchoring.anchors, trail.chain, spool.sequences[-1], trust.head.size, trust.keys)
        shown = show([*(Held(note) for note in checkpoints), *held], trail.chain, trust.head, trust.keys)
        files = _small_files(trust, asked, events, besides, shown)
        with new_archive(path) as archive:
            _write(archive, files, shown, spool, nodes)
    return Written(events, len(besides), trust.head.size, trust.head.origin, not_noted, tuple(troubles), tuple(purged))


def _refuse_purged(selection: Selection, purged: Sequence[Purged], size: int, store: AuditStore) -> None:
    """Whoever checks draws a sample again, and counts the whole trail: neither holds without an event of it."""
    if not purged:
        return
    if selection.sample is not None and selection.seed is not None:
        drawn = draw(selection.seed, size, selection.sample)
        if gone := purged_among(store, drawn):
            raise ConfigurationError(
                f"The sample has {len(gone)} of {len(drawn)} events of months that were purged, event {gone[0]} for "
                "one, which nobody can show: let whoever audits choose another seed, or export a time (--since)."
            )
    elif not selection.described():
        raise ConfigurationError(
            f"The whole trail cannot be shown any more: {purged[0]}. Export what is left by its time: --since "
            f"{next_month(purged[-1].month)}-01."
        )


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


def _fill(spool: Spool, wanted: set[int], chain: AuditChain) -> list[int]:
    """Add those that stand beside the others, as far as they were not purged."""
    whole, besides, absent = chain.whole, [], []
    for sequence in sorted(wanted - set(spool.sequences)):
        if (row := whole.row(sequence)) is not None:
            spool.add(row)
            besides.append(sequence)
        else:
            absent.append(sequence)
    if missing := sorted(set(absent) - set(purged_among(chain.store, absent))):
        raise IntegrityError(f"The event {missing[0]} is missing: run `audit verify`.")
    return besides


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
