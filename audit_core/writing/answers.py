"""What callers are told who wait for something."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

PATIENCE_SECONDS = 0.01  # with whoever holds a future's lock
T = TypeVar("T")


class Waiter(Future[T]):
    """Who waits."""

    def try_to_tell(self, answer: T | Exception) -> bool:
        """Whether he could be told, or has been; an exception is raised where he waits."""
        if not self._condition.acquire(timeout=PATIENCE_SECONDS):
            return False
        try:
            if not self.done() and self.set_running_or_notify_cancel():
                if isinstance(answer, Exception):
                    self.set_exception(answer)
                else:
                    self.set_result(answer)
        finally:
            self._condition.release()
        return True


class Answers:
    """Tells callers without ever waiting for them.

    A signal handler may interrupt a caller who holds the lock of his future, and wait for us: he is told afterwards.
    """

    def __init__(self) -> None:
        self._late: list[Callable[[], bool]] = []

    def __bool__(self) -> bool:
        """Whether somebody waits for his answer."""
        return bool(self._late)

    def give(self, waiter: Waiter[T], answer: T | Exception) -> None:
        """Now, or as soon as he can be told."""
        if not waiter.try_to_tell(answer):
            self._late.append(partial(waiter.try_to_tell, answer))

    def repeat(self) -> None:
        """Tell those who could not be told."""
        self._late = [tell for tell in self._late if not tell()]
