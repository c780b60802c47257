"""Check the checkpoints of a bundle that were kept elsewhere (RFC 9162 2.1.4.2), and those that an auditor kept."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from audit_core.errors import IntegrityError
from audit_core.evidence.checked import Checking, lines_of, read_json
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.merkle import check_consistency
from audit_core.integrity.note import decode_base64, parse_note

_MALFORMED = (IntegrityError, LookupError, TypeError, ValueError, AttributeError)


def check_kept(checking: Checking, mine: Sequence[str]) -> None:
    """Those in the bundle, then ``mine``."""
    there = {checking.head.size: checking.head.root}
    named: set[str] = set()
    for number, line in enumerate(lines_of(checking.bundle.text("consistency.jsonl")), 1):
        where = f"consistency.jsonl line {number}"
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
        _compare(checking, Checkpoint.parse(parse_note(note)[0]), there)


def _check_one(checking: Checking, entry: dict[str, Any]) -> Checkpoint:
    """Raises one of ``_MALFORMED`` where it does not hold."""
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


def _compare(checking: Checking, mine: Checkpoint, there: dict[int, bytes]) -> None:
    if mine.origin != checking.head.origin:
        checking.fault("checkpoint", f"the one that you gave is of another trail, {mine.origin}")
    elif mine.size not in there:
        checking.found.uncompared.append(mine.size)
    elif there[mine.size] != mine.root:
        checking.fault("checkpoint", f"the one that you gave, of {mine.size} events, is of another history")
    else:
        checking.found.vouched = max(checking.found.vouched, mine.size)
