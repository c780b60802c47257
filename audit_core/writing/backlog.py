"""Events that the outbox did not take: durable in the spill file, or held in memory while even that refuses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from audit_core.errors import AuditError
from audit_core.event import AuditEvent
from audit_core.outbox.left import Lost
from audit_core.outbox.spill import SpillFile, orphans
from audit_core.outbox.tally import losses
from audit_core.sqlite import commits_durably
from audit_core.writing.counts import Counts

HELD_AT_MOST = 10_000  # events in memory; what is lost beyond them is counted
CARRIED_AT_ONCE = 200  # events that one transaction of the application takes along
PATIENCE_SECONDS = 60.0  # after that they are written whether the moment is quiet or not
logger = logging.getLogger("audit_core")

MakeGap = Callable[[int, datetime, datetime], AuditEvent]


class Backlog:
    """What one process owes to the outbox, oldest first. Only the writer's thread changes it."""

    def __init__(
        self,
        directory: Path | None,
        known: Callable[[Iterable[str]], set[str]],
        make_gap: MakeGap,
        counts: Counts | None = None,
    ) -> None:
        """``known`` tells which ids are in the chain; ``make_gap`` makes the event that says what was lost."""
        self._directory, self._known, self._make_gap = directory, known, make_gap
        self._counts = counts or Counts()
        self._spill = SpillFile(directory) if directory else None
        self._held: list[AuditEvent] = []
        self._gap: tuple[int, datetime, datetime] | None = None
        self._since = 0.0
        self._handed_out = False
        self._adopts = True  # whether the last try to adopt went well
        self._refused = 0  # events that the spill file did not take since it began to refuse them
        self._lost = 0  # of those, what did not fit into memory

    def __bool__(self) -> bool:
        return bool(self._spilled or self._held or self._gap)

    def __len__(self) -> int:
        return len(self._spilled) + len(self._held)

    @property
    def events(self) -> list[AuditEvent]:
        """All of them, the event of a gap last."""
        return [*self._spilled, *self._held, *([self._make_gap(*self._gap)] if self._gap else [])]

    @property
    def held(self) -> list[AuditEvent]:
        """Those that are durable nowhere."""
        return self._held

    @property
    def overdue(self) -> bool:
        """Whether they have waited long enough for a quiet moment."""
        return bool(self) and time.monotonic() - self._since > PATIENCE_SECONDS

    @property
    def last(self) -> str | None:
        """The id of the newest one; they are written in their order."""
        self._tell_gap()
        return next((event.event_id for event in reversed([*self._spilled, *self._held])), None)

    def holds(self, event_id: str | None) -> bool:
        """Whether it is one of them."""
        return any(event.event_id == event_id for event in [*self._spilled, *self._held])

    def oldest(self, limit: int) -> list[AuditEvent]:
        """The next ones to write."""
        if not self._spilled and not self._held:
            self._tell_gap()
        return (self._spilled or self._held)[:limit]

    def add(self, events: Sequence[AuditEvent]) -> OSError | None:
        """Make the events durable in the spill file; where that fails, hold them and return why."""
        try:
            self._keep(events)
        except OSError as error:
            self._refuse(events, error)
            return error
        return None

    def adopt(self) -> None:
        """Take over what dead processes left."""
        if self._spill is None or self._directory is None or not self._directory.is_dir():
            return
        try:
            with orphans(self._directory, own=self._spill.path) as (events, torn), losses(self._directory) as lost:
                gaps = [self._gap_of(each) for each in [*torn, *lost]]
                if events or gaps:
                    self._keep([*events, *gaps])
            if torn:
                logger.error("%d lines of audit spill files cannot be read.", sum(each.number for each in torn))
            if lost:
                logger.error("%d events of processes that were killed are lost.", sum(each.number for each in lost))
            self._adopts = True
        except OSError:
            if self._adopts:
                logger.exception("The spill files of earlier processes cannot be taken over just now; they stay.")
            self._adopts = False

    def hand_out(self, connection: Any) -> list[AuditEvent]:
        """Events for the application's transaction to take along; they stay until it is seen to have committed.

        None where that commit may not survive a power cut: here they would.
        """
        if not self._spilled or not commits_durably(connection):
            return []
        self._handed_out = True
        return self._spilled[:CARRIED_AT_ONCE]

    def settle(self) -> None:
        """Forget those that a transaction of the application has taken along, and committed."""
        if not self._handed_out or self._spill is None:
            return
        self._handed_out = False
        try:
            sealed = self._known([event.event_id for event in self._spilled[:CARRIED_AT_ONCE]])
        except AuditError:
            self._handed_out = True
            return
        if sealed:
            self._since = time.monotonic()
            self._spill.remove(sealed)

    def remove(self, events: Sequence[AuditEvent]) -> None:
        """They are in the outbox."""
        ids = {event.event_id for event in events}
        self._held = [event for event in self._held if event.event_id not in ids]
        # A crash here leaves sealed events in the spill file: the next process finds their ids and skips them.
        if self._spill:
            self._spill.remove(ids)
        self._recover()

    def abandon(self) -> None:
        """Leave the spill file to the next process."""
        if self._spill:
            self._spill.abandon()

    def hold(self, events: Sequence[AuditEvent]) -> None:
        """Keep events in memory; what does not fit is counted, and becomes the event of a gap."""
        room = max(0, HELD_AT_MOST - len(self._held))
        self._held = [*self._held, *events[:room]]
        if lost := events[room:]:
            count, since, _ = self._gap or (0, lost[0].timestamp, lost[0].timestamp)
            self._gap = count + len(lost), since, lost[-1].timestamp
            self._lost += len(lost)
            self._counts.lost += len(lost)

    def _tell_gap(self) -> None:
        """Make its event, which stays the same one however often it is tried to write it."""
        if self._gap:
            self._held, self._gap = [*self._held, self._make_gap(*self._gap)], None

    def _gap_of(self, lost: Lost) -> AuditEvent:
        return replace(self._make_gap(lost.number, lost.since, lost.until), event_id=lost.event_id)

    @property
    def _spilled(self) -> list[AuditEvent]:
        return self._spill.events if self._spill else []

    def _keep(self, events: Sequence[AuditEvent]) -> None:
        """Raises OSError; then nothing has changed."""
        since = self._since if self else time.monotonic()
        if self._spill is None:
            self.hold(events)
        else:
            self._spill.append([*self._held, *events])
            self._counts.spilled += len(self._held) + len(events)
            self._held = []
            self._recover()
        self._since = since

    def _refuse(self, events: Sequence[AuditEvent], error: OSError) -> None:
        if not self._refused:
            logger.error(
                "Neither the outbox nor the spill file takes events, they are held in memory, and lost when this "
                "process ends: let this user write there, or make room (%s).",
                error,
            )
        self._since = self._since if self else time.monotonic()
        self._refused += len(events)
        self.hold(events)

    def _recover(self) -> None:
        if self._refused and not self._held:
            logger.warning(
                "The %d events held in memory are written, except for %d that did not fit.", self._refused, self._lost
            )
            self._refused = self._lost = 0
