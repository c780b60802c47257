"""Check the checkpoints of a bundle that were kept elsewhere (RFC 9162 2.1.4.2), and those that an auditor kept."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from audit_core.errors import IntegrityError
from audit_core.evidence.checked import Checking, lines_of, read_json
from audit_core.evidence.opened import KEPT
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.merkle import check_consistency
from audit_core.integrity.note import VerifierKey, decode_base64, parse_note, spelled, split_signature

_MALFORMED = (IntegrityError, LookupError, TypeError, ValueError, AttributeError)


def check_kept(checking: Checking, mine: Sequence[str]) -> None:
    """Those in the bundle, then ``mine``."""
    there = {checking.head.size: checking.head.root}
    named: set[str] = set()
    for number, line in enumerate(lines_of(checking.bundle.text("consistency.jsonl")), 1):
        where = f"consistency.jsonl line {number}"
        if number > KEPT:  # each may have a file unpacked
            checking.fault(where, "no bundle has more checkpoints: from here on nothing was read")
            break
        try:
            entry = read_json(line)
            where = str(entry["checkpoint"])[:200]
            named |= {entry["checkpoint"], entry["receipt"]}
            old = _check_one(checking, entry)
            there[old.size] = old.root
        except _MALFORMED as error:
            checking.fault(where, str(error))
    for name in checking.bundle.names:
        if name.startswith("kept/") and name not in named:
            checking.fault(name, "consistency.jsonl says nothing of it")
    for note in mine:
        _compare(checking, note, there)


def _check_one(checking: Checking, entry: dict[str, Any]) -> Checkpoint:
    """Raises one of ``_MALFORMED`` where it does not hold."""
    if not all(name is None or name.startswith("kept/") for name in (entry["checkpoint"], entry["receipt"])):
        raise IntegrityError("it does not lie in kept/")
    note, head = checking.bundle.text(entry["checkpoint"]), checking.head
    old = checking.open(note)
    if (entry["first"], entry["second"]) != (old.size, head.size):
        raise IntegrityError(f"its proof is of other trees than those of {old.size} and {head.size} events")
    hashes = [decode_base64(text) for text in entry["hashes"]]
    check_consistency(old.size, head.size, hashes, old.root, head.root)
    checking.found.kept.append((old.size, str(entry["where"] or ""), str(entry["since"] or "")))
    if entry["receipt"] is not None:
        checking.found.receipts += 1
        if sha256(note.encode()).digest() not in checking.bundle.content(entry["receipt"]):
            raise IntegrityError(f"{entry['receipt']} is no time stamp of it")
    return old


def _compare(checking: Checking, note: str, there: dict[int, bytes]) -> None:
    """What a bundle cannot be blamed for is a question."""
    mine, head = Checkpoint.parse(parse_note(note)[0]), checking.head
    if mine.origin != head.origin:
        of, this = spelled(mine.origin), spelled(head.origin)
        checking.ask(f"The checkpoint that you gave is of the trail {of}, and the bundle of {this}.")
    elif (signer := _signer_of(note, checking)) is None:
        checking.fault("checkpoint", f"the one that you gave, of {mine.size} events, is signed with another key")
    elif not _opens(note, signer):
        checking.ask(f"The checkpoint of {mine.size} events is not as it was signed: give it as you were given it.")
    elif mine.size not in there:
        checking.found.uncompared.append(mine.size)
    elif there[mine.size] != mine.root:
        checking.fault("checkpoint", f"the one that you gave, of {mine.size} events, is of another history")
    else:
        checking.found.vouched = max(checking.found.vouched, mine.size)


def _signer_of(note: str, checking: Checking) -> VerifierKey | None:
    """The one of the trail's keys that a note names, the latest; whether its signature holds or not."""
    named = {split_signature(encoded)[0] for name, encoded in parse_note(note)[1] if name == checking.head.origin}
    return next((one.key for one in reversed(checking.keys) if one.key.key_hash in named), None)


def _opens(note: str, key: VerifierKey) -> bool:
    try:
        open_checkpoint(note, key)
    except IntegrityError:
        return False
    return True
