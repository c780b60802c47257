"""What the writer's thread is asked to do, in the order in which it was asked."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

from audit_core.event import AuditEvent
from audit_core.process.threads import is_own_thread

LIMIT = 10_000  # what waits; a full inbox makes callers wait


@dataclass(frozen=True, slots=True)
class Submitted:
    """An event, and who waits until it is durable."""

    event: AuditEvent
    waiter: Future[AuditEvent] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Flush:
    """Somebody waits until all that was asked before is sealed."""

    deadline: float  # time.monotonic()
    waiter: Future[None] = field(default_factory=Future)


class Poke:
    """There is something to seal in an outbox that no transaction of ours touches."""


class Inbox:
    """Takes from any thread what one thread does. Once closed it takes nothing more, and loses nothing."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._items: deque[Submitted | Flush | Poke] = deque()
        self._limit = limit
        lock = threading.Lock()
        self._filled, self._emptied = threading.Condition(lock), threading.Condition(lock)
        self.closed = False

    @property
    def over(self) -> bool:
        """Whether nothing is in it, and nothing comes any more."""
        return self.closed and not self._items

    def put(self, item: Submitted | Flush | Poke) -> bool:
        """Whether it was taken: a closed inbox takes nothing. Waits while it is full, unless nobody would empty it."""
        with self._emptied:
            self._emptied.wait_for(lambda: self.closed or len(self._items) < self._limit or is_own_thread())
            if self.closed:
                return False
            self._items.append(item)
            self._filled.notify()
            return True

    def take(self, limit: int, timeout: float | None) -> tuple[list[Submitted], Flush | Poke | None]:
        """At most ``limit`` events, and what else stands behind them; waits at most ``timeout`` s for the first."""
        events: list[Submitted] = []
        with self._filled:
            self._filled.wait_for(lambda: self.closed or self._items, timeout)
            while self._items and len(events) < limit:
                item = self._items.popleft()
                self._emptied.notify()
                if not isinstance(item, Submitted):
                    return events, item
                events.append(item)
        return events, None

    def close(self) -> None:
        """Take nothing more; what is in it stays until it is taken."""
        with self._filled:
            self.closed = True
            self._filled.notify_all()
            self._emptied.notify_all()
