"""The spill file: where an event is durable while its outbox cannot take it.

One file per process, a line per event with its checksum; fsynced before anybody is told that the event is safe.
The events of a process that died are adopted by the next one. An attacker who can modify the file can change, drop
or invent events that are not sealed yet.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from audit_core.event import AuditEvent
from audit_core.identity import event_id_of
from audit_core.outbox.folder import make_folder
from audit_core.outbox.left import Lost, OwnFile, files_of_processes, left_behind, make_own
from audit_core.process.disk import write_all
from audit_core.process.forking import abandon_in_children
from audit_core.rows import to_json
from audit_core.waiting import read_waiting

REWRITE_BYTES = 1_000_000  # a longer file, most of it forgotten, is written anew with what still waits


class SpillFile:
    """The spill file of one process, made when the first event needs it and removed when the last one is sealed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: _OwnFile | None = None
        self.events: list[AuditEvent] = []  # what it holds, and is not forgotten
        abandon_in_children(self)

    @property
    def path(self) -> Path | None:
        """Where it lies; None while it holds nothing."""
        return self._file.path if self._file else None

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Write the events and wait for the disk. Raises OSError; then none of them counts as written."""
        held = [*self.events, *events]
        if self._file:
            self._file.write(events)
        if not (self._file and self._file.is_in_place()):  # somebody may have removed it, with all that it held
            self._begin_anew(held)
        self.events = held

    def remove(self, ids: Collection[str]) -> None:
        """Forget what is sealed. A crash before this is repaired by the events' ids."""
        self.events = [event for event in self.events if event.event_id not in ids]
        if not self._file:
            return
        if not self.events:
            self._file.remove()
            self._file = None
        elif self._file.size > REWRITE_BYTES and self._file.lines > 2 * len(self.events):
            with suppress(OSError):  # then it stays as long as it is
                self._begin_anew(self.events)

    def abandon(self) -> None:
        """Leave the file to the next process, or in a forked child to the parent."""
        if self._file:
            self._file.close()
        self._file, self.events = None, []

    def _begin_anew(self, events: Sequence[AuditEvent]) -> None:
        make_folder(self._directory)
        new = make_own(_OwnFile, self._directory)
        try:
            new.write(events)
        except OSError:
            new.remove()
            raise
        if self._file:
            self._file.remove()
        self._file = new


class _OwnFile(OwnFile):
    suffix = ".spill"
    lines = 0

    def write(self, events: Sequence[AuditEvent]) -> None:
        data = b"".join(map(_line, events))
        try:
            write_all(self._fd, data)
        except OSError:
            with suppress(OSError):  # half a line would hide the next one
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += len(data)
        self.lines += len(events)


@contextmanager
def orphans(directory: Path, *, own: Path | None = None) -> Iterator[tuple[list[AuditEvent], list[Lost]]]:
    """The events that dead processes left, oldest first, and which lines could not be read.

    The files are removed if the block ends without an exception, and nobody else adopts them meanwhile. Where there
    are no file locks, only ``own`` is known to be of a living process. A crash before all are removed leaves what
    was adopted in two files: its ids are the same.
    """
    with left_behind(directory, _OwnFile.suffix, own=own) as paths:
        yield _read(paths)


def peek(directory: Path) -> list[AuditEvent]:
    """What waits in the spill files of every process, dead or alive, oldest first."""
    return _read(files_of_processes(directory, _OwnFile.suffix))[0]


def _read(paths: Iterable[Path]) -> tuple[list[AuditEvent], list[Lost]]:
    events: list[AuditEvent] = []
    torn: list[Lost] = []
    for path in paths:
        with suppress(FileNotFoundError, PermissionError):
            found, unreadable = _read_lines(path.read_bytes())
            if unreadable:
                torn.append(_torn(found, unreadable, path.stat().st_mtime_ns))
            events += found
    return sorted(events, key=lambda event: event.timestamp), torn


def _read_lines(content: bytes) -> tuple[list[AuditEvent], list[bytes]]:
    events, unreadable = [], []
    # What follows the last newline was never acknowledged: a crash tore it.
    for line in content.split(b"\n")[:-1]:
        try:
            events.append(_parse(line))
        except (ValueError, RecursionError):
            unreadable.append(line)
    return events, unreadable


def _torn(events: list[AuditEvent], lines: list[bytes], modified: int) -> Lost:
    moments = sorted(event.timestamp for event in events) or [datetime.fromtimestamp(modified / 1e9, UTC)]
    return Lost(event_id_of(modified, b"\n".join(lines)), len(lines), moments[0], moments[-1])


def _line(event: AuditEvent) -> bytes:
    text = to_json(event).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> AuditEvent:
    checksum, _, text = line.partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the line's checksum does not fit")
    return read_waiting(text.decode("utf-8", "surrogateescape"))
