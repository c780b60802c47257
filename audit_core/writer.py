"""The writer: one thread per process for events that belong to no transaction, one commit for all that wait.

Its thread starts in the process that uses it: a thread started before a fork is dead in the child.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, Queue

from audit_core.backlog import Backlog
from audit_core.errors import AuditError, StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.forking import lock_across_forks
from audit_core.outbox.gate import Gate

BATCH = 500
QUEUE = 10_000  # events; a full queue makes callers wait
TICK_SECONDS = 0.05  # how often to look whether what waits can be moved
QUIET_SECONDS = 0.5  # how long a flush looks for a quiet moment before it writes all the same
ADOPT_SECONDS = 1.0  # how often a busy process looks for what others have left
LONGEST_PAUSE_SECONDS = 5.0  # between tries, while the outbox refuses
logger = logging.getLogger("audit_core")


# Neither SQLite nor the spill file nor a thread's start must be in the middle of something when the process forks.
_at_work = lock_across_forks()
_starting = lock_across_forks()  # taken before _at_work


@dataclass(frozen=True, slots=True)
class _Submitted:
    event: AuditEvent
    waiter: Future[AuditEvent] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class _Flush:
    deadline: float  # time.monotonic()
    ending: bool = False
    waiter: Future[None] = field(default_factory=Future)


class _Stop:
    """The thread ends."""


class Writer:
    """Takes events from any thread; tells each caller when its event is durable."""

    def __init__(
        self,
        deliver: Callable[[Sequence[AuditEvent]], object],
        seal: Callable[[], object],
        make_backlog: Callable[[], Backlog],
        *,
        gate: Gate | None = None,
        block: bool = False,
        greeting: Callable[[], AuditEvent] | None = None,
    ) -> None:
        """``deliver`` commits events to the outbox, ``seal`` seals the others; both raise StoreUnavailableError.

        ``greeting`` makes the first event of every process.
        """
        self._deliver, self._seal, self._make_backlog = deliver, seal, make_backlog
        self._gate, self._block, self._greeting = gate, block, greeting
        self._pid = 0
        self._reset()

    @property
    def running(self) -> bool:
        """Whether this process has its thread."""
        return self._pid == os.getpid() and self._thread.is_alive()

    @property
    def backlog(self) -> Backlog | None:
        """What this process owes to the outbox."""
        return self._backlog if self._pid == os.getpid() else None

    def start(self) -> None:
        """Start the thread, unless it runs; the first event of this process is its greeting."""
        if self.running:
            return
        with _starting:
            if not self.running:
                self._backlog.abandon()
                self._reset()
                self._pid = os.getpid()
                if self._greeting:
                    self._queue.put(_Submitted(self._greeting()))
                self._thread.start()

    def submit(self, event: AuditEvent) -> Future[AuditEvent]:
        """Queue one event; the future holds it once it is durable."""
        self.start()
        submitted = _Submitted(event)
        self._queue.put(submitted)
        return submitted.waiter

    def poke(self) -> None:
        """There is something to seal in an outbox that no transaction of ours touches."""
        self.start()
        self._to_seal.set()

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until everything submitted before is sealed.

        Raises StoreUnavailableError when the store does not take it; it is durable all the same.
        """
        self.start()
        self._flush(_Flush(time.monotonic() + timeout))

    def close(self, timeout: float) -> None:
        """Seal what waits and end the thread.

        What cannot be sealed, because another process is busy with the file, is sealed by that one or the next.
        """
        if not self.running:
            return
        with suppress(StoreUnavailableError):
            self._flush(_Flush(time.monotonic() + QUIET_SECONDS, ending=True))
        self._queue.put(_Stop())
        self._thread.join(timeout)
        if lost := self._backlog.held:
            logger.error("%d events could be written neither to the outbox nor to the spill file.", len(lost))

    def _flush(self, flush: _Flush) -> None:
        self._queue.put(flush)
        flush.waiter.result()

    def _reset(self) -> None:
        """What a process has for itself; what its parent queued before a fork is its parent's."""
        self._queue: Queue[_Submitted | _Flush | _Stop] = Queue(QUEUE)
        self._backlog = self._make_backlog()
        self._to_seal = threading.Event()
        self._to_seal.set()  # an earlier process may have left something
        self._retry_at, self._pause = 0.0, TICK_SECONDS
        self._adopted = 0.0
        self._hopeless = False  # whether the last try failed for a reason that time does not mend
        self._thread = threading.Thread(target=self._run, name="audit-writer", daemon=True)

    def _run(self) -> None:
        with _at_work:
            self._backlog.adopt()
        control: _Flush | _Stop | None = None
        while not isinstance(control, _Stop):
            batch, control = self._next()
            try:
                if batch:
                    self._write(batch)
                if isinstance(control, _Flush):
                    self._finish(control)
                elif time.monotonic() >= self._retry_at:
                    self._move(force=self._backlog.overdue)
            except Exception:  # nobody else would write, and callers wait
                logger.exception("The audit writer goes on after an error that should not be.")
                self._release(batch, control)
        self._backlog.abandon()

    def _release(self, batch: list[_Submitted], control: _Flush | _Stop | None) -> None:
        """Nobody waits for what did not come to its end; the events are kept."""
        if unfinished := [submitted for submitted in batch if not submitted.waiter.done()]:
            self._backlog.hold([submitted.event for submitted in unfinished])
            self._answer(unfinished, OSError("see the log"))
        if isinstance(control, _Flush) and not control.waiter.done():
            control.waiter.set_exception(StoreUnavailableError("The audit trail could not be sealed: see the log."))

    def _next(self) -> tuple[list[_Submitted], _Flush | _Stop | None]:
        """All events that wait, up to a flush or stop that was queued behind them."""
        batch: list[_Submitted] = []
        idle = not (self._backlog or self._to_seal.is_set())
        with suppress(Empty):
            item = self._queue.get(timeout=None if idle else TICK_SECONDS)
            while isinstance(item, _Submitted):
                batch.append(item)
                if len(batch) == BATCH:
                    return batch, None
                item = self._queue.get_nowait()
            return batch, item
        return batch, None

    def _write(self, batch: list[_Submitted]) -> None:
        self._answer(batch, self._make_durable([submitted.event for submitted in batch]))

    def _answer(self, batch: list[_Submitted], error: OSError | None) -> None:
        for submitted in batch:
            if not submitted.waiter.set_running_or_notify_cancel():
                continue
            if error is not None and self._block:
                submitted.waiter.set_exception(StoreUnavailableError(f"The audit event is not durable: {error}"))
            else:
                submitted.waiter.set_result(submitted.event)

    def _make_durable(self, events: list[AuditEvent]) -> OSError | None:
        """In the outbox, else in the spill file; why not, if in neither."""
        with _at_work:
            if time.monotonic() - self._adopted > ADOPT_SECONDS:  # what a process that ended meanwhile has left
                self._adopted = time.monotonic()
                self._backlog.adopt()
            if not self._backlog and self._try_deliver(events):
                return None
            error = self._backlog.add(events)
        if error is not None:
            logger.error("Neither the outbox nor the spill file takes events, they are held in memory: %s", error)
        return error

    def _move(self, *, force: bool, ending: bool = False) -> bool:
        """Move what waits to where it belongs, if this is the moment; whether nothing is left."""
        with _at_work:
            self._backlog.settle()
            if self._backlog:
                if not self._try_deliver(self._backlog.events, force=force, ending=ending):
                    return False
                self._backlog.clear()
            return self._seal_others(force=force, ending=ending)

    def _try_deliver(self, events: Sequence[AuditEvent], *, force: bool = False, ending: bool = False) -> bool:
        with self._moment(force=force, ending=ending) as now:
            return now and self._try(lambda: self._deliver(events))

    def _seal_others(self, *, force: bool, ending: bool) -> bool:
        if not self._to_seal.is_set():
            return True
        with self._moment(force=force, ending=ending) as now:
            if not now:
                return False
            self._to_seal.clear()
            if self._try(self._seal):
                return True
            self._to_seal.set()
            return False

    @contextmanager
    def _moment(self, *, force: bool, ending: bool) -> Iterator[bool]:
        """Whether we may write now: where there is a gate, only while it is free, unless it must be."""
        if self._gate is None:
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
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
        return False

    def _finish(self, flush: _Flush) -> None:
        """A process that ends forces nothing on the others: what it leaves is durable, and they adopt it."""
        with _at_work:
            self._backlog.adopt()
        self._to_seal.set()
        quiet_until = time.monotonic() + QUIET_SECONDS
        while not (moved := self._move(force=self._is_forced(flush, quiet_until), ending=flush.ending)):
            if self._hopeless or time.monotonic() > flush.deadline:
                break
            time.sleep(TICK_SECONDS)
        if moved:
            flush.waiter.set_result(None)
        else:
            flush.waiter.set_exception(
                StoreUnavailableError("Not everything could be sealed in time; it is durable, and is sealed later.")
            )

    def _is_forced(self, flush: _Flush, quiet_until: float) -> bool:
        return not flush.ending and time.monotonic() > quiet_until
