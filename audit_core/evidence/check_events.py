"""Check the events of a bundle: records, inclusion proofs (RFC 9162 2.1.3.2), links, and what was asked for."""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256
from itertools import zip_longest
from typing import Any

from audit_core.errors import IntegrityError
from audit_core.evidence.check_purged import gaps, purged, unexplained
from audit_core.evidence.checked import FAULTS_AT_MOST, Checking, Fault, read_json
from audit_core.evidence.opened import EVENTS
from audit_core.integrity.merkle import check_inclusion, plan_inclusion
from audit_core.integrity.note import decode_base64
from audit_core.integrity.statement import ABOUT, STATEMENTS

_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
_FIELDS = ("actor_id", "resource_type", "resource_id", "action", "outcome", "tenant_id")


def check_events(checking: Checking) -> None:
    """Each record with its proof, a line at a time."""
    lines = zip_longest(checking.bundle.lines("records.jsonl"), checking.bundle.lines("proofs.jsonl"))
    besides, before = set(checking.about["besides"]), (-1, "")
    for number, (line, proof) in enumerate(lines, 1):
        where = f"records.jsonl line {number}"
        if line is None or proof is None:
            checking.fault(where, "it has no proof" if proof is None else "there is a proof, and no record")
            return
        if number > EVENTS or len(checking.found.faults) >= FAULTS_AT_MOST:
            what = "no bundle has more events" if number > EVENTS else "so much was wrong before it"
            checking.found.faults.append(Fault(where, f"{what}: from here on nothing was read"))
            return
        try:
            record, sequence = _read_record(line, checking.about["origin"])
            where = f"event {sequence}"
            leaf = sha256(b"\x00" + line[:-1]).digest()
            if sequence <= before[0]:
                checking.fault(where, f"it stands after the event {before[0]}")
            if sequence == before[0] + 1 and before[1] and record.get("previous_hash") != before[1]:
                checking.fault(where, f"it does not follow the event {before[0]}")
            before = sequence, ""  # what is not proven is no neighbour to be compared with
            _see(checking, sequence)
            _check_proof(checking, leaf, sequence, proof)
            before = sequence, leaf.hex()
            if sequence in checking.rotations:
                checking.rotations[sequence] = record
            elif record.get("resource_type") == ABOUT and record.get("action") in STATEMENTS:
                checking.retained.append(record)
            if sequence not in besides:
                _check_asked(record, checking.about["selection"])
        except IntegrityError as error:
            checking.fault(where, str(error))


def _read_record(line: bytes, origin: str) -> tuple[dict[str, Any], int]:
    try:
        text = line.removesuffix(b"\n").decode()
        record = read_json(text)
        canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(f"it is no record ({error})") from None
    if not isinstance(record, dict) or canonical != text or not line.endswith(b"\n"):
        raise IntegrityError("it is no record in canonical form (RFC 8785)")
    sequence = record.get("sequence")
    if type(sequence) is not int:
        raise IntegrityError("it has no sequence")
    if record.get("log") != origin:
        raise IntegrityError(f"the event {sequence} is of another trail: {str(record.get('log'))[:200]}")
    return record, sequence


def _check_proof(checking: Checking, leaf: bytes, sequence: int, line: bytes) -> None:
    try:
        proof = read_json(line.decode())
        index, texts = proof["index"], list(proof["hashes"])
        hashes = [decode_base64(text) for text in texts]
    except _MALFORMED as error:
        raise IntegrityError(f"its proof cannot be read ({error})") from None
    if type(index) is not int or index != sequence:
        raise IntegrityError(f"its proof is of the event {index}")
    head = checking.head
    check_inclusion(leaf, sequence, head.size, hashes, head.root)
    checking.nodes.update(zip(plan_inclusion(sequence, head.size), texts, strict=True))


def _see(checking: Checking, sequence: int) -> None:
    """Count it, and the sequences without a gap."""
    checking.sequences.append(sequence)
    ranges = checking.found.ranges
    if ranges and ranges[-1][1] + 1 == sequence:
        ranges[-1] = ranges[-1][0], sequence
    else:
        ranges.append((sequence, sequence))


def _check_asked(record: dict[str, Any], asked: dict[str, Any]) -> None:
    for name in _FIELDS:
        if name in asked and record.get(name) != asked[name]:
            raise IntegrityError(f"it does not match what was asked for: {name} is {str(record.get(name))[:200]!r}")
    moment = str(record.get("timestamp"))
    if moment < str(asked.get("since", "")) or ("until" in asked and moment >= str(asked["until"])):
        raise IntegrityError(f"it is not of the time that was asked for: {moment[:40]}")


def check_selection(checking: Checking) -> None:
    """That the events are those that bundle.json says they are."""
    about, asked, there = checking.about, checking.about["selection"], set(checking.sequences)
    besides = set(about["besides"])
    if absent := besides - there:
        checking.fault("bundle.json", f"the event {min(absent)} is said to be there, and is not")
    if (count := len(there - besides)) != about["events"]:
        checking.fault("bundle.json", f"it names {about['events']} events, and there are {count}")
    if unknown := asked.keys() - {*_FIELDS, "since", "until", "sample", "seed"}:
        checking.fault("bundle.json", f"it asks for what this version does not know: {min(unknown)[:200]}")
    if "sample" in asked or "seed" in asked:
        _check_sample(checking, asked.get("sample"), asked.get("seed"), there - besides)
    if not asked and len(there) != checking.head.size:
        _check_purged(checking, checking.head.size - len(there))


def _check_purged(checking: Checking, missing: int) -> None:
    """Of a whole trail only that may be missing of which signed events say that it was destroyed."""
    months = purged(checking)
    place = next(unexplained(gaps(checking), months), None)
    if place is not None or missing != sum(month.events for month in months):
        which = "" if place is None else f": the event {place}, for one"
        checking.fault("bundle.json", f"it says that it is the whole trail, and events are missing{which}")
    else:
        checking.found.purged = missing


def _check_sample(checking: Checking, count: object, seed: object, there: Collection[int]) -> None:
    if type(count) is not int or not isinstance(seed, str):
        checking.fault("bundle.json", "a sample has a number and a seed")
        return
    if count > EVENTS:  # nobody draws for ever
        checking.fault("bundle.json", f"no sample has {count:,} events: it was not drawn again")
        return
    months = purged(checking)
    drawn = _draw(seed, checking.head.size, count)
    absent = sorted(drawn.difference(there))
    missed = set(unexplained([(sequence, sequence) for sequence in absent], months))
    checking.found.purged += len(absent) - len(missed)
    for sequence in sorted(missed | (set(there) - drawn)):
        what = "was drawn by the seed, and is not there" if sequence in drawn else "was not drawn by the seed"
        checking.fault("sample", f"the event {sequence} {what}")


def _draw(seed: str, size: int, count: int) -> set[int]:
    """The first of a shuffle of all sequences."""
    order: dict[int, int] = {}
    count = max(0, min(count, size))
    for i in range(count):
        j = i + int(sha256(f"{seed}\n{size}\n{i}".encode()).hexdigest(), 16) % (size - i)
        order[i], order[j] = order.get(j, j), order.get(i, i)
    return {order[i] for i in range(count)}
