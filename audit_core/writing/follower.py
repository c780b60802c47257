"""The follower: the thread that seals, where the transaction that carries an event does not do so itself.

Whoever gets the chain's lock seals; the others look again a moment later.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

from audit_core.errors import AuditError, BusyError, StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.process.forking import lock_across_forks
from audit_core.process.threads import OwnThread, is_own_thread
from audit_core.writing.sealer import BATCH, Sealer

LOOK_SECONDS = 0.25  # how often to look for what other processes have committed
GATHER_SECONDS = 0.02  # after a commit of our own: a batch costs little more than a single event
LONGEST_PAUSE_SECONDS = 5.0  # between tries, while the store refuses
logger = logging.getLogger("audit_core")

_starting = lock_across_forks()


class Follower:
    """Seals what is committed, soon after it is. Its thread starts in the process that uses it."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._pid = 0
        self._refusal: str | None = None  # why the outbox takes nothing
        self.is_elsewhere = False  # this process's role may not seal: a process of another one does
        self._reset()

    def deliver(self, events: Sequence[AuditEvent]) -> None:
        """Commit ``events`` to the outbox. Raises StoreUnavailableError, ConfigurationError; and says so once."""
        try:
            self._sealer.deliver(events)
        except AuditError as error:
            if str(error) not in {self._refusal, self.trouble}:
                logger.warning("Events wait in this process: %s", error)
            self._refusal = str(error)
            raise
        self._refusal = None
        self.wake()

    def seal_some(self, limit: int) -> bool:
        """The writer's thread seals nothing here."""
        del limit
        self.wake()
        return False

    @property
    def running(self) -> bool:
        """Whether this process has its thread."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def wake(self) -> None:
        """Something was committed, or will be in a moment."""
        self.start()
        self._woken.set()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self.running or self.is_elsewhere:
            return
        with _starting:
            if not self.running:
                self._reset()
                self._pid = os.getpid()
                self._thread.start()

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until all that was committed before is sealed; not for other roles.

        Raises StoreUnavailableError when it is not; it is durable all the same.
        """
        self.start()
        with self._turn:
            wanted = self._begun + 1
            self._hurried = True
            self._woken.set()
            if not self._turn.wait_for(lambda: self._done >= wanted or self.is_elsewhere, timeout):
                why = f" ({self.trouble})" if self.trouble else ""
                raise StoreUnavailableError(f"Not everything could be sealed in time; it is durable and waits{why}.")

    def close(self, timeout: float) -> None:
        """Seal a last batch and end the thread; what is not sealed then waits for the next one who seals."""
        if self.running:
            self._stopped = True
            self._woken.set()
            if not is_own_thread():
                self._thread.join(timeout)

    def _reset(self) -> None:
        self._turn = threading.Condition()
        self._woken = threading.Event()
        self._begun = self._done = 0  # passes over the outbox
        self._hurried = self._stopped = False
        self.trouble: str | None = None
        self._thread = OwnThread(target=self._run, name="audit-sealer", daemon=True)

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not (self._stopped or self.is_elsewhere):
            if self._woken.wait(pause) and not (self._hurried or self._stopped):
                time.sleep(GATHER_SECONDS)
            self._woken.clear()
            pause = LOOK_SECONDS if self._pass() else min(LONGEST_PAUSE_SECONDS, 2 * pause)
        if not self.is_elsewhere:
            self._pass()  # what was committed while the last one ran, the event of the stop itself among it

    def _pass(self) -> bool:
        """One look; whether the next one comes as soon as usual."""
        with self._turn:
            self._begun += 1
            this, self._hurried = self._begun, False
        try:
            if self._sealer.chain.store.may_append():
                while self._sealer.seal_some(BATCH) and not self._stopped:
                    pass
            else:
                self.is_elsewhere = True
        except BusyError:
            return True
        except AuditError as error:
            if str(error) not in {self.trouble, self._sealer.trouble}:  # which the sealer has told
                logger.warning("Nothing is sealed until this is mended: %s", error)
            self.trouble = str(error)
            return False
        except Exception:  # nobody else in this process would seal
            logger.exception("The audit sealer goes on after an error that should not be.")
            return False
        if self.trouble:
            logger.warning("Events are sealed again.")
        self.trouble = None
        with self._turn:
            self._done = this
            self._turn.notify_all()
        return True
