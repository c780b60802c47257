"""``audit purge``: archived months are destroyed after their retention, and what proofs of the others need stays.

The statement comes first: what a crash leaves is an object of which the trail says that it is destroyed, and the next
try destroys it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from audit_core.archives.places import ArchivePlace, open_place
from audit_core.chain import AuditChain
from audit_core.errors import AuditError
from audit_core.event import AuditEvent
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.retention import Archive, Hold
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


class Remains(NamedTuple):
    """A month that the trail calls purged, and of which an object may be left: why."""

    month: str
    why: str


@dataclass(frozen=True, slots=True)
class Purger:
    """Destroys what no rule of ``retention`` keeps, wherever the chain's shelf looks for it."""

    chain: AuditChain
    make_event: Callable[[str], AuditEvent]
    retention: Retention

    def run(self, reason: str) -> Iterator[tuple[Archive, int] | Held | Stays | Locked | Remains]:
        """Purge each archived month that no rule keeps; with it, the sequence of its statement.

        A month that a rule about all events keeps is passed over in silence.
        Raises StoreUnavailableError where an archive cannot be reached, and what ``AuditChain.state`` raises.
        """
        if (ring := self.chain.keyring) is None or not ring.archives:
            return
        open_months(self.chain.store).finish()  # else what is purged would still lie in the trail
        yield from self._finish(ring)
        for archive in ring.not_purged():
            if self.retention.may_be_over(archive.month):
                yield from self._purge(archive, ring.origin, reason)

    def _finish(self, ring: Keyring) -> Iterator[Remains]:
        """Destroy what a try that was interrupted has left; of a place that is given up it is said once."""
        troubles: dict[str, str] = {}
        for number in ring.purges:
            archive = ring.archives[number]
            try:
                self._remove(archive)
            except AuditError as error:
                troubles.setdefault(str(error), archive.month)
        for trouble, month in troubles.items():
            yield Remains(month, f"it was purged before, and may still be there: {trouble}")

    def _purge(
        self, archive: Archive, log: str, reason: str
    ) -> Iterator[tuple[Archive, int] | Held | Stays | Locked | Remains]:
        """Nothing where somebody else has purged it meanwhile."""
        known = holds(self.chain)
        if (kept := self._kept(archive, log, known)) is not None:
            yield kept
            return
        with self.chain.store.transaction(patient=True) as connection:
            if (ring := self.chain.keyring) is None or ring.is_purged(archive.sequence):
                return
            if is_as_before := [*ring.holds.values()] == known:
                stated = self.chain.state(PURGED, _says(archive, reason), self.make_event(PURGED), connection)
                self._forget(archive, connection)
        if not is_as_before:  # a hold was added or lifted, which may be about this month
            yield from self._purge(archive, log, reason)
            return
        places = self._remove(archive)
        yield archive, stated.tree_size - 1
        if not places:
            where = ", ".join(place.url for place in self.chain.shelf.places_of(archive))
            yield Remains(archive.month, f"nothing of it was found at {where}: if it lies elsewhere, destroy it there")

    def _kept(self, archive: Archive, log: str, known: Iterable[Hold]) -> Held | Stays | Locked | None:
        """What keeps a month: a rule, one of the ``known`` holds, or a lock."""
        if (kept := self.retention.keeps(archive.month, lambda: self._rows(archive.month), log)) is not None:
            return kept
        if (hold := held_in(self.chain.whole, archive.month, known)) is not None:
            return Held(archive.month, hold)
        untils = [until for place in self._places(archive) if (until := place.locked_until(archive.object))]
        is_locked = untils and max(untils) > self.retention.now
        return Locked(archive.month, max(untils)) if is_locked else None

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

    def _remove(self, archive: Archive) -> list[ArchivePlace]:
        """Wherever it lies: there."""
        places = self._places(archive)
        for place in places:
            place.remove(archive.object)
        return places

    def _places(self, archive: Archive) -> list[ArchivePlace]:
        """Where it lies: where it is looked for, and where it was written to, if a copy has stayed there."""
        places = [place for place in self.chain.shelf.places_of(archive) if place.holds(archive.object)]
        if self.chain.shelf.is_given:
            with suppress(AuditError):  # of a place that is given up
                first = open_place(archive.place)
                places += [first] if first.holds(archive.object) else []
        return places


def _says(archive: Archive, reason: str) -> dict[str, Any]:
    return {
        "archive": archive.sequence, "month": archive.month, "events": archive.events, "hashes": archive.hashes,
        "object": archive.object, "sha256": archive.sha256, "reason": clean_text(reason),
    }  # fmt: skip
