"""Whether a clock was turned back, by what stands beside checkpoints and by the clocks of those who keep them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from audit_core.canonical import parse_timestamp
from audit_core.integrity.known_trees import KnownTree
from audit_core.integrity.verify import Finding, StoredHead

CLOCKS_DIFFER = timedelta(minutes=10)  # what an anchor needs to keep a checkpoint included


@dataclass(slots=True)
class Clock:
    """Is shown each checkpoint, and each known tree that the chain extends, in order."""

    _times: tuple[str, str] = ("", "")  # when the last checkpoint was sealed, and when its last event happened
    _attested: KnownTree | None = None  # of those below the last checkpoint, the one that was kept last
    _reached: KnownTree | None = None  # the same, of those up to it

    def reach(self, known: KnownTree) -> None:
        """What is sealed from here on came after this was kept."""
        if known.since and (self._reached is None or known.since > self._reached.since):
            self._reached = known

    def check(self, stored: StoredHead, happened: str) -> Iterator[Finding]:
        """Nobody signs ``sealed_at``, and events may be sealed late: only both together say that a clock went back."""
        before, now = self._times, (str(stored.sealed_at), happened)
        if now[0] < before[0] and now[1] < before[1]:
            yield Finding("clock", stored.tree_size, f"no earlier than {before[0]}", now[0], warning=True)
        self._times = now
        if (anchored := self._attested) is not None and is_long_before(max(now), anchored.since):
            then = f"when {anchored.where} had the {anchored.checkpoint.size} events before"
            expected = f"no earlier than {anchored.since}, {then}"
            yield Finding("clock", stored.tree_size, expected, now[0], where=anchored.where)
            self._reached = None  # once is enough
        self._attested = self._reached  # a checkpoint may have been kept long after it was sealed


def is_long_before(time: str, since: str) -> bool:
    """Whether it is earlier by more than two clocks that are set may differ. What is no time is no answer."""
    try:
        return parse_timestamp(since) - parse_timestamp(time) > CLOCKS_DIFFER
    except ValueError:
        return False
