"""Events that stand in another place than the one that they were sealed at."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from audit_core.canonical import RECORD_COLUMNS, encode_record
from audit_core.errors import AuditError
from audit_core.integrity.link import leaf_hash
from audit_core.rows import Row
from audit_core.trail import AuditTrail

COMPARED = 64  # changed events among which exchanged ones are looked for
LOOKED_AT = 4_096  # changed events that are read again, to see whether they were moved
_SEARCHES = 256  # of these, those that are looked for in every place near
_NEAR = [place for far in range(1, 65) for place in (far, -far)]
_SEQUENCE = RECORD_COLUMNS.index("sequence")
_PREVIOUS = RECORD_COLUMNS.index("previous_hash")

Range = tuple[int, int]  # first and last


@dataclass(frozen=True, slots=True)
class Run:
    """Events that were moved together: they stand from ``first`` to ``last``, each ``by`` places after its own."""

    first: int
    last: int
    by: int
    removed: Range | None = None  # what stood right before them, and is gone
    put_in: Range | None = None  # what stands there now


@dataclass(slots=True)
class Moves:
    """What the moved events, taken together, say of the others."""

    runs: list[Run] = field(default_factory=list)
    by: dict[int, int] = field(default_factory=dict)  # each place, and by how much the event there was moved
    put_in: set[int] = field(default_factory=set)  # places whose event stands elsewhere
    missing: list[Range] = field(default_factory=list)  # events that stand nowhere, but for those that the runs name
    changed: set[int] = field(default_factory=set)  # moved, and changed as well
    unread: set[int] = field(default_factory=set)  # changed events after the last that was read again, if that moved

    @property
    def places(self) -> set[int]:
        """Those whose event is not the one that was sealed there."""
        return self.by.keys() | self.put_in

    def reaches(self, size: int) -> bool:
        """Whether what was the last of ``size`` events stands at the end now."""
        return bool(self.runs) and self.runs[-1].last - self.runs[-1].by == size - 1


def find_exchanged(changed: Sequence[int], trail: AuditTrail) -> list[tuple[int, int]]:
    """Pairs of events of which each stands in the other's place."""
    if not 2 <= len(changed) <= COMPARED:
        return []
    try:
        origin = str(trail.chain.origin)
        rows = {sequence: row for sequence in changed if (row := trail.store.row(sequence)) is not None}
    except AuditError:
        return []
    return [
        (a, b)
        for a, b in combinations(rows, 2)
        if _comes_from(rows[a], b, rows[b], origin) and _comes_from(rows[b], a, rows[a], origin)
    ]


def find_moves(
    changed: Sequence[int], unlinked: Sequence[int], missing: list[Range], signed: float, trail: AuditTrail
) -> Moves:
    """See which of the changed events are others, moved: renumbering hides where one was removed or put in.

    ``signed`` events are under checkpoints: from there on there was none before.
    """
    try:
        moved = _find_moved(changed[:LOOKED_AT], trail)
    except AuditError:
        moved = {}
    touched = {*changed, *unlinked, *(place - 1 for place in unlinked)}
    gaps = _Gaps(missing)
    moved = {place: by for place, by in moved.items() if place - by in touched or gaps.has(place - by)}
    if not moved:
        return Moves(missing=missing)
    unread = set(changed[LOOKED_AT:]) if max(moved) == changed[:LOOKED_AT][-1] else set()
    also_changed = _those_between(moved, set(changed))
    moved |= also_changed
    homes = {place - by for place, by in moved.items()}  # places whose event stands elsewhere
    if unread:  # where those go on as the last did, this many are left empty after them
        homes.update(range(max(unread) + 1, max(unread) + 1 - moved[max(moved)]))
    put_in = {place for place in homes & touched if place not in moved and place not in unread and not gaps.has(place)}
    gone = sorted(p for p, by in moved.items() if p not in homes and p < signed and p + by not in unread)
    lost = sorted([*_without(missing, sorted(homes)), *_ranges(gone)])
    runs = list(_runs(moved, joined(lost), _ranges(sorted(put_in))))
    named = {run.removed for run in runs}
    return Moves(runs, moved, put_in, [gap for gap in joined(lost) if gap not in named], set(also_changed), unread)


def _find_moved(changed: Sequence[int], trail: AuditTrail) -> dict[int, int]:
    """By how many places each was moved; most were moved like the one before."""
    origin, moved, by, searches = str(trail.chain.origin), dict[int, int](), 0, _SEARCHES
    for place in changed:
        if (row := trail.store.row(place)) is None:
            continue
        if by == 0 or not _was_sealed_at(row, place - by, origin):
            if searches == 0:
                continue
            searches -= 1
            found = next((near for near in _NEAR if _was_sealed_at(row, place - near, origin)), 0)
            if found == 0:
                continue
            by = found
        moved[place] = by
    return moved


def _those_between(moved: dict[int, int], changed: set[int]) -> dict[int, int]:
    """What was changed as well as moved is known by its neighbours."""
    return {
        place: moved[before]
        for before, after in pairwise(sorted(moved))
        if moved[before] == moved[after] and all(place in changed for place in range(before + 1, after))
        for place in range(before + 1, after)
    }


def _runs(moved: dict[int, int], lost: list[Range], put_in: list[Range]) -> Iterator[Run]:
    lost_before = {last + 1: (first, last) for first, last in lost}
    put_before = {last + 1: (first, last) for first, last in put_in}
    places = sorted(moved)
    starts = [p for p in places if moved.get(p - 1) != moved[p]]
    for first, after in zip(starts, [*starts[1:], None], strict=True):
        last = places[-1] if after is None else places[bisect_left(places, after) - 1]
        by = moved[first]
        yield Run(first, last, by, lost_before.get(first - by), put_before.get(first))


class _Gaps:
    """Whether an event is among the missing ones."""

    def __init__(self, ranges: list[Range]) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _ in self._ranges]

    def has(self, place: int) -> bool:
        at = bisect_right(self._firsts, place) - 1
        return at >= 0 and place <= self._ranges[at][1]


def _without(ranges: list[Range], places: list[int]) -> Iterator[Range]:
    """The same ranges, but for these places."""
    for first, last in ranges:
        start = first
        for place in places[bisect_left(places, first) : bisect_right(places, last)]:
            if start < place:
                yield start, place - 1
            start = place + 1
        if start <= last:
            yield start, last


def _ranges(places: Iterable[int]) -> list[Range]:
    return joined((place, place) for place in places)


def joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, those that touch as one."""
    joined: list[Range] = []
    for first, last in ranges:
        start = joined.pop()[0] if joined and joined[-1][1] + 1 == first else first
        joined.append((start, last))
    return joined


def _was_sealed_at(row: Row, sequence: int, origin: str) -> bool:
    fields = list(row[:-1])
    fields[_SEQUENCE] = sequence
    return sequence >= 0 and _hashes_to(fields, row[-1], origin)


def _comes_from(row: Row, sequence: int, there: Row, origin: str) -> bool:
    """Whether the row is the event that was sealed at ``sequence``, where ``there`` stands now.

    Its hashes may have been moved with it, or stayed where they were.
    """
    if _was_sealed_at(row, sequence, origin):
        return True
    fields = list(row[:-1])
    fields[_SEQUENCE], fields[_PREVIOUS] = sequence, there[_PREVIOUS]
    return _hashes_to(fields, there[-1], origin)


def _hashes_to(fields: Sequence[object], stored: object, origin: str) -> bool:
    try:
        return leaf_hash(encode_record(tuple(fields), origin)).hex() == stored
    except (TypeError, ValueError, OverflowError):
        return False
