"""The writer: one thread per process for events that belong to no transaction, one commit for all that wait.

What transactions of the application carry, it has sealed: in them, or soon after by the follower.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from audit_core.event import AuditEvent
from audit_core.outbox import Outbox
from audit_core.outbox.gate import Gate
from audit_core.outbox.tally import Tally
from audit_core.process.threads import OneThread
from audit_core.writing.backlog import Backlog
from audit_core.writing.counts import Counts
from audit_core.writing.follower import Follower
from audit_core.writing.inbox import Flush, Poke, Submitted
from audit_core.writing.sealer import Sealer
from audit_core.writing.writer_thread import WriterThread

logger = logging.getLogger("audit_core")


class Writer:
    """Takes events from any thread; tells each caller when its event is durable."""

    def __init__(
        self,
        sealer: Sealer,
        make_backlog: Callable[[Counts], Backlog],
        *,
        gate: Gate | None = None,
        block: bool = False,
        tally: Tally | None = None,
        greeting: Callable[[], AuditEvent] | None = None,
        started: Callable[[], None] | None = None,
    ) -> None:
        """``greeting`` makes the first event of every thread; ``started`` is told of each.

        Where nobody waits for his event, one commit gathers those of a moment, and a ``tally`` is kept of them.
        """
        self._sealer, self._make_backlog = sealer, make_backlog
        self._tally = tally
        self._gate, self._block, self._greeting, self._started = gate, block, greeting, started
        self._threads = OneThread(self._make_thread)
        self._counts = Counts()
        self.follower = None if sealer.chain.store.seals_in_transaction else Follower(sealer)

    @property
    def running(self) -> bool:
        """Whether this process has its thread, and that takes events."""
        return self._threads.running is not None

    @property
    def backlog(self) -> Backlog | None:
        """What this process owes to the outbox."""
        return threads[-1].backlog if (threads := self._threads.all) else None

    def counters(self) -> dict[str, int]:
        """What this process has written so far, and what it has not written yet."""
        threads, counts = self._threads.all, self._counts
        return {
            "written": counts.written,
            "spilled": counts.spilled,
            "lost": counts.lost,
            "failures": counts.failures,
            "queued": sum(len(thread.inbox) for thread in threads),
            "owed": sum(len(thread.backlog) for thread in threads),
        }

    def start(self) -> WriterThread:
        """The thread, started unless it runs."""
        if thread := self._threads.running:
            return thread
        thread = self._threads.start()
        if self.follower:
            self.follower.start()
        if self._started:
            self._started()
        return thread

    def submit(self, event: AuditEvent) -> Future[AuditEvent]:
        """Queue one event; the future holds it once it is durable."""
        submitted = self._submitted(event)
        self._put(submitted)
        return submitted.waiter

    def seal_carried(self, outbox: Outbox, connection: Any) -> None:
        """The application's transaction has put events into ``outbox``: seal them in it, or once it has committed."""
        if self.follower:
            self.follower.wake()
        elif outbox is self._sealer.outboxes[0]:
            self._sealer.seal_along(connection, also=self.backlog.hand_out(connection) if self.backlog else ())
        else:
            self._put(Poke())

    def look(self) -> None:
        """Seal what waits: what was in the way is not any more."""
        if self.running and not self.follower:
            self._put(Poke())

    def keep_sealing(self) -> None:
        """Seal what other processes commit too, where not whoever writes an event seals it."""
        if self.follower:
            self.follower.start()

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until everything submitted before is sealed.

        Raises StoreUnavailableError when the store does not take it; it is durable all the same.
        """
        flush = Flush(time.monotonic() + timeout)
        self._put(flush)
        flush.waiter.result()
        if self.follower:
            self.follower.flush(timeout)

    def close(self, timeout: float) -> None:
        """Seal what waits and end the threads; whatever is submitted from now on starts others.

        What cannot be sealed, because another process is busy with the file, is sealed by that one or the next.
        """
        for thread in self._threads.all:
            was_running = not thread.stopped
            thread.end(timeout)
            if was_running and (lost := thread.backlog.held):
                logger.error("%d events could be written neither to the outbox nor to the spill file.", len(lost))
        if self._tally:
            self._tally.close()
        if self.follower:
            self.follower.close(timeout)

    def _put(self, item: Submitted | Flush | Poke) -> None:
        while not self.start().inbox.put(item):
            pass  # somebody has closed it in between

    def _make_thread(self) -> WriterThread:
        sealer = self.follower or self._sealer
        backlog = self._make_backlog(self._counts)
        if self._tally:
            self._tally.open()
        thread = WriterThread(
            sealer, backlog, counts=self._counts, gate=self._gate, block=self._block, tally=self._tally,
            queued=self._sealer.drain is not None,
        )  # fmt: skip
        if self._greeting:
            thread.inbox.put(self._submitted(self._greeting()))
        return thread

    def _submitted(self, event: AuditEvent) -> Submitted:
        return Submitted(event, slot=self._tally.add() if self._tally else None)
