"""Check what a bundle says of events that were purged: see "Statement" and "Archive" in docs/formats.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from audit_core.evidence.check_keys import statement_of
from audit_core.evidence.checked import Checking
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.retention import Archive

_Ranges = Sequence[tuple[int, int]]


def said(checking: Checking) -> Keyring:
    """What the statements among the records say, each signed with the key of its time."""
    ring = Keyring.begin(checking.keys[0].key)
    records = [*checking.rotations.values(), *checking.retained]
    for record in sorted(filter(None, records), key=lambda record: int(str(record["sequence"]))):
        if (statement := statement_of(record, checking.head.origin)) is not None:
            ring.follow(statement)
    return ring


def purged(checking: Checking) -> list[Archive]:
    """The months of which they say that they were destroyed."""
    ring = said(checking)
    return [ring.archives[number] for number in ring.purges]


def gaps(checking: Checking) -> list[tuple[int, int]]:
    """The sequences of the tree that are not there, as ranges: a tree may say that it has any number of them."""
    edges = [(-1, -1), *checking.found.ranges, (checking.head.size, checking.head.size)]
    return [(a + 1, b - 1) for (_, a), (b, _) in pairwise(edges) if b > a + 1]


def unexplained(missing: _Ranges, months: Sequence[Archive]) -> Iterator[int]:
    """Of each range, in order, the first sequence that lies in no month that was purged, if there is one.

    In one pass over both: whoever makes a bundle chooses how many there are of each.
    """
    starts = sorted(((one.first, one.last) for one in months), reverse=True)
    explained = -1  # without a gap from whatever is asked for next
    for first, last in missing:
        place = max(first, explained + 1)
        while starts and starts[-1][0] <= place:
            explained = max(explained, starts.pop()[1])
            place = max(first, explained + 1)
        if place <= last:
            yield place
