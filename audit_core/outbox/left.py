"""Files that a process keeps beside the database while it lives, and that another one adopts when it has died."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

from audit_core.outbox.folder import is_in_place, open_file
from audit_core.outbox.locks import try_lock_alone
from audit_core.process.disk import sync_folder

TRIES = 10  # to make a file that no other process takes at once
logger = logging.getLogger("audit_core")

_refused: set[Path] = set()  # files of others that could not be opened: each is told of once


class Lost(NamedTuple):
    """Events that a dead process has lost. The id of their event is the same whoever finds them, however often."""

    event_id: str
    number: int
    since: datetime
    until: datetime


class OwnFile:
    """A file that no other process adopts while this one lives."""

    suffix: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"{os.getpid()}-{secrets.token_hex(6)}{self.suffix}"
        self.size = 0
        self._fd = open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if not (try_lock_alone(self._fd) and self.is_in_place()):
            self.close()
            raise _AdoptedError(f"{self.path} was adopted before it was locked")
        sync_folder(directory)

    def is_in_place(self) -> bool:
        """Whether it still lies there: somebody may have removed it."""
        return is_in_place(self._fd, self.path)

    def remove(self) -> None:
        """It holds nothing that anybody needs."""
        with suppress(OSError):  # then the next process finds it, and that its events are sealed
            self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Leave it to the next process, or in a forked child to the parent."""
        os.close(self._fd)


Own = TypeVar("Own", bound=OwnFile)


class _AdoptedError(OSError):
    """Another process has found a new file before it was locked."""


def make_own(kind: type[Own], directory: Path) -> Own:
    """A new file in the folder, which must be there. Raises OSError."""
    for _ in range(TRIES):
        with suppress(_AdoptedError):
            return kind(directory)
    return kind(directory)


def files_of_processes(directory: Path, suffix: str) -> list[Path]:
    """Those of every process, dead or alive."""
    return sorted(path for path in directory.glob(f"*{suffix}") if path.is_file())


@contextmanager
def left_behind(directory: Path, suffix: str, *, own: Path | None = None) -> Iterator[list[Path]]:
    """The files that dead processes left.

    They are removed if the block ends without an exception, and nobody else adopts them meanwhile. Where there are no
    file locks, only ``own`` is known to be of a living process.
    """
    held: list[tuple[Path, int]] = []
    try:
        for path in files_of_processes(directory, suffix):
            if path == own or (fd := _try_open(path)) is None:
                continue
            if try_lock_alone(fd) and path.exists():
                held.append((path, fd))
            else:
                os.close(fd)
        yield [path for path, _ in held]
        for path, _ in held:
            with suppress(OSError):
                path.unlink(missing_ok=True)
    finally:
        for _, fd in held:
            os.close(fd)


def _try_open(path: Path) -> int | None:
    """A file descriptor; None where the file is gone, or another user's who has locked us out."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # somebody else was faster
    except OSError as error:
        if path not in _refused:
            _refused.add(path)
            logger.error("What is in %s is left to a process that may read it: %s", path, error)  # noqa: TRY400
        return None
