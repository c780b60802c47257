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

PATIENCE_SECONDS = 0.2  # of whoever writes, with a thread that is in the gate
logger = logging.getLogger("audit_core")

_opening = lock_across_forks()


class Gate:
    """Counts what is open in this process, and knows whether anything is open in another."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "gate"
        self._open = 0
        self._ended: list[None] = []  # of what is open, and not counted yet
        self._lock = threading.RLock()  # a signal handler may come here while it interrupts who holds it
        self._depth = 0  # how often who holds it is in the midst of something
        self._fd: int | None = None  # -1 where there can be no lock file
        abandon_in_children(self)

    def enter(self, *, wait: bool = True) -> bool:
        """A request or session opens, unless one of us writes: then it waits, or is told to try again in a moment."""
        with self._held(timeout=-1 if wait else 0) as held:
            if not held or ((fd := self._file()) >= 0 and self._open == 0 and not lock_shared(fd, wait=wait)):
                return False
            self._open += 1
            return True

    def leave(self) -> None:
        """It ends. That may be by the garbage collector, at any moment, in the midst of any method here."""
        self._ended.append(None)
        self._count_ended()

    @contextmanager
    def alone(self, *, ending: bool = False) -> Iterator[bool]:
        """Whether nothing is open anywhere; if so, nothing opens until the block ends.

        A process that is ``ending`` does not count what it has open itself. Does not wait long for a thread that is
        in the gate: a signal handler may have interrupted it, and wait for us.
        """
        with self._held(timeout=PATIENCE_SECONDS) as held:
            if not held:
                yield False
                return
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
        with self._held(timeout=PATIENCE_SECONDS) as held:
            if held and self._open == 0:
                self._close_file()
                self._keep_locked()

    def abandon(self) -> None:
        """In a forked child: what is open is open in the parent, and so is the lock file that the two share."""
        self._lock, self._open, self._ended, self._depth = threading.RLock(), 0, [], 0
        self._close_file()

    @contextmanager
    def _held(self, *, timeout: float) -> Iterator[bool]:
        """Whether the lock could be had; what ends until it is given back is counted then."""
        if not self._lock.acquire(timeout=timeout):
            yield False
            return
        self._depth += 1
        try:
            yield True
        finally:
            self._depth -= 1
            self._lock.release()
            self._count_ended()

    def _count_ended(self) -> None:
        """Unless somebody holds the lock: then he does it when he gives it back, and be it in this thread."""
        while self._ended and self._lock.acquire(blocking=False):
            try:
                if self._depth:
                    return
                self._depth = 1
                while self._ended:
                    self._ended.pop()
                    self._open = max(0, self._open - 1)  # what was opened before a fork is not counted in the child
                if self._open == 0 and self._fd is not None and self._fd >= 0:
                    unlock(self._fd)
                    self._keep_locked()
                self._depth = 0
            finally:
                self._lock.release()

    def _keep_locked(self) -> None:
        """After the lock was given back: a signal handler may have opened something just before."""
        if self._open and (fd := self._file()) >= 0:
            lock_shared(fd)

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
                        "Requests of other processes are not seen, and %s cannot be opened (%s): let this user write "
                        "it and its folder.",
                        self._path,
                        error,
                    )
                    self._fd = -1
        return self._fd
