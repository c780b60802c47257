"""The follower: seals, where the transaction that carries an event does not do so itself."""

from __future__ import annotations

from collections.abc import Sequence

from audit_core.errors import QueueUnavailableError, StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.process.threads import OneThread, is_own_thread, wait_until
from audit_core.writing.follower_thread import FollowerThread
from audit_core.writing.refusal import Refusal
from audit_core.writing.sealer import Sealer


class Follower:
    """Seals what is committed, soon after it is. Its thread starts in the process that uses it."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._threads = OneThread(lambda: FollowerThread(sealer))
        self._refusal = Refusal("the outbox")

    def deliver(self, events: Sequence[AuditEvent]) -> None:
        """Commit ``events`` to the outbox. Raises StoreUnavailableError, ConfigurationError; and says so once."""
        # Of a queue the drain tells.
        with self._refusal.told(passing=QueueUnavailableError, known=lambda: self.trouble):
            self._sealer.deliver(events)
        self.wake()

    def seal_some(self, limit: int) -> bool:
        """The writer's thread seals nothing here."""
        del limit
        self.wake()
        return False

    def wake(self) -> None:
        """Something was committed, or will be in a moment."""
        if not is_own_thread():  # which must not wait for a start that a signal handler has interrupted
            self.start()
        for thread in self._threads.all:
            thread.wake()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if not self.is_elsewhere:
            self._threads.start()

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until all that was committed before is sealed; not for other roles.

        Raises StoreUnavailableError when it is not; it is durable all the same.
        """
        self.start()
        if (thread := self._threads.running) is None:
            return
        wanted = thread.hurry()
        if not wait_until(lambda: thread.done >= wanted or thread.is_elsewhere, timeout):
            trouble = thread.trouble or thread.other_sealer
            why = f" ({trouble})" if trouble else ""
            raise StoreUnavailableError(f"Not everything could be sealed in time; it is durable and waits{why}.")

    def close(self, timeout: float) -> None:
        """Seal a last batch and end the thread; what is not sealed then waits for the next one who seals."""
        for thread in self._threads.all:
            thread.stop()
            thread.wait(timeout)

    @property
    def trouble(self) -> str | None:
        """Why nothing is sealed just now."""
        return next((thread.trouble for thread in self._threads.all if thread.trouble), None)

    @property
    def is_elsewhere(self) -> bool:
        """Whether this process's role may not seal: a process of another one does."""
        return any(thread.is_elsewhere for thread in self._threads.all)
