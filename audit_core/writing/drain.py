"""The drain: moves what waits in a queue into the chain, and tells what the queue has lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from audit_core.canonical import format_timestamp
from audit_core.chain import AuditChain
from audit_core.draft import Draft, draft_of, event_of
from audit_core.errors import ConfigurationError, QueueUnavailableError, RefusedError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.outbox import Outbox
from audit_core.outbox.queue import FORGET_DAYS, PLACE, Loss, Queue, Taken, missing, senders_of
from audit_core.stores.positions import KeepsPositions, Position
from audit_core.waiting import read_draft
from audit_core.writing.refusal import Refusal

PAUSE_SECONDS = 1.0  # between tries, while the queue refuses
LONGEST_PAUSE_SECONDS = 20.0  # where each try takes long
logger = logging.getLogger("audit_core")

Keep: TypeAlias = Callable[[Sequence[Draft], Any], None]
Transaction: TypeAlias = Callable[[], AbstractContextManager[Any]]


class Drain:
    """Takes from ``queue`` what was not taken before, in the transaction that seals it: each event once.

    What the store refuses (a constraint that somebody has added, say) goes into ``aside``, the outbox of the store's
    own database, so that it does not hold up what comes behind it.
    """

    def __init__(self, queue: Queue, chain: AuditChain, aside: Outbox) -> None:
        """The chain's store keeps positions."""
        self.queue, self._chain, self._aside = queue, chain, aside
        self._claimed = False
        self._refused = Refusal("the queue")
        self._refusal: str | None = None  # why it gives nothing
        self._ask_at = 0.0

    @property
    def _positions(self) -> KeepsPositions:
        store = self._chain.store
        assert isinstance(store, KeepsPositions)  # noqa: S101 - the trail has looked when it was made
        return store

    def place(self) -> str | None:
        """How far the queue was read; None where it never was."""
        found = self._positions.positions(self.queue.key, [PLACE])
        return found[PLACE].value if found else None

    def waiting(self) -> Iterator[AuditEvent]:
        """Every event that waits in the queue, oldest first, in constant memory. Raises what queue and store raise."""
        return self.queue.waiting_after(self.place())

    def deliver(self, events: Sequence[AuditEvent]) -> None:
        """Put events into the queue, all or none. Raises what the queue raises; and says so once."""
        with self._refused.told(known=lambda: self._refusal):
            self.queue.commit(events)

    def move(self, limit: int, append: Keep, transaction: Transaction) -> bool:
        """Move at most ``limit`` events; whether there may be more. Raises what queue and store raise."""
        place = self.place()
        with self._asking():
            has_news = self.queue.has_news(place)
        if not has_news:  # an idle look writes nothing
            return False
        self._claim()
        try:
            return self._move(limit, append, transaction)
        except RefusedError:
            return self._move(limit, self._put_aside, transaction)

    def _move(self, limit: int, keep: Keep, transaction: Transaction) -> bool:
        before, taken = self.place(), None
        if self._chain.store.seals_in_transaction:  # the application's file is not locked while a queue is slow
            taken = self._take(before, limit)
        with transaction() as connection:
            kept = self._positions.positions(self.queue.key, [PLACE], connection).get(PLACE)
            place = kept.value if kept else None
            if taken is None:
                taken = self._take(place, limit)
            elif place != before:
                return True  # somebody else was faster: look again
            self._move_taken(taken, kept, keep, connection)
        # A crash here leaves in the queue what is sealed: the next look finds it in the chain, and removes it.
        with self._asking():
            self.queue.remove([waiting.id for waiting in taken.waiting])
        if not self._claimed:  # the trail has begun with these
            self._claim()
            return self._claimed or taken.cut
        return taken.cut

    def _take(self, place: str | None, limit: int) -> Taken:
        with self._asking():
            return self.queue.take_after(place, limit)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """A queue that is away, or refuses, is asked again after a while: what waits in databases goes on."""
        if self._refusal and time.monotonic() < self._ask_at:
            raise QueueUnavailableError(self._refusal)
        began = time.monotonic()
        try:
            yield
        except (QueueUnavailableError, ConfigurationError) as error:
            if str(error) not in {self._refused.why, self._refusal}:
                logger.warning("What waits in the queue is not sealed until this is mended: %s", error)
            self._refusal, now = str(error), time.monotonic()
            self._ask_at = now + min(LONGEST_PAUSE_SECONDS, max(PAUSE_SECONDS, 4 * (now - began)))
            raise QueueUnavailableError(self._refusal) from error
        self._refusal = None

    def _claim(self) -> None:
        """Two trails that take from one queue would each lack events."""
        if not self._claimed:
            origin = self._chain.origin
            with self._asking():
                self.queue.claim(origin)
            self._claimed = origin is not None

    def _move_taken(self, taken: Taken, kept: Position | None, keep: Keep, connection: Any) -> None:
        key = self.queue.key
        senders = senders_of(taken.marks)
        heard = self._positions.positions(key, senders, connection) if senders else {}
        lost, now = missing(taken.marks, {sender: found.value for sender, found in heard.items()})
        if kept is None and not taken.is_whole:  # others have looked before, and what they took is not missing
            lost = {}
        told = [*self._told(taken, kept), *self._told_of(lost, heard, kept)]
        keep([*told, *(read_draft(waiting.event) for waiting in taken.waiting)], connection)
        changed = {
            sender: value for sender, value in now.items() if sender not in heard or heard[sender].value != value
        }
        if kept is None or kept.value != taken.place:
            changed[PLACE] = taken.place
        if changed:
            self._positions.keep_positions(key, changed, connection)
        if now.keys() - heard.keys():
            old = format_timestamp(datetime.now(UTC) - timedelta(days=FORGET_DAYS))
            self._positions.forget_positions(key, old, connection)

    def _told(self, taken: Taken, kept: Position | None) -> Iterator[Draft]:
        since = kept.kept_at if kept else None
        for note in taken.notes:
            yield _own_event("queue.restarted", Outcome.SUCCESS, {"queue": self.queue.name, **note})
        for loss in taken.losses:
            yield _gap(self.queue.name, loss, since)

    def _told_of(
        self, lost: Mapping[str, int], heard: Mapping[str, Position], kept: Position | None
    ) -> Iterator[Draft]:
        for sender, count in lost.items():
            since = heard[sender].kept_at if sender in heard else kept.kept_at if kept else None
            why = f"What process {sender} has sent, and the queue has acknowledged, is not there."
            yield _gap(self.queue.name, Loss(count, why), since)

    def _put_aside(self, drafts: Iterable[Draft], connection: Any) -> None:
        self._aside.put([event_of(draft) for draft in drafts], connection)


def _gap(queue: str, loss: Loss, since: str | None) -> Draft:
    until = format_timestamp(datetime.now(UTC))
    details = {"lost": loss.events, "since": since or until, "until": until, "queue": queue, "why": loss.why}
    return _own_event("trail.gap", Outcome.FAILURE, details)


def _own_event(action: str, outcome: Outcome, details: dict[str, Any]) -> Draft:
    return draft_of(
        AuditEvent(
            event_id=new_event_id(),
            timestamp=datetime.now(UTC),
            action=action,
            actor_type=ActorType.SYSTEM.value,
            outcome=outcome.value,
            details=details,
        )
    )
