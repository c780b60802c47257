"""The thread that seals. Whoever gets the chain's lock seals; the others look again a moment later."""

from __future__ import annotations

import logging
import queue
from contextlib import suppress

from audit_core.errors import AuditError, BusyError, QueueUnavailableError, RefusedError
from audit_core.process.threads import OwnThread
from audit_core.writing.sealer import BATCH, Sealer

LOOK_SECONDS = 0.25  # how often to look for what other processes have committed
GATHER_SECONDS = 0.1  # after a commit of our own: a batch costs little more than a single event
LONGEST_PAUSE_SECONDS = 5.0  # between tries, while the store refuses
logger = logging.getLogger("audit_core")


class FollowerThread(OwnThread):
    """Seals until it is stopped, or its role may not. Nobody holds a lock here: see ``Inbox``."""

    def __init__(self, sealer: Sealer) -> None:
        super().__init__("audit-sealer")
        self._sealer = sealer
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._urgent: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._begun = self.done = 0  # passes over the outbox
        self.is_elsewhere = False  # this process's role may not seal: a process of another one does
        self.trouble: str | None = None
        self.other_sealer: str | None = None  # who was at work when this one last looked

    def wake(self) -> None:
        """There is something to seal."""
        _call(self._calls)

    def hurry(self) -> int:
        """Seal at once; the number of the first pass that sees all that is committed now."""
        wanted = self._begun + 1
        self._urge()
        return wanted

    def stop(self) -> None:
        """End after a last pass."""
        super().stop()
        self._urge()

    def _urge(self) -> None:
        _call(self._urgent)  # first: who has heard the other one waits for this one, to gather
        _call(self._calls)

    def work(self) -> None:
        """One pass after another."""
        pause = LOOK_SECONDS
        while not (self.stopped or self.is_elsewhere):
            if _is_called(self._calls, pause):
                _is_called(self._urgent, GATHER_SECONDS)
                _is_called(self._calls, 0)
            self.rest()
            pause = LOOK_SECONDS if self._pass() else min(LONGEST_PAUSE_SECONDS, 2 * pause)
        if not self.is_elsewhere:
            self._pass()  # what was committed while the last one ran, the event of the stop itself among it

    def _pass(self) -> bool:
        """One look; whether the next one comes as soon as usual."""
        self._begun += 1
        this = self._begun
        try:
            self._sealer.tables.make_ready()
            if self._sealer.chain.store.may_append():
                while self._sealer.seal_some(BATCH) and not self.stopped:
                    pass
            else:
                self.is_elsewhere = True
        except BusyError as error:
            self.other_sealer = str(error)
            return True
        except AuditError as error:
            self.rest()
            is_queue = isinstance(error, QueueUnavailableError)  # the drain has told of it
            if not (is_queue or str(error) in {self.trouble, self._sealer.trouble}):  # which the sealer has told
                what = "Some events are not" if isinstance(error, RefusedError) else "Nothing is"
                logger.warning("%s sealed until this is mended: %s", what, error)
            self.trouble = str(error)
            return is_queue  # what waits in databases is sealed as soon as ever
        except Exception:  # nobody else in this process would seal
            logger.exception("The audit sealer goes on after an error that should not be.")
            return False
        if self.trouble:
            logger.warning("Events are sealed again.")
        self.trouble = self.other_sealer = None
        self.done = this
        return True


def _call(calls: queue.SimpleQueue[None]) -> None:
    """One is enough, however many call."""
    if calls.empty():
        calls.put(None)


def _is_called(calls: queue.SimpleQueue[None], timeout: float) -> bool:
    """Whether somebody calls within ``timeout`` seconds."""
    with suppress(queue.Empty):
        calls.get(timeout=timeout)
        return True
    return False
