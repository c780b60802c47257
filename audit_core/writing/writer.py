"""The writer: one thread per process for events that belong to no transaction, one commit for all that wait.

Its thread starts in the process that uses it: a thread started before a fork is dead in the child.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future

from audit_core.event import AuditEvent
from audit_core.outbox.gate import Gate
from audit_core.process.forking import lock_across_forks
from audit_core.writing.backlog import Backlog
from audit_core.writing.follower import Follower
from audit_core.writing.inbox import Flush, Poke, Submitted
from audit_core.writing.sealer import Sealer
from audit_core.writing.writer_thread import WriterThread

logger = logging.getLogger("audit_core")

_starting = lock_across_forks()  # a fork waits for the start of a thread


class Writer:
    """Takes events from any thread; tells each caller when its event is durable."""

    def __init__(
        self,
        sealer: Sealer | Follower,
        make_backlog: Callable[[], Backlog],
        *,
        gate: Gate | None = None,
        block: bool = False,
        greeting: Callable[[], AuditEvent] | None = None,
        started: Callable[[], None] | None = None,
    ) -> None:
        """``greeting`` makes the first event of every thread; ``started`` is told of each."""
        self._sealer, self._make_backlog = sealer, make_backlog
        self._gate, self._block, self._greeting, self._started = gate, block, greeting, started
        self._thread: WriterThread | None = None
        self._pid = 0

    @property
    def running(self) -> bool:
        """Whether this process has its thread, and that takes events."""
        return self._running_thread() is not None

    @property
    def backlog(self) -> Backlog | None:
        """What this process owes to the outbox."""
        return self._thread.backlog if self._thread and self._pid == os.getpid() else None

    def start(self) -> None:
        """Start the thread, unless it runs."""
        self._start()

    def submit(self, event: AuditEvent) -> Future[AuditEvent]:
        """Queue one event; the future holds it once it is durable."""
        submitted = Submitted(event)
        self._put(submitted)
        return submitted.waiter

    def poke(self) -> None:
        """There is something to seal in an outbox that no transaction of ours touches."""
        self._put(Poke())

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until everything submitted before is sealed.

        Raises StoreUnavailableError when the store does not take it; it is durable all the same.
        """
        flush = Flush(time.monotonic() + timeout)
        self._put(flush)
        flush.waiter.result()

    def close(self, timeout: float) -> None:
        """Seal what waits and end the thread; whatever is submitted from now on starts another one.

        What cannot be sealed, because another process is busy with the file, is sealed by that one or the next.
        """
        thread, was_running = self._thread, self.running
        if thread is None or self._pid != os.getpid():
            return
        thread.end(timeout)
        if was_running and (lost := thread.backlog.held):
            logger.error("%d events could be written neither to the outbox nor to the spill file.", len(lost))

    def _put(self, item: Submitted | Flush | Poke) -> None:
        while not self._start().inbox.put(item):
            pass  # somebody has closed it in between

    def _start(self) -> WriterThread:
        if thread := self._running_thread():
            return thread
        with _starting:
            if thread := self._running_thread():
                return thread
            thread = WriterThread(self._sealer, self._make_backlog(), gate=self._gate, block=self._block)
            if self._greeting:
                thread.inbox.put(Submitted(self._greeting()))
            thread.start()
            self._thread, self._pid = thread, os.getpid()
            if self._started:
                self._started()
            return thread

    def _running_thread(self) -> WriterThread | None:
        thread = self._thread
        if thread is None or self._pid != os.getpid() or not thread.is_alive() or thread.inbox.closed:
            return None
        return thread
