"""The sealer: gives what is committed its place in the chain, and removes it from the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from audit_core.canonical import encode_record
from audit_core.chain import AuditChain
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.link import GENESIS_HASH
from audit_core.outbox import Outbox
from audit_core.rows import to_row
from audit_core.waiting import read_waiting, unreadable

BATCH = 5_000  # events that one transaction of ours seals
ALONG = 200  # of those that wait, what one transaction seals while requests wait for it
PAUSE_SECONDS = 1.0  # while nothing can be sealed, the application's transactions try no oftener
logger = logging.getLogger("audit_core")


class Sealer:
    """Moves events from the outboxes into the chain, oldest first, each exactly once.

    Outbox and store in one database: one transaction moves the batch. In two: first append, then remove; after a
    crash between the two, the second try finds the event's id in the chain and only removes it.
    """

    def __init__(self, chain: AuditChain, outboxes: Sequence[Outbox]) -> None:
        self.chain = chain
        self.outboxes = outboxes
        self.trouble: str | None = None  # why nothing is sealed just now
        self._next_try = 0.0

    def seal(self) -> None:
        """Seal all that is committed. Raises what ``AuditChain.append`` raises, and StoreUnavailableError."""
        while self.seal_some(BATCH):
            pass

    def seal_some(self, limit: int) -> bool:
        """Seal at most ``limit`` of what is committed, in one transaction; whether there was anything."""
        with self._telling():
            return any(
                self._move_own(limit) if outbox is self.outboxes[0] else self._move_foreign(outbox, limit)
                for outbox in self.outboxes
            )

    def deliver(self, events: Sequence[AuditEvent]) -> None:
        """Commit ``events`` in a transaction of our own, sealed if they can be. Raises StoreUnavailableError."""
        with self.chain.store.transaction() as connection:
            try:
                with self._telling():
                    self._move(connection, ALONG, also=events)
            except (ConfigurationError, IntegrityError):
                self.outboxes[0].put(events, connection)

    def seal_along(self, connection: Any, *, also: Sequence[AuditEvent] = ()) -> None:
        """Seal what waits in the trail's own database, and ``also``, in the transaction of the application.

        Where that cannot be done, its events stay in the outbox, the reason is logged, and the transaction goes on.
        """
        if self.trouble and time.monotonic() < self._next_try:
            return
        with suppress(AuditError), self._telling(), self.chain.store.savepoint(connection):
            self._move(connection, ALONG, also=also)

    def _move_own(self, limit: int) -> int:
        if not self.outboxes[0].take(1):  # an idle look writes nothing
            return 0
        with self.chain.store.transaction() as connection:
            return self._move(connection, limit)

    def _move(self, connection: Any, limit: int, also: Sequence[AuditEvent] = ()) -> int:
        waiting = self.outboxes[0].take(limit, connection)
        self._append([*(read_waiting(w.event) for w in waiting), *also], connection)
        self.outboxes[0].remove([w.id for w in waiting], connection)
        return len(waiting)

    def _move_foreign(self, outbox: Outbox, limit: int) -> int:
        if not (waiting := outbox.take(limit)):
            return 0
        with self.chain.store.transaction() as connection:
            self._append([read_waiting(w.event) for w in waiting], connection)
        # A crash here leaves the batch in both places; the next try skips what is known and removes it.
        outbox.remove([w.id for w in waiting])
        return len(waiting)

    def _append(self, events: Sequence[AuditEvent], connection: Any) -> None:
        if not (new := self._new(events, connection)):
            return
        try:
            self.chain.append(new, connection)
        except (TypeError, ValueError):  # somebody wrote to the outbox what we would not have
            self.chain.append([event if _is_sound(event) else unreadable(repr(event)) for event in new], connection)

    def _new(self, events: Sequence[AuditEvent], connection: Any) -> list[AuditEvent]:
        """Each event once, without those that an interrupted try has sealed already."""
        once = {event.event_id: event for event in events}
        known = self.chain.store.known(once, connection) if once else set()
        return [event for event_id, event in once.items() if event_id not in known]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Log once why nothing is sealed, and keep it for the status."""
        try:
            yield
        except (ConfigurationError, IntegrityError) as error:
            if str(error) != self.trouble:
                logger.error("Nothing is sealed: %s", error)  # noqa: TRY400 - the sentence is enough
            self.trouble, self._next_try = str(error), time.monotonic() + PAUSE_SECONDS
            raise
        else:
            self.trouble = None


def _is_sound(event: AuditEvent) -> bool:
    try:
        encode_record(to_row(event, 0, GENESIS_HASH), "")
    except (TypeError, ValueError):
        return False
    return True
