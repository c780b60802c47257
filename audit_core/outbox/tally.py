"""The tally: which events, of those that nobody waits for, are not durable yet.

A process that dies loses them, and the next one tells how many. A byte of a file for each: it outlives ``kill -9``, and
not a power cut. An attacker who can modify the file can make a gap be told that there was not, or one not be told.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit_core.identity import event_id_of
from audit_core.outbox.folder import make_folder
from audit_core.outbox.left import Lost, OwnFile, left_behind, make_own
from audit_core.outbox.locks import HAS_LOCKS
from audit_core.process.forking import abandon_in_children

SLOTS = 16_384  # more than wait at any time: see the limit of the inbox
MOMENT_BYTES = 8  # microseconds since 1970, at which all that came before was durable
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
logger = logging.getLogger("audit_core")


class _OwnTally(OwnFile):
    suffix = ".tally"

    def write(self, data: bytes, at: int) -> None:
        with suppress(OSError):  # a disk that takes nothing more: the file keeps the size that it was made with
            os.pwrite(self._fd, data, at)


class Tally:
    """That of one process. Any thread adds to it, and none waits for another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._file: _OwnTally | None = None
        abandon_in_children(self)

    def open(self) -> None:
        """Make the file, unless it is there; without one nothing is counted, which is logged."""
        if self._file is not None or not HAS_LOCKS:  # without locks nobody knows who has died
            return
        try:
            make_folder(self._directory)
            file = make_own(_OwnTally, self._directory)
        except OSError as error:
            logger.warning("What a killed process loses of a buffered trail will not be counted: %s", error)
            return
        file.write(_moment(datetime.now(UTC)) + bytes(SLOTS), 0)
        if self._file is not None:  # a signal handler was here meanwhile
            file.remove()
        else:
            self._file = file

    def add(self) -> int:
        """One more is on its way; its slot."""
        slot = next(self._numbers) % SLOTS
        if self._file:
            self._file.write(b"\1", MOMENT_BYTES + slot)
        return slot

    def settle(self, slots: Sequence[int], moment: datetime) -> None:
        """These are durable, and what came before that moment."""
        if self._file is None:
            return
        self._file.write(_moment(moment), 0)
        first, last = min(slots), max(slots)
        if last - first + 1 == len(slots):
            self._file.write(bytes(len(slots)), MOMENT_BYTES + first)
            return
        for slot in slots:
            self._file.write(b"\0", MOMENT_BYTES + slot)

    def close(self) -> None:
        """The process ends in good order. What it has lost all the same is told by the next one."""
        if (file := self._file) is not None:
            self._file = None
            file.close() if _read(file.path).number else file.remove()

    def abandon(self) -> None:
        """In a forked child: it is the parent's."""
        if self._file:
            self._file.close()
        self._file = None


@contextmanager
def losses(directory: Path) -> Iterator[list[Lost]]:
    """What dead processes lost. Their files are removed if the block ends without an exception."""
    with left_behind(directory, _OwnTally.suffix) as paths:
        yield [lost for path in paths if (lost := _read(path)).number]


def _read(path: Path) -> Lost:
    content = path.read_bytes()
    moment = EPOCH + timedelta(microseconds=int.from_bytes(content[:MOMENT_BYTES], "big") % 2**52)
    name = event_id_of(path.stat().st_mtime_ns, path.name.encode() + content)
    return Lost(name, content[MOMENT_BYTES:].count(1), moment, max(moment, datetime.now(UTC)))


def _moment(moment: datetime) -> bytes:
    return ((moment - EPOCH) // timedelta(microseconds=1)).to_bytes(MOMENT_BYTES, "big")
