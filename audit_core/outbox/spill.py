"""The spill file: where an event is durable while its outbox cannot take it.

One file per process, a line per event with its checksum; fsynced before anybody is told that the event is safe.
The events of a process that died are adopted by the next one. An attacker who can modify the file can change, drop
or invent events that are not sealed yet.
"""

from __future__ import annotations

import logging
import os
import secrets
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from audit_core.event import AuditEvent
from audit_core.identity import event_id_of
from audit_core.outbox.folder import is_in_place, make_folder, open_file
from audit_core.outbox.locks import try_lock_alone
from audit_core.process.disk import sync_folder, write_all
from audit_core.process.forking import abandon_in_children
from audit_core.rows import to_json
from audit_core.waiting import read_waiting

REWRITE_BYTES = 1_000_000  # a longer file, most of it forgotten, is written anew with what still waits
TRIES = 10  # to make a file that no other process takes at once
logger = logging.getLogger("audit_core")

_refused: set[Path] = set()  # files of others that could not be opened: each is told of once


class Torn(NamedTuple):
    """Lines of one file that cannot be read. The id of their event is the same whoever reads them, however often."""

    event_id: str
    lines: int
    since: datetime
    until: datetime


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
        new = self._make()
        try:
            new.write(events)
        except OSError:
            new.remove()
            raise
        if self._file:
            self._file.remove()
        self._file = new

    def _make(self) -> _OwnFile:
        for _ in range(TRIES):
            with suppress(_AdoptedError):
                return _OwnFile(self._directory)
        return _OwnFile(self._directory)


class _AdoptedError(OSError):
    """Another process has found a new file before it was locked."""


class _OwnFile:
    """A file that no other process adopts while this one lives."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"{os.getpid()}-{secrets.token_hex(6)}.spill"
        self.size = self.lines = 0
        self._fd = open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if not (try_lock_alone(self._fd) and self.is_in_place()):
            self.close()
            raise _AdoptedError(f"{self.path} was adopted before it was locked")
        sync_folder(directory)

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

    def is_in_place(self) -> bool:
        return is_in_place(self._fd, self.path)

    def remove(self) -> None:
        with suppress(OSError):  # then the next process finds it, and that its events are sealed
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def orphans(directory: Path, *, own: Path | None = None) -> Iterator[tuple[list[AuditEvent], list[Torn]]]:
    """The events that dead processes left, oldest first, and which lines could not be read.

    The files are removed if the block ends without an exception, and nobody else adopts them meanwhile. Where there
    are no file locks, only ``own`` is known to be of a living process. A crash before all are removed leaves what
    was adopted in two files: its ids are the same.
    """
    held: list[tuple[Path, int]] = []
    try:
        for path in _spill_files(directory):
            if path == own or (fd := _try_open(path)) is None:
                continue
            if try_lock_alone(fd) and path.exists():
                held.append((path, fd))
            else:
                os.close(fd)
        events, torn = _read([path for path, _ in held])
        yield events, torn
        for path, _ in held:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    finally:
        for _, fd in held:
            os.close(fd)


def peek(directory: Path) -> list[AuditEvent]:
    """What waits in the spill files of every process, dead or alive, oldest first."""
    return _read(_spill_files(directory))[0]


def _spill_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.spill") if path.is_file())


def _try_open(path: Path) -> int | None:
    """A file descriptor; None where the file is gone, or another user's who has locked us out."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # somebody else was faster
    except OSError as error:
        if path not in _refused:
            _refused.add(path)
            logger.error("The events in %s are left to a process that may read it: %s", path, error)  # noqa: TRY400
        return None


def _read(paths: Iterable[Path]) -> tuple[list[AuditEvent], list[Torn]]:
    events: list[AuditEvent] = []
    torn: list[Torn] = []
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


def _torn(events: list[AuditEvent], lines: list[bytes], modified: int) -> Torn:
    moments = sorted(event.timestamp for event in events) or [datetime.fromtimestamp(modified / 1e9, UTC)]
    return Torn(event_id_of(modified, b"\n".join(lines)), len(lines), moments[0], moments[-1])


def _line(event: AuditEvent) -> bytes:
    text = to_json(event).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> AuditEvent:
    checksum, _, text = line.partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the line's checksum does not fit")
    return read_waiting(text.decode("utf-8", "surrogateescape"))
