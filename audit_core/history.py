"""Reading: what is sealed and what still waits, as one stream."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from audit_core.chain.values import fill
from audit_core.errors import AuditError
from audit_core.event import AuditEvent
from audit_core.normalise import clean_text
from audit_core.outbox import Outbox
from audit_core.outbox.spill import peek
from audit_core.query import EventQuery, Place, matches, place_of
from audit_core.rows import from_row
from audit_core.stores import AuditStore
from audit_core.writing.backlog import Backlog

logger = logging.getLogger("audit_core")


class History:
    """Reads the store, the outboxes, the queue, and the spill files of every process or this process's backlog."""

    def __init__(
        self,
        store: AuditStore,
        outboxes: Sequence[Outbox],
        directory: Path | None,
        backlog: Callable[[], Backlog | None],
        queued: Callable[[], Iterator[AuditEvent]] | None = None,
    ) -> None:
        """``queued`` tells what waits in a queue."""
        self.store, self._outboxes, self._directory, self._backlog = store, outboxes, directory, backlog
        self._queued = queued
        self._trouble: str | None = None  # why what waits in the queue cannot be shown

    def select(self, query: EventQuery) -> Iterator[AuditEvent]:
        """Events that match, by time; what waits with the rest. Streams in constant memory."""
        waiting = [event for event in self.waiting() if matches(event, query)]
        known = self.store.known([event.event_id for event in waiting])
        waiting = [event for event in waiting if event.event_id not in known]
        sealed = fill(map(from_row, self.store.select(query)), self.store)
        if not waiting:
            return sealed
        waiting.sort(key=place_of, reverse=query.newest_first)
        return without_repeats(heapq.merge(waiting, sealed, key=place_of, reverse=query.newest_first))

    def waiting(self) -> Iterator[AuditEvent]:
        """Events that are committed and not yet sealed; one that is just being sealed may be among them."""
        for outbox in self._outboxes:
            yield from outbox.waiting()
        if self._queued:
            yield from self._in_queue(self._queued)
        if self._directory:
            yield from peek(self._directory)
        if backlog := self._backlog():  # what this process could write nowhere, or, without a folder, all of it
            yield from backlog.held if self._directory else backlog.events

    def _in_queue(self, queued: Callable[[], Iterator[AuditEvent]]) -> Iterator[AuditEvent]:
        """What is sealed can be read while the queue is away."""
        try:
            yield from queued()
        except AuditError as error:
            if str(error) != self._trouble:
                logger.warning("What waits in the queue is not shown: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = None

    def find(self, event: str | int) -> AuditEvent | None:
        """One event, by its id or its sequence."""
        if (found := self._sealed(event)) is not None:
            return found
        waiting = next((one for one in self.waiting() if one.event_id == event), None)
        return waiting or self._sealed(event)  # which it may have become between the two looks

    def _sealed(self, event: str | int) -> AuditEvent | None:
        row = self.store.row(event) if isinstance(event, int) else self.store.find(clean_text(event))
        return None if row is None else next(fill([from_row(row)], self.store))

    def place(self, event_id: str) -> Place:
        """Where the event stands. Raises LookupError when there is none."""
        if (event := self.find(event_id)) is None:
            raise LookupError(f"There is no event {event_id} to begin after.")
        return place_of(event)


def without_repeats(events: Iterable[AuditEvent]) -> Iterator[AuditEvent]:
    """An event may be sealed between reading what waits and reading what is sealed."""
    seen: set[str] = set()
    moment: datetime | None = None
    for event in events:
        if event.timestamp != moment:
            seen, moment = set(), event.timestamp
        if event.event_id not in seen:
            yield event
        seen.add(event.event_id)
