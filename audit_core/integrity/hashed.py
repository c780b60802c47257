"""Rows as they are verified: each with the hash of its record, made anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from hashlib import sha256
from typing import Any, TypeAlias

from audit_core.canonical import RECORD_COLUMNS, encode_record
from audit_core.integrity.statement import STATEMENTS, claims_to_be_one


class Unknown(Enum):
    """Of a record that is not here, nobody knows to which one it was linked. No column can hold this."""

    LINK = "link"


CHUNK = 4_096
UNENCODABLE = (TypeError, ValueError, OverflowError)
Hashed: TypeAlias = tuple[Any, Any, Any, bytes, str, Any, Any, Any]
"""A row's sequence, previous and own hash, the hash of its record or why it is none, its time; its action and
details, where it looks like a statement; and its commitments to private values."""

_SEQUENCE, _PREVIOUS, _TIMESTAMP, _ACTION, _DETAILS, _PRIVATE = map(
    RECORD_COLUMNS.index, ("sequence", "previous_hash", "timestamp", "action", "details", "private")
)
_WIDTH = len(RECORD_COLUMNS)


def hash_rows(rows: Iterable[Sequence[Any]], log: str) -> Iterator[Hashed]:
    """The hot loop: rebuild each row's record, and hash it. A chain may be hashed in any number of parts."""
    for row in rows:
        digest, why = b"", ""
        try:
            digest = sha256(b"\x00" + encode_record(row[:_WIDTH], log)).digest()
        except UNENCODABLE as error:
            why = type(error).__name__
        said = None
        if row[_ACTION] in STATEMENTS and claims_to_be_one(row, log):
            said = row[_ACTION], row[_DETAILS]
        yield row[_SEQUENCE], row[_PREVIOUS], row[_WIDTH], digest, why, row[_TIMESTAMP], said, row[_PRIVATE]


class RowReader:
    """Takes rows below a sequence, a chunk at a time, and leaves the first one that is not."""

    def __init__(self, rows: Iterable[Hashed]) -> None:
        self._rows = iter(rows)
        self._next: Hashed | None = next(self._rows, None)

    def take(self, stop: int | None) -> list[Hashed]:
        """At most ``CHUNK`` of them; none where all are taken."""
        chunk: list[Hashed] = []
        row, rows = self._next, self._rows
        limit = float("inf") if stop is None else stop
        while row is not None and row[0] < limit and len(chunk) < CHUNK:
            chunk.append(row)
            row = next(rows, None)
        self._next = row
        return chunk
