"""Records on their way into a bundle: a database gives them by time, and a bundle has them by sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, Self

from audit_core.canonical import RECORD_COLUMNS, encode_record
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence.opened import EVENTS
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import leaf_hash
from audit_core.rows import Row

_SEQUENCE = RECORD_COLUMNS.index("sequence")


class _Place(NamedTuple):
    offset: int
    length: int
    leaf: bytes


class Spool:
    """Records that the tree of ``head`` covers, in a temporary file; in memory are their places and hashes."""

    def __init__(self, file: BinaryIO, head: Checkpoint) -> None:
        self._file, self.head = file, head
        self._places: dict[int, _Place] = {}
        self._end = 0

    @classmethod
    @contextmanager
    def of(cls, head: Checkpoint) -> Iterator[Self]:
        """An empty one, which is gone at the end of the block."""
        with TemporaryFile() as file:
            yield cls(file, head)

    def add(self, row: Row) -> None:
        """Keep the record of a stored row, unless it was sealed after the checkpoint.

        Raises IntegrityError for what is no event, ConfigurationError for too many.
        """
        try:
            sequence, record = int(row[_SEQUENCE]), encode_record(row[:-1], self.head.origin)
        except (ValueError, TypeError) as error:
            raise IntegrityError("A row of the trail is no event: run `audit verify`, which names it.") from error
        if sequence >= self.head.size:
            return
        if sequence in self._places:
            raise IntegrityError(f"The event {sequence} is there twice: run `audit verify`.")
        if len(self._places) >= EVENTS:
            raise ConfigurationError(
                f"These are more than {EVENTS:,} events, which no browser opens in one page: ask for a shorter time, "
                "or for a sample of them (--sample 10000 --seed ...)."
            )
        self._file.write(record + b"\n")
        self._places[sequence] = _Place(self._end, len(record), leaf_hash(record))
        self._end += len(record) + 1

    @property
    def sequences(self) -> list[int]:
        """Of the records, in order."""
        return sorted(self._places)

    def leaf(self, sequence: int) -> bytes:
        """The leaf hash of a record."""
        return self._places[sequence].leaf

    def records(self) -> Iterator[bytes]:
        """All of them, in order of sequence, without what separates them."""
        for sequence in self.sequences:
            place = self._places[sequence]
            self._file.seek(place.offset)
            yield self._file.read(place.length)
