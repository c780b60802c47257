"""Which rows of an outbox to look at next, where ids are handed out before commit and rows that are gone leave holes.

A look reads what lies above the highest id taken, so that it does not walk again over the remains of what was taken
(they cannot be cleaned up while any transaction stays open). Below it, an id that was not seen may still be committed:
it is looked at by its key for as long as a transaction runs that ran when the id was missed, and again only when one
of those has ended. So a transaction that commits late is found at once, and its events are found together.

A snapshot names those that ran, but for those that began after all that had ended: of these it only says where their
numbers begin. Where they end is known once somebody has begun surely later than all who can have taken the ids.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

GRACE_SECONDS = 2.0  # between taking an id and being seen as a running transaction
LOWEST = -(2**63)  # where ids begin if somebody wants it; else at 1
HOLES_AT_MOST = 50_000  # from one look; what lies further back is found when everything is looked at


class Snapshot(NamedTuple):
    """What ``pg_current_snapshot()`` says: which transactions have ended."""

    end: int  # one past the last that has ended: whatever has begun from here on runs, and is not named
    running: frozenset[int]  # of those below

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """From ``xmin:xmax:xip,xip``."""
        _, end, running = text.split(":")
        return cls(int(end), frozenset(map(int, running.split(","))) if running else frozenset())


@dataclass(slots=True)
class _Missed:
    """Ids that a look missed, and the transactions that may still bring them: some by name, and those from one on."""

    since: float  # time.monotonic()
    running: frozenset[int]
    first: int
    ids: set[int]
    last: float = math.inf  # of those from ``first`` on; it is none of them
    probed: bool = False

    @property
    def is_open(self) -> bool:
        return self.first < self.last

    def may_bring(self, snapshot: Snapshot) -> bool:
        """Whether one of them may have ended before this snapshot, and after the last one."""
        return not self.running <= snapshot.running or self.first < min(self.last, snapshot.end)

    def settle(self, snapshot: Snapshot) -> None:
        """What those have brought that had ended is seen: go on with the others."""
        named = {xid for xid in snapshot.running if self.first <= xid < self.last}
        self.running = self.running & snapshot.running | named
        self.first = max(self.first, snapshot.end)


class Cursor:
    """Where the next look begins. It advances when what was taken is removed."""

    def __init__(self) -> None:
        self.high = LOWEST - 1
        self._missed: list[_Missed] = []
        self._snapshot = Snapshot(0, frozenset())

    def probes(self, now: float) -> list[int]:
        """The ids below ``high`` to look at by their key."""
        for missed in self._missed:
            missed.probed = _is_young(missed, now) or missed.may_bring(self._snapshot)
        return sorted(id_ for missed in self._missed if missed.probed for id_ in missed.ids)

    def overlooked(self, snapshot: Snapshot) -> bool:
        """Whether this look might have found ids that ``probes`` did not name. Now it names them."""
        self._snapshot = snapshot
        return any(not missed.probed and missed.may_bring(snapshot) for missed in self._missed)

    def is_endless(self, now: float) -> bool:
        """Whether it would help to know of a transaction that has begun by now, and which: see ``began``."""
        return any(missed.last == math.inf and not _is_young(missed, now) for missed in self._missed)

    def began(self, xid: int, now: float) -> None:
        """A transaction has begun: whoever began later has taken none of the ids that were missed long before."""
        for missed in self._missed:
            if not _is_young(missed, now):
                missed.last = min(missed.last, xid)

    def advance(self, snapshot: Snapshot, seen: Collection[int], now: float, *, cut: bool) -> None:
        """``seen`` are taken; a look that was ``cut`` at its limit has seen nothing above them."""
        end = max(seen, default=LOWEST) if cut else max([*seen, self.high])
        for missed in self._missed:
            missed.ids.difference_update(seen)
            if not any(id_ > end for id_ in missed.ids):
                missed.settle(snapshot)
        if end > self.high:
            lowest = max(self.high + 1, end - HOLES_AT_MOST, 1 if end > 0 else LOWEST)
            ids = set(range(lowest, end + 1)).difference(seen)
            self._missed.append(_Missed(now, snapshot.running, snapshot.end, ids))
            self.high = end
        self._missed = _merged(self._missed, now)
        self._snapshot = snapshot


def _is_young(missed: _Missed, now: float) -> bool:
    return now - missed.since < GRACE_SECONDS


def _merged(groups: Iterable[_Missed], now: float) -> list[_Missed]:
    """Those that wait for the same transactions are one; those that wait for none are forgotten."""
    merged: dict[object, _Missed] = {}
    for group in groups:
        young = _is_young(group, now)
        if not group.ids or not (young or group.running or group.is_open):
            continue
        waits_for = (group.running, (group.first, group.last) if group.is_open else None)
        same = merged.setdefault(id(group) if young else waits_for, group)
        if same is not group:
            same.ids |= group.ids
    return list(merged.values())
