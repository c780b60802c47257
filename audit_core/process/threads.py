"""The trail's own threads, which must not wait for themselves: what they log may be recorded."""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from audit_core.process.forking import lock_across_forks

MOMENT_SECONDS = 0.001  # between two looks at what another thread does
REST_SECONDS = 3600.0

_starting = lock_across_forks()  # a fork waits for the start of a thread


class OwnThread(threading.Thread):
    """A thread that others wait for, until it is told to stop and has come to its end.

    They do not ask ``is_alive`` or ``join``: an exception of a signal handler in the midst of those makes a living
    thread look dead.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopped = self.ended = False
        self._pid = os.getpid()

    @property
    def is_copy(self) -> bool:
        """Whether it has come into this process by a fork, in which gevent's greenlets live on. The parent's works."""
        return self._pid != os.getpid()

    def rest(self) -> None:
        """Do nothing any more, where this is a copy; it cannot end, as the child knows no such thread."""
        while self.is_copy:
            time.sleep(REST_SECONDS)

    def work(self) -> None:
        """What it does, until it is stopped."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start it; under gevent without waiting until it runs.

        There it is a greenlet, and who waits lets all the others run first, be it in the midst of his transaction: they
        would block the whole process on a row or a SQLite file that he has locked.
        """
        if _is_green():
            _thread.start_new_thread(self.start, ())
        else:
            self.start()

    def stop(self) -> None:
        """Come to an end soon."""
        self.stopped = True

    def run(self) -> None:
        """The whole life of the thread."""
        try:
            self.work()
        finally:
            self.stopped = self.ended = True

    def wait(self, timeout: float) -> None:
        """Until it has ended, or for ``timeout`` seconds."""
        if is_own_thread():
            return
        wait_until(lambda: self.ended, timeout)
        if self.ended:
            self.join(MOMENT_SECONDS)


T = TypeVar("T", bound=OwnThread)


class OneThread(Generic[T]):
    """The one thread of its kind: it starts in the process that uses it, as one from before a fork is dead there.

    No step waits for another one: a signal handler may interrupt the start of a thread, and need one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, list[T]] = {}  # by process

    @property
    def all(self) -> tuple[T, ...]:
        """Those of this process that have not ended, or have ended last."""
        return tuple(self._made.get(os.getpid(), ()))

    @property
    def running(self) -> T | None:
        """The one that has not been told to stop."""
        for thread in tuple(self._made.get(os.getpid(), ())):
            if not thread.stopped:
                return thread
        return None

    def start(self) -> T:
        """It, started unless it runs."""
        if thread := self.running:
            return thread
        with _starting:
            if thread := self.running:
                return thread
            here = self._made.setdefault(os.getpid(), [])
            thread = self._make()
            thread.begin()
            here.append(thread)
            if (first := self.running or thread) is not thread:  # a signal handler was here meanwhile
                thread.stop()
            for old in self.all[:-1]:
                if old.ended:
                    with suppress(ValueError):
                        here.remove(old)
            return first


def _is_green() -> bool:
    """Whether gevent has put its greenlets in the place of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def is_own_thread() -> bool:
    """Whether this is one of them, of whichever trail: two trails may log what the other one records."""
    return isinstance(threading.current_thread(), OwnThread)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether it came to that; without a lock, which a signal handler might keep from being given back."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(MOMENT_SECONDS)
    return True
