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

from audit_core.forking import lock_across_forks
from audit_core.outbox.folder import make_folder, open_file
from audit_core.outbox.locks import lock_shared, try_lock_alone, unlock

logger = logging.getLogger("audit_core")

_opening = lock_across_forks()


class Gate:
    """Counts what is open in this process, and knows whether anything is open in another."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gate"
        self._pid = 0
        self._open = 0
        self._lock = threading.Lock()
        self._fd = -1

    def enter(self) -> None:
        """A request or session opens. Waits, milliseconds at most, while one of us writes."""
        self._after_fork()
        with self._lock:
            if self._open == 0 and self._fd >= 0:
                lock_shared(self._fd)
            self._open += 1

    def leave(self) -> None:
        """It ends."""
        if self._pid != os.getpid():  # opened before a fork, closed in the child, which has not counted it
            return
        with self._lock:
            self._open = max(0, self._open - 1)
            if self._open == 0 and self._fd >= 0:
                unlock(self._fd)

    @contextmanager
    def alone(self, *, ending: bool = False) -> Iterator[bool]:
        """Whether nothing is open anywhere; if so, nothing opens until the block ends.

        A process that is ``ending`` does not count what it has open itself.
        """
        self._after_fork()
        with self._lock:
            free = (ending or self._open == 0) and (self._fd < 0 or try_lock_alone(self._fd))
            try:
                yield free
            finally:
                if self._fd >= 0 and self._open:
                    lock_shared(self._fd)  # flock drops the lock that it could not exchange
                elif self._fd >= 0 and free:
                    unlock(self._fd)

    def close(self) -> None:
        """Release the lock file, unless something is still open."""
        with self._lock:
            if self._fd >= 0 and self._pid == os.getpid() and self._open == 0:
                os.close(self._fd)
                self._fd, self._pid = -1, 0

    def _open_file(self) -> int:
        """Nobody's request fails because of us: where there can be no lock file, other processes are not seen."""
        try:
            make_folder(self._path.parent)
            return open_file(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            logger.warning("Requests of other processes are not seen, %s cannot be opened: %s", self._path, error)
            return -1

    def _after_fork(self) -> None:
        """A file lock belongs to the open file, which a fork shares: the child opens its own."""
        if self._pid == os.getpid():
            return
        with _opening:
            if self._pid != os.getpid():
                inherited, self._lock, self._open = self._fd, threading.Lock(), 0
                self._fd = self._open_file()
                self._pid = os.getpid()
                if inherited >= 0:
                    os.close(inherited)
