"""``audit purge``: archived months are destroyed after their retention, and what proofs of the others need stays.

The statement comes first: what a crash leaves is an object of which the trail says that it is destroyed, and the next
try destroys it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from audit_core.archives.places import ArchivePlace, open_place
from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.integrity.retention import Archive
from audit_core.integrity.statement import PURGED
from audit_core.normalise import clean_text
from audit_core.retention.archiving import Held
from audit_core.retention.holds import held_in, holds
from audit_core.retention.months import month_of

POLICIES = {"hipaa": 72, "pci": 12, "sox": 84}  # months: 45 CFR 164.316(b)(2), PCI DSS 4.0.1 10.5.1, 17 CFR 210.2-06
AT_ONCE = 1_000  # events whose values are removed together
_OWN = re.compile(r"([1-9]\d{0,3})([my])")


@dataclass(frozen=True, slots=True)
class Locked:
    """A month that cannot be destroyed yet."""

    month: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Purger:
    """Destroys what is older than its retention. ``places`` are where it lies now, if not where it was written to."""

    chain: AuditChain
    make_event: Callable[[str], AuditEvent]
    places: tuple[str, ...] = ()

    def run(self, keep: int, now: datetime, reason: str) -> Iterator[tuple[Archive, int] | Held | Locked]:
        """Purge each archived month that ended ``keep`` months ago; with it, the sequence of its statement.

        Raises StoreUnavailableError where an archive cannot be reached, and what ``AuditChain.state`` raises.
        """
        if (ring := self.chain.keyring) is None:
            return
        for number in ring.purges:
            self._remove(ring.archives[number])
        last = months_ago(month_of(now), keep)
        for archive in sorted(ring.archives.values(), key=lambda one: (one.month, one.sequence)):
            if archive.sequence not in ring.purges and archive.month < last:
                yield self._purge(archive, now, reason)

    def _purge(self, archive: Archive, now: datetime, reason: str) -> tuple[Archive, int] | Held | Locked:
        if (hold := held_in(self.chain.whole, archive.month, holds(self.chain))) is not None:
            return Held(archive.month, hold)
        untils = [until for place in self._places(archive) if (until := place.locked_until(archive.object))]
        if untils and max(untils) > now:
            return Locked(archive.month, max(untils))
        says = {
            "archive": archive.sequence, "month": archive.month, "events": archive.events, "hashes": archive.hashes,
            "object": archive.object, "sha256": archive.sha256, "reason": clean_text(reason),
        }  # fmt: skip
        with self.chain.store.transaction(patient=True) as connection:
            stated = self.chain.state(PURGED, says, self.make_event(PURGED), connection)
            self._forget(archive, connection)
        self._remove(archive)
        return archive, stated.tree_size - 1

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


def months_of(policy: str) -> int:
    """How many months a policy keeps events; of several, with commas between them, the longest.

    ``hipaa`` six years, ``pci`` twelve months, ``sox`` seven years; or one's own, ``18m`` or ``10y``. Raises
    ConfigurationError for what is none.
    """
    return max(map(_months_of, policy.split(",")))


def _months_of(policy: str) -> int:
    name = policy.strip().lower()
    if name in POLICIES:
        return POLICIES[name]
    if (own := _OWN.fullmatch(name)) is None:
        raise ConfigurationError(
            f"A retention is {', '.join(POLICIES)}, or a number of months or years like 18m or 10y, not {policy!r}."
        )
    return int(own[1]) * (12 if own[2] == "y" else 1)


def months_ago(month: str, count: int) -> str:
    """The month so many before."""
    year, number = map(int, month.split("-"))
    index = year * 12 + number - 1 - count
    return f"{max(0, index) // 12:04d}-{index % 12 + 1:02d}"
