"""The sealer: gives what is committed its place in the chain, and removes it from the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from audit_core.chain import AuditChain
from audit_core.draft import EVENT_ID, Draft, draft_of_row
from audit_core.errors import (
    AuditError,
    BusyError,
    ConfigurationError,
    IntegrityError,
    LockedError,
    QueueUnavailableError,
    RefusedError,
)
from audit_core.event import AuditEvent
from audit_core.outbox import Outbox, Waiting, may_be_more
from audit_core.waiting import draft_or_unreadable, read_draft, unreadable_draft
from audit_core.writing.drain import Drain
from audit_core.writing.refusal import Refusal
from audit_core.writing.tables import Tables

BATCH = 10_000  # events that one transaction of ours seals, in about a third of a second
ALONG = 200  # of those that wait, what one transaction seals while requests wait for it
REFUSED_AT_MOST = 10  # events that are looked for one by one, at each pass: where it is more, the others wait, too
PAUSE_SECONDS = 1.0  # while nothing can be sealed, the application's transactions try no oftener
logger = logging.getLogger("audit_core")


class Sealer:
    """Moves events from the outboxes into the chain, oldest first, each exactly once.

    Outbox and store in one database: one transaction moves the batch. In two: first append, then remove; after a
    crash between the two, the second try finds the event's id in the chain and only removes it.
    """

    def __init__(self, chain: AuditChain, outboxes: Sequence[Outbox], tables: Tables) -> None:
        """The ``tables`` are of the chain's store and these outboxes, and know the queue, where there is one."""
        self.chain, self.outboxes, self.tables = chain, outboxes, tables
        self.drain = Drain(tables.queue, chain, outboxes[0]) if tables.queue else None
        self.trouble: str | None = None  # why nothing is sealed just now
        self._next_try = 0.0
        self._refusal = Refusal("the outbox")
        self._appended = False  # in the transaction that is open

    def seal(self) -> None:
        """Seal all that is committed. Raises what ``AuditChain.append`` raises, and StoreUnavailableError."""
        while self.seal_some(BATCH):
            pass

    def seal_some(self, limit: int) -> bool:
        """Seal at most ``limit`` of what each outbox has committed; whether there may be more."""
        self.tables.make_ready()
        with self._telling():
            outboxes = enumerate(self.outboxes)
            moved = [self._move_all(number, outbox, limit) for number, outbox in outboxes]
            try:
                moved.append(self._move_queued(limit))
            except QueueUnavailableError:
                if not any(moved):  # what waits in databases comes first
                    raise
        return any(moved)

    def deliver(self, events: Sequence[AuditEvent]) -> None:
        """Commit ``events`` in a transaction of our own, sealed if they can be; or to the queue, where there is one.

        Raises StoreUnavailableError.
        """
        if self.drain:
            self.tables.make_ready(self.tables.of_queue)
            self.drain.deliver(events)
            return
        if not self.outboxes:
            raise ConfigurationError("There is no outbox to write to: name one with AuditTrail(url, outbox=...).")
        self.tables.make_ready(self.tables.of_outbox(0))  # no other one: it may be away for longer
        if not self.chain.store.seals_in_transaction:
            self.outboxes[0].commit(events)
            return
        with self._refusal.told(passing=LockedError), self.chain.store.transaction() as connection:
            try:
                with self._telling(), self.chain.store.savepoint(connection):
                    self._move(connection, ALONG, also=events)
            except (ConfigurationError, IntegrityError, BusyError):
                self.outboxes[0].put(events, connection)

    def seal_along(self, connection: Any, *, also: Sequence[AuditEvent] = ()) -> None:
        """Seal what waits in the trail's own database, and ``also``, in the transaction of the application.

        Where that cannot be done, its events stay in the outbox, the reason is logged, and the transaction goes on.
        """
        if self.trouble and time.monotonic() < self._next_try:
            return
        with suppress(AuditError), self._telling(), self.chain.store.savepoint(connection):
            self._move(connection, ALONG, also=also)

    def _move_queued(self, limit: int) -> bool:
        if self.drain is None:
            return False
        self.tables.make_ready(self.tables.of_queue)
        return self.drain.move(limit, self._append, self._own_transaction)

    def _move_all(self, number: int, outbox: Outbox, limit: int) -> bool:
        self.tables.make_ready(self.tables.of_outbox(number))
        try:
            return self._move_own(limit) if self._is_own(outbox) else self._move_foreign(outbox, limit)
        except RefusedError as error:
            self._move_around(outbox, limit, error)

    def _move_around(self, outbox: Outbox, limit: int, error: RefusedError) -> NoReturn:
        """Seal what is not refused. What is refused stays where it is, and is named: nothing else has kept it."""
        own = self._is_own(outbox)
        with self._own_transaction() as connection:
            waiting = outbox.take(limit, connection if own else None)
            refused: list[Any] = []
            done = self._seal_in_parts(waiting, connection, refused)
            if own:
                outbox.remove(done, connection)
        if not own:
            outbox.remove(done)
        raise RefusedError(f"{error} Left in the outbox for now: {', '.join(map(str, refused))}.") from error

    def _seal_in_parts(self, waiting: Sequence[Waiting], connection: Any, refused: list[Any]) -> list[Any]:
        """The ids of what was sealed: halves of halves, until those that are ``refused`` are alone, or too many."""
        if len(refused) >= REFUSED_AT_MOST:
            return []
        try:
            with self.chain.store.savepoint(connection):
                self._append([read_draft(w.event) for w in waiting], connection)
        except RefusedError:
            if len(waiting) == 1:
                refused.append(waiting[0].id)
                return []
            middle = len(waiting) // 2
            first = self._seal_in_parts(waiting[:middle], connection, refused)
            return first + self._seal_in_parts(waiting[middle:], connection, refused)
        return [w.id for w in waiting]

    def _is_own(self, outbox: Outbox) -> bool:
        return self.tables.own and outbox is self.outboxes[0]

    def _move_own(self, limit: int) -> bool:
        if not self.outboxes[0].take(1):  # an idle look locks nothing
            return False
        with self._own_transaction() as connection:
            return self._move(connection, limit)

    def _move(self, connection: Any, limit: int, also: Sequence[AuditEvent] = ()) -> bool:
        waiting = self.outboxes[0].take(limit, connection)
        self._append([*(read_draft(w.event) for w in waiting), *map(draft_or_unreadable, also)], connection)
        self.outboxes[0].remove([w.id for w in waiting], connection)
        return may_be_more(waiting, limit)

    def _move_foreign(self, outbox: Outbox, limit: int) -> bool:
        if not (waiting := outbox.take(limit)):
            return False
        with self._own_transaction() as connection:
            self._append([read_draft(w.event) for w in waiting], connection)
        # A crash here leaves the batch in both places; the next try skips what is known and removes it.
        outbox.remove([w.id for w in waiting])
        return may_be_more(waiting, limit)

    def _append(self, drafts: Sequence[Draft], connection: Any) -> None:
        if new := self._new(drafts, connection):
            self.chain.append_drafts(new, connection)
            self._appended = True

    def _new(self, drafts: Sequence[Draft], connection: Any) -> list[Draft]:
        """Each event once, without those that an interrupted try has sealed already.

        Another event that has taken the id of one is no repetition, and is told.
        """
        once: dict[str, Draft] = {}
        for draft in drafts:
            once.setdefault(draft[EVENT_ID], draft)
        known = self.chain.store.known(once, connection) if once else set()
        sealed = {
            event_id: draft_of_row(row) for event_id in known if (row := self.chain.store.find(event_id, connection))
        }
        first = once | sealed
        others = dict.fromkeys(draft for draft in drafts if draft != first[draft[EVENT_ID]])
        new = [draft for event_id, draft in once.items() if event_id not in known]
        return [*new, *(unreadable_draft(repr(draft)) for draft in others)]

    @contextmanager
    def _own_transaction(self) -> Iterator[Any]:
        self._appended = False
        with self.chain.store.transaction() as connection:
            yield connection
        if self._appended and not self.chain.store.seals_in_transaction:  # where a replica may take a server's place
            self.chain.confirm()

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
