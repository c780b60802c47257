"""The spill file: where an event is durable while its outbox cannot take it.

One file per process, a line per event with its checksum; fsynced before anybody is told that the event is safe.
The events of a process that died are adopted by the next one. An attacker who can modify the file can change, drop
or invent events that are not sealed yet.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from audit_core.event import AuditEvent
from audit_core.outbox.folder import make_folder, open_file
from audit_core.outbox.locks import try_lock_alone
from audit_core.rows import to_json
from audit_core.waiting import read_waiting

REWRITE_BYTES = 1_000_000  # a file with this much behind it is written anew with what still waits


class SpillFile:
    """The spill file of one process, made when the first event needs it and removed when the last one is sealed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._fd = -1
        self._bytes = 0

    def append(self, events: Sequence[AuditEvent]) -> None:
        """Write the events and wait for the disk. Raises OSError; then none of them counts as written."""
        if self._fd < 0:
            self._make()
        data = b"".join(map(_line, events))
        try:
            _write_all(self._fd, data)
            os.fsync(self._fd)
        except OSError:
            with suppress(OSError):  # half a line would hide the next one
                os.ftruncate(self._fd, self._bytes)
                os.lseek(self._fd, self._bytes, os.SEEK_SET)
            raise
        self._bytes += len(data)

    def keep_only(self, events: Sequence[AuditEvent]) -> None:
        """Forget what is sealed. A crash before this is repaired by the events' ids."""
        if not events:
            self._remove()
        elif self._bytes > REWRITE_BYTES:
            old, self._fd, old_path = self._fd, -1, self._path
            self.append(events)
            os.close(old)
            if old_path:
                old_path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """In a forked child: the file stays its parent's."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._path, self._bytes = -1, None, 0

    def _make(self) -> None:
        make_folder(self._directory)
        self._path = self._directory / f"{os.getpid()}-{secrets.token_hex(6)}.spill"
        self._fd = open_file(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._bytes = 0
        try_lock_alone(self._fd)  # for as long as this process lives: see orphans()
        _sync_directory(self._directory)

    def _remove(self) -> None:
        if self._path:
            with suppress(OSError):  # then the next process finds it, and that its events are sealed
                self._path.unlink(missing_ok=True)
        self.abandon()


@contextmanager
def orphans(directory: Path) -> Iterator[tuple[list[AuditEvent], int]]:
    """The events that dead processes left, oldest first, and how many lines could not be read.

    The files are removed if the block ends without an exception, and nobody else adopts them meanwhile.
    """
    held: list[tuple[Path, int]] = []
    try:
        for path in sorted(directory.glob("*.spill")):
            with suppress(FileNotFoundError):  # somebody else was faster
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
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
    return _read(sorted(directory.glob("*.spill")))[0]


def _read(paths: Iterable[Path]) -> tuple[list[AuditEvent], int]:
    events: list[AuditEvent] = []
    torn = 0
    for path in paths:
        with suppress(FileNotFoundError):
            lines = path.read_bytes().split(b"\n")
            # What follows the last newline was never acknowledged: a crash tore it.
            for line in lines[:-1]:
                try:
                    events.append(_parse(line))
                except ValueError:
                    torn += 1
    return sorted(events, key=lambda event: event.timestamp), torn


def _line(event: AuditEvent) -> bytes:
    text = to_json(event).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> AuditEvent:
    checksum, _, text = line.partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the line's checksum does not fit")
    return read_waiting(text.decode("utf-8", "surrogateescape"))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: Path) -> None:
    """Make a new file's name durable."""
    with suppress(OSError):  # Windows cannot open a directory
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
