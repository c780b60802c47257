"""What the writer's thread is asked to do, in the order in which it was asked."""

from __future__ import annotations

import queue
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from audit_core.event import AuditEvent
from audit_core.process.threads import MOMENT_SECONDS, is_own_thread
from audit_core.writing.answers import Waiter

LIMIT = 10_000  # what waits; a full inbox makes callers wait


@dataclass(frozen=True, slots=True)
class Submitted:
    """An event, and who waits until it is durable."""

    event: AuditEvent
    waiter: Waiter[AuditEvent] = field(default_factory=Waiter)
    slot: int | None = None  # in the tally


@dataclass(frozen=True, slots=True)
class Flush:
    """Somebody waits until all that was asked before is sealed."""

    deadline: float  # time.monotonic()
    waiter: Waiter[None] = field(default_factory=Waiter)


class Poke:
    """There is something to seal in an outbox that no transaction of ours touches."""


Item: TypeAlias = Submitted | Flush | Poke


class Inbox:
    """Takes from any thread what one thread does. Once closed it takes nothing more, and loses nothing.

    Nobody holds a lock here: a signal handler may put something while it interrupts a thread that does, or close it.
    Which class a queue is of is asked when it is made: gevent may have replaced it since we were imported.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        # Each in a list, out of which it is taken once.
        self._items: queue.SimpleQueue[list[Item]] = queue.SimpleQueue()
        self._limit = limit
        self._left = False
        self.closed = False

    def put(self, item: Item) -> bool:
        """Whether it was taken: a closed inbox takes nothing. Waits while it is full, unless nobody would empty it."""
        while self._items.qsize() >= self._limit and not self.closed and not is_own_thread():
            time.sleep(MOMENT_SECONDS)
        if self.closed:
            return False
        self._items.put(slot := [item])
        return not self._left or _take_out(slot) is None  # else nobody would take it any more

    def take(
        self, limit: int, timeout: float | None, gather: float = 0.0
    ) -> tuple[list[Submitted], Flush | Poke | None]:
        """At most ``limit`` events, and what else stands behind them.

        Waits at most ``timeout`` seconds for the first, then ``gather`` seconds for others unless there are enough.
        """
        events: list[Submitted] = []
        item = self._next(0 if self.closed else timeout)
        if gather and isinstance(item, Submitted) and not self.closed and len(self) < limit:
            time.sleep(gather)
        while isinstance(item, Submitted):
            events.append(item)
            item = self._next(0) if len(events) < limit else None
        return events, item

    def __len__(self) -> int:
        return self._items.qsize()

    def close(self) -> None:
        """Take nothing more; what is in it stays until it is taken."""
        self.closed = True
        self._items.put([])  # wakes who waits for something

    def leave(self) -> bool:
        """Whether it is closed and empty, so that whoever takes may go: what is put now is taken back."""
        if not self.closed or not self._items.empty():
            return False
        self._left = True
        return self._items.empty()  # or somebody has put something before he could see that

    def _next(self, timeout: float | None) -> Item | None:
        with suppress(queue.Empty):
            return _take_out(self._items.get(timeout=timeout))
        return None


def _take_out(slot: list[Item]) -> Item | None:
    """What is in the slot, for the first who asks."""
    with suppress(IndexError):
        return slot.pop()
    return None
