"""``audit purge``: archived months are destroyed after their retention, and what proofs of the others need stays.

The statement comes first: what a crash leaves is an object of which the trail says that it is destroyed, and the next
try destroys it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from audit_core.archives.places import ArchivePlace, open_place
from audit_core.chain import AuditChain
from audit_core.event import AuditEvent
from audit_core.integrity.retention import Archive
from audit_core.integrity.statement import PURGED
from audit_core.normalise import clean_text
from audit_core.query import EventQuery
from audit_core.retention.archiving import Held
from audit_core.retention.holds import held_in, holds
from audit_core.retention.months import interval_of, open_months
from audit_core.retention.policies import Retention, Stays
from audit_core.rows import Row

AT_ONCE = 1_000  # events whose values are removed together


@dataclass(frozen=True, slots=True)
class Locked:
    """A month that cannot be destroyed yet."""

    month: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Purger:
    """Destroys what no rule of ``retention`` keeps. ``places`` are where it lies now, if not where it was written."""

    chain: AuditChain
    make_event: Callable[[str], AuditEvent]
    retention: Retention
    places: tuple[str, ...] = ()

    def run(self, reason: str) -> Iterator[tuple[Archive, int] | Held | Stays | Locked]:
        """Purge each archived month that no rule keeps; with it, the sequence of its statement.

        A month that a rule about all events keeps is passed over in silence.
        Raises StoreUnavailableError where an archive cannot be reached, and what ``AuditChain.state`` raises.
        """
        if (ring := self.chain.keyring) is None or not ring.archives:
            return
        open_months(self.chain.store).finish()  # else what is purged would still lie in the trail
        for number in ring.purges:
            self._remove(ring.archives[number])
        for archive in ring.not_purged():
            if self.retention.may_be_over(archive.month) and (done := self._purge(archive, ring.origin, reason)):
                yield done

    def _purge(self, archive: Archive, log: str, reason: str) -> tuple[Archive, int] | Held | Stays | Locked | None:
        """None where somebody else has purged it meanwhile."""
        if (kept := self.retention.keeps(archive.month, lambda: self._rows(archive.month), log)) is not None:
            return kept
        known = holds(self.chain)
        if (hold := held_in(self.chain.whole, archive.month, known)) is not None:
            return Held(archive.month, hold)
        untils = [until for place in self._places(archive) if (until := place.locked_until(archive.object))]
        if untils and max(untils) > self.retention.now:
            return Locked(archive.month, max(untils))
        says = {
            "archive": archive.sequence, "month": archive.month, "events": archive.events, "hashes": archive.hashes,
            "object": archive.object, "sha256": archive.sha256, "reason": clean_text(reason),
        }  # fmt: skip
        with self.chain.store.transaction(patient=True) as connection:
            if (ring := self.chain.keyring) is None or ring.is_purged(archive.sequence):
                return None
            if is_as_before := [*ring.holds.values()] == known:
                stated = self.chain.state(PURGED, says, self.make_event(PURGED), connection)
                self._forget(archive, connection)
        if not is_as_before:  # a hold was added or lifted, which may be about this month
            return self._purge(archive, log, reason)
        self._remove(archive)
        return archive, stated.tree_size - 1

    def _rows(self, month: str) -> Iterator[Row]:
        since, until = interval_of(month)
        return self.chain.whole.select(EventQuery(since=since, until=until, newest_first=False))

    def _forget(self, archive: Archive, connection: Any) -> None:
        """What lies beside its records goes with them."""
        store = self.chain.store
        if (values := store.values) is None or not values.is_created():
            return
        left = store.left(archive.first, archive.last + 1)
        sequences = (one.sequence for one in left if one.archive == archive.sequence)
        while some := list(islice(sequences, AT_ONCE)):
            values.erase([(value.sequence, value.name) for value in values.of(some)], connection)

    def _remove(self, archive: Archive) -> None:
        for place in self._places(archive):
            place.remove(archive.object)

    def _places(self, archive: Archive) -> list[ArchivePlace]:
        return [open_place(url) for url in self.places or (archive.place,)]
