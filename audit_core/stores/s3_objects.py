"""One batch of sealed events as an object: JSON Lines, an event in each, and its signed checkpoint in the last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from audit_core.canonical import RECORD_COLUMNS, decode, encode, encode_record
from audit_core.errors import IntegrityError
from audit_core.integrity.note import decode_base64, encode_base64
from audit_core.rows import Row
from audit_core.stores import StoredCheckpoint

_KEY = re.compile(r"([0-9]{20})\.jsonl")
_LAST = 2**63 - 1  # that a tree can have
_SEQUENCE = RECORD_COLUMNS.index("sequence")
_DETAILS = RECORD_COLUMNS.index("details")
_MEMBERS = {*RECORD_COLUMNS, "log", "v"}


class Batch(NamedTuple):
    """What an object holds. It may have been written by an attacker."""

    rows: list[Row]
    checkpoint: StoredCheckpoint | None


def key_of(first_sequence: int) -> str:
    """The name by which no two batches can begin at the same place."""
    return f"{first_sequence:020d}.jsonl"


def first_of(name: str) -> int | None:
    """The sequence that a batch of this name begins with; None for a name that none of ours has."""
    match = _KEY.fullmatch(name)
    return int(match[1]) if match and int(match[1]) <= _LAST else None


def write_batch(rows: Sequence[Row], checkpoint: StoredCheckpoint, log: str) -> bytes:
    """Each line holds the record's own bytes: `jq -cj .record` and sha256sum check it."""
    lines = [b'{"event_hash":"%s","record":%s}' % (row[-1].encode(), encode_record(row[:-1], log)) for row in rows]
    head = checkpoint._asdict()
    head["frontier"] = None if checkpoint.frontier is None else encode_base64(checkpoint.frontier)
    return b"\n".join([*lines, encode({"checkpoint": head}), b""])


def read_batch(body: bytes, first: int, log: str | None) -> Batch:
    """What is no event of the chain ``log`` becomes a row that fits no hash, and so does an object that holds nothing.

    Where the ``log`` is not known yet, it is what the first event says.
    """
    rows: list[Row] = []
    checkpoint = None
    for line in body.splitlines():
        found = _parse(line)
        if log is None and first == len(rows) == 0:
            log = _origin_in(found)
        if isinstance(found.get("checkpoint"), dict):
            checkpoint = _checkpoint(found["checkpoint"])
        else:
            rows.append(_row(found, log) or _unreadable(first + len(rows), line))
    if not rows and checkpoint is None:
        rows.append(_unreadable(first, body))
    return Batch(rows, checkpoint)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = decode(line.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _origin_in(found: dict[str, Any]) -> str | None:
    """What a first event says; it may be anything."""
    try:
        origin = found["record"]["details"]["origin"]
    except (LookupError, TypeError):
        return None
    return origin if isinstance(origin, str) else None


def _row(found: dict[str, Any], log: str | None) -> Row | None:
    record = found.get("record")
    if not isinstance(record, dict) or record.keys() != _MEMBERS or type(record["sequence"]) is not int:
        return None
    if log is not None and log != record["log"]:
        return None
    values = [record[name] for name in RECORD_COLUMNS]
    values[_DETAILS] = encode(values[_DETAILS]).decode()
    row = (*values, found.get("event_hash"))
    try:
        # Columns are compared with hashes: what a record says besides must be right, too.
        return row if encode_record(values, record["log"]) == encode(record) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _unreadable(sequence: int, line: bytes) -> Row:
    values: list[Any] = [None] * len(RECORD_COLUMNS)
    values[_SEQUENCE], values[_DETAILS] = sequence, line.decode(errors="replace")
    return (*values, None)


def _checkpoint(head: dict[str, Any]) -> StoredCheckpoint | None:
    try:
        head = {**head, "frontier": None if head["frontier"] is None else decode_base64(head["frontier"])}
        found = StoredCheckpoint(**head)
    except (LookupError, ValueError, TypeError, IntegrityError):
        return None
    return found if type(found.tree_size) is type(found.first_sequence) is int else None
