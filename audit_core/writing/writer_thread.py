"""The writer's thread: makes events durable, and moves what waits to where it belongs when the moment is right."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeAlias

from audit_core.errors import AuditError, StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.outbox.gate import Gate
from audit_core.outbox.tally import Tally
from audit_core.process.forking import lock_across_forks
from audit_core.process.threads import OwnThread
from audit_core.writing.answers import Answers
from audit_core.writing.backlog import Backlog
from audit_core.writing.counts import Counts
from audit_core.writing.flushes import Flushes
from audit_core.writing.follower import Follower
from audit_core.writing.inbox import Flush, Inbox, Poke, Submitted
from audit_core.writing.sealer import Sealer

BATCH = 200  # events in one commit: requests that begin meanwhile wait for it, some milliseconds
GATHER_SECONDS = 0.05  # where nobody waits: a commit costs as much for one event as for dozens
BREATH_SECONDS = 0.005  # between two commits, for the requests that wait
TICK_SECONDS = 0.05  # how often to look whether what waits can be moved
QUIET_SECONDS = 0.5  # how long a process that ends looks for a quiet moment
ADOPT_SECONDS = 1.0  # how often a busy process looks for what others have left
LONGEST_PAUSE_SECONDS = 5.0  # between tries, while the outbox refuses
logger = logging.getLogger("audit_core")

_Control: TypeAlias = Flush | Poke | None

# Neither SQLite nor the spill file must be in the middle of something when the process forks.
_at_work = lock_across_forks()


class WriterThread(OwnThread):
    """Does what stands in its inbox until that is closed, and leaves nothing in it."""

    def __init__(
        self,
        sealer: Sealer | Follower,
        backlog: Backlog,
        *,
        counts: Counts,
        gate: Gate | None,
        block: bool,
        tally: Tally | None,
        queued: bool,
    ) -> None:
        """``queued`` says that events go to a queue, which waits for no moment."""
        super().__init__("audit-writer")
        self._queued = queued
        self._gather = GATHER_SECONDS if tally else 0.0
        self._tally, self._unsettled = tally, list[int]()
        self._sealer, self._counts, self._gate, self._block = sealer, counts, gate, block
        self.inbox, self.backlog = Inbox(), backlog
        self._answers = Answers()
        self._flushes = Flushes(backlog, self._answers)
        self._to_seal = True  # an earlier process may have left something
        self._adopted = -ADOPT_SECONDS
        self._retry_at = self._end_by = 0.0
        self._pause = TICK_SECONDS
        self._hopeless = False  # whether the last try failed for a reason that time does not mend

    def end(self, timeout: float) -> None:
        """Take nothing more, seal what waits, and end; waits at most ``timeout`` seconds for that."""
        self._end_by = time.monotonic() + timeout
        self.stop()
        self.wait(timeout)

    def stop(self) -> None:
        """Take nothing more."""
        super().stop()
        self.inbox.close()

    def run(self) -> None:
        """Until the inbox is closed and empty, and everybody has his answer."""
        super().run()
        while self._answers:
            time.sleep(TICK_SECONDS)
            self._answers.repeat()

    def work(self) -> None:
        """Until the inbox is closed and empty."""
        moved = False
        while not self.inbox.leave():
            batch, control = self.inbox.take(BATCH, self._patience(moved=moved), self._gather)
            self.rest()
            moved = False
            try:
                if time.monotonic() - self._adopted > ADOPT_SECONDS:
                    self._adopt()
                moved = self._do(batch, control)
            except Exception:  # nobody else would write, and callers wait
                logger.exception("The audit writer goes on after an error that should not be.")
                self._release(batch)
            self._answers.repeat()
            self._settle()
        try:
            self._drain(self._end_by)
        except Exception:
            logger.exception("The audit writer ends with an error; what waits is left to the next one.")
        self._flushes.finish(to_seal=self._to_seal, give_up=True)
        self._settle()
        with _at_work:
            self.backlog.abandon()

    @property
    def _owes(self) -> bool:
        return bool(self.backlog) or self._to_seal

    def _patience(self, *, moved: bool) -> float | None:
        """How long to wait for events before looking at what waits; None while nothing does."""
        if not self._owes and not self._answers:
            return None
        return BREATH_SECONDS if moved else TICK_SECONDS

    def _do(self, batch: list[Submitted], control: _Control) -> bool:
        """Whether something was moved, so that more may be."""
        if batch:
            error = self._make_durable([submitted.event for submitted in batch])
            done = batch.copy()
            batch.clear()
            self._answer(done, error)
        if isinstance(control, Flush):
            self._adopt()
            self._flushes.add(control)
        if control is not None:
            self._to_seal = True
        due = bool(self._flushes) or time.monotonic() >= self._retry_at
        moved = self._owes and due and self._move(force=self.backlog.overdue or self._flushes.impatient)
        self._flushes.finish(to_seal=self._to_seal, give_up=not moved and self._hopeless)
        return moved

    def _release(self, batch: list[Submitted]) -> None:
        """Nobody waits for what did not come to its end; the events are kept."""
        self.backlog.hold([submitted.event for submitted in batch])
        self._answer(batch, OSError("see the log"))
        self._flushes.fail("The audit trail could not be sealed: see the log.")

    def _answer(self, batch: list[Submitted], error: OSError | None) -> None:
        if self._tally:
            self._count(self._tally, batch, error)
        for submitted in batch:
            if error is not None and self._block:
                refusal = StoreUnavailableError(f"The audit event is not durable: {error}")
                self._answers.give(submitted.waiter, refusal)
            else:
                self._answers.give(submitted.waiter, submitted.event)

    def _count(self, tally: Tally, batch: list[Submitted], error: OSError | None) -> None:
        slots = [submitted.slot for submitted in batch if submitted.slot is not None]
        if error is not None:
            self._unsettled += slots
        elif slots:
            tally.settle(slots, batch[-1].event.timestamp)

    def _settle(self) -> None:
        """What was held in memory only may be durable by now."""
        if self._tally and self._unsettled and not self.backlog.held:
            self._tally.settle(self._unsettled, datetime.now(UTC))
            self._unsettled = []

    def _make_durable(self, events: list[AuditEvent]) -> OSError | None:
        """In the outbox, else in the spill file; why not, if in neither."""
        with _at_work:
            if not self.backlog:
                with self._moment(any_time=self._queued) as now:
                    if now and self._try(lambda: self._sealer.deliver(events)):
                        self._counts.written += len(events)
                        self._to_seal = self._to_seal or self._queued
                        return None
            return self.backlog.add(events)

    def _adopt(self) -> None:
        """Take over what processes that have ended left."""
        self._adopted = time.monotonic()
        with _at_work:
            self.backlog.adopt()

    def _move(self, *, force: bool, ending: bool = False) -> bool:
        """Move one batch of what waits to where it belongs, if this is the moment; whether that was done."""
        with _at_work:
            self.backlog.settle()
            batch = [] if self._flushes.only_seal else self.backlog.oldest(BATCH)
            with self._moment(any_time=bool(batch) and self._queued, force=force, ending=ending) as now:
                if not now:
                    return False
                if not batch:
                    return self._try(self._seal_others)
                if not self._try(lambda: self._sealer.deliver(batch)):
                    return False
            self._counts.written += len(batch)
            self._to_seal = self._to_seal or self._queued
            self.backlog.remove(batch)
            return True

    def _seal_others(self) -> None:
        self._to_seal = self._to_seal and self._sealer.seal_some(BATCH)

    @contextmanager
    def _moment(self, *, any_time: bool, force: bool = False, ending: bool = False) -> Iterator[bool]:
        """Whether we may write now: where there is a gate, only while it is free, unless it must be."""
        if self._gate is None or any_time:
            yield True
            return
        with self._gate.alone(ending=ending) as free:
            yield free or force

    def _try(self, write: Callable[[], object]) -> bool:
        """Whether it was written. The thread must live: nobody else would write."""
        try:
            write()
        except StoreUnavailableError as error:
            logger.info("The audit trail cannot be written just now: %s", error)
        except AuditError as error:
            self._hopeless = True
            logger.info("Somebody has to act before the audit trail can be written: %s", error)
        except Exception:
            logger.exception("The audit trail cannot be written.")
        else:
            self._pause, self._hopeless = TICK_SECONDS, False
            return True
        self._counts.failures += 1
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
        return False

    def _drain(self, deadline: float) -> None:
        """Before the end, move what waits.

        A process that ends forces nothing on the others: what it leaves is durable, and they adopt it.
        """
        self._adopt()
        self._to_seal = True
        quiet_until = time.monotonic() + QUIET_SECONDS
        while self._owes:
            moved = self._move(force=False, ending=True)
            if not moved and (self._hopeless or time.monotonic() > quiet_until):
                return
            if time.monotonic() > deadline:
                return
            time.sleep(BREATH_SECONDS if moved else TICK_SECONDS)
