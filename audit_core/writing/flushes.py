"""Those who wait until what was asked before is sealed, while other events go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from audit_core.errors import StoreUnavailableError
from audit_core.writing.answers import Answers
from audit_core.writing.backlog import Backlog
from audit_core.writing.inbox import Flush

QUIET_SECONDS = 0.5  # how long a flush looks for a quiet moment before its events are written all the same
TOO_LATE = "Not everything could be sealed in time; it is durable, and is sealed later."


@dataclass(frozen=True, slots=True)
class _Waiting:
    flush: Flush
    last: str | None  # the id of the last event that has to be moved first
    quiet_until: float = field(default_factory=lambda: time.monotonic() + QUIET_SECONDS)


class Flushes:
    """The flushes that wait. Only the writer's thread changes them."""

    def __init__(self, backlog: Backlog, answers: Answers) -> None:
        self._backlog, self._answers = backlog, answers
        self._waiting: list[_Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def impatient(self) -> bool:
        """Whether one has looked for a quiet moment for long enough."""
        return any(time.monotonic() > waiting.quiet_until for waiting in self._waiting)

    @property
    def only_seal(self) -> bool:
        """Whether one waits for nothing but what others have committed; more events may come without end."""
        return any(not self._backlog.holds(waiting.last) for waiting in self._waiting)

    def add(self, flush: Flush) -> None:
        """Everything that was asked before is in the outbox or in the backlog."""
        self._waiting.append(_Waiting(flush, self._backlog.last))

    def finish(self, *, to_seal: bool, give_up: bool) -> None:
        """Answer those whose events are sealed, and those whose time is over, or all of them."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not to_seal and not self._backlog.holds(each.last):
                self._answers.give(each.flush.waiter, None)
            elif give_up or time.monotonic() > each.flush.deadline:
                self._answers.give(each.flush.waiter, StoreUnavailableError(TOO_LATE))
            else:
                self._waiting.append(each)

    def fail(self, why: str) -> None:
        """Tell all of them."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._answers.give(each.flush.waiter, StoreUnavailableError(why))
