"""When we may write to the application's SQLite file by ourselves: while none of its requests or sessions is open.

A transaction that reads and then writes fails at once with "database is locked", whatever its timeout, if anybody
commits in between. So what belongs to no transaction waits in the spill file until the application's next audited
change carries it, or until no process has anything open. Each process holds a shared file lock while it has.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit_core.outbox.folder import is_in_place, make_folder, open_file
from audit_core.outbox.locks import lock_shared, try_lock_alone, unlock
from audit_core.process.forking import abandon_in_children, lock_across_forks

logger = logging.getLogger("audit_core")

_opening = lock_across_forks()


class Gate:
    """Counts what is open in this process, and knows whether anything is open in another."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gate"
        self._open = 0
        self._lock = threading.RLock()  # the garbage collector may end what is open, at any moment
        self._fd: int | None = None  # -1 where there can be no lock file
        abandon_in_children(self)

    def enter(self, *, wait: bool = True) -> bool:
        """A request or session opens, unless one of us writes: then it waits, or is told to try again in a moment."""
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            if (fd := self._file()) >= 0 and self._open == 0 and not lock_shared(fd, wait=wait):
                return False
            self._open += 1
            return True
        finally:
            self._lock.release()

    def leave(self) -> None:
        """It ends."""
        with self._lock:
            if self._open == 0:  # opened before a fork, closed in the child, which has not counted it
                return
            self._open -= 1
            if self._open == 0 and self._fd is not None and self._fd >= 0:
                unlock(self._fd)

    @contextmanager
    def alone(self, *, ending: bool = False) -> Iterator[bool]:
        """Whether nothing is open anywhere; if so, nothing opens until the block ends.

        A process that is ``ending`` does not count what it has open itself.
        """
        with self._lock:
            fd = self._file()
            free = (ending or self._open == 0) and (fd < 0 or try_lock_alone(fd))
            try:
                yield free
            finally:
                if fd >= 0 and self._open:
                    lock_shared(fd)  # flock drops the lock that it could not exchange
                elif fd >= 0 and free:
                    unlock(fd)

    def close(self) -> None:
        """Release the lock file, unless something is still open. The next use opens it again."""
        with self._lock:
            if self._open == 0:
                self._close_file()

    def abandon(self) -> None:
        """In a forked child: what is open is open in the parent, and so is the lock file that the two share."""
        self._lock, self._open = threading.RLock(), 0
        self._close_file()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None and fd >= 0:
            os.close(fd)

    def _file(self) -> int:
        """Nobody's request fails because of us: where there can be no lock file, other processes are not seen.

        What is open holds its lock until it ends, even on a file that was removed; others make a new one meanwhile.
        """
        if self._fd is not None and self._fd >= 0 and self._open == 0 and not is_in_place(self._fd, self._path):
            self._close_file()
        if self._fd is None:
            with _opening:
                try:
                    make_folder(self._path.parent)
                    self._fd = open_file(self._path, os.O_RDWR | os.O_CREAT)
                except OSError as error:
                    logger.warning(
                        "Requests of other processes are not seen, %s cannot be opened: %s", self._path, error
                    )
                    self._fd = -1
        return self._fd
