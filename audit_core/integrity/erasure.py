"""Values that the trail says were erased, and whether what is there and what is not agrees with that.

The caller reads; this module only computes. What is stored may have been written by an attacker: a value counts if it
is the one that the record commits to, and its absence is accepted if a signed statement that came later lists it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit_core.integrity.verify import Finding, as_text
from audit_core.private import KeptValue, fits, parse_commitments

Ranges = tuple[tuple[int, int], ...]  # first and last sequence of each


class Erasure(NamedTuple):
    """That values were erased, as a statement says it."""

    sequence: int
    erased: Mapping[str, Ranges]  # by the place of the values: all that is below it is meant
    basis: str
    approved_by: str


def erasure_of(sequence: int, says: Mapping[str, Any]) -> Erasure:
    """Read a statement. Raises ValueError, TypeError or LookupError where it is none, or is about what comes after."""
    erased = {}
    for place, ranges in says["erased"].items():
        pairs = tuple((int(first), int(last)) for first, last in ranges)
        if not (place.startswith("/") and all(0 <= first <= last < sequence for first, last in pairs)):
            raise ValueError("an erasure of nothing that was there")
        erased[place] = pairs
    return Erasure(sequence, erased, str(says["basis"]), str(says["approved_by"]))


class Erased:
    """Looks up whether a value is among those that were erased."""

    def __init__(self, erasures: Iterable[Erasure]) -> None:
        found: dict[str, list[tuple[int, int]]] = {}
        for erasure in erasures:
            for place, ranges in erasure.erased.items():
                found.setdefault(place, []).extend(ranges)
        self._ranges = {place: _joined(ranges) for place, ranges in found.items()}
        self.last = max((ranges[-1][1] for ranges in self._ranges.values() if ranges), default=-1)

    def has(self, sequence: int, name: str) -> bool:
        """Whether the value, or what it is a part of, was erased."""
        if sequence > self.last:
            return False
        return any(self._covers(place, sequence) for place in _places_above(name))

    def _covers(self, place: str, sequence: int) -> bool:
        ranges = self._ranges.get(place, [])
        at = bisect_right(ranges, sequence, key=lambda one: one[0]) - 1
        return at >= 0 and sequence <= ranges[at][1]


@dataclass(slots=True)
class ValueVerifier:
    """Walks the commitments of the records and the stored values once, both in order of their sequence.

    Memory grows with the number of values that are not there.
    """

    values: Iterator[KeptValue]
    _next: KeptValue | None = None
    _missing: dict[str, array[int]] = field(default_factory=dict)
    _started: bool = False

    def check(self, sequence: int, text: str) -> Iterator[Finding]:
        """The values of one event that was sealed with these commitments."""
        yield from self._stray(sequence)
        there = self._take(sequence)
        committed = parse_commitments(text)
        if committed is None:
            yield Finding("private.unreadable", sequence, "salted commitments", as_text(text), warning=True)
            committed = {}
        for name, expected in committed.items():
            if (value := there.pop(name, None)) is None:
                self._missing.setdefault(name, array("q")).append(sequence)
            elif not fits(value, expected):
                yield Finding("private.changed", sequence, f"the value of {name} that was sealed", "another one")
        for name in there:
            yield stray(sequence, name)

    def skip(self, sequence: int) -> Iterator[Finding]:
        """The values of an event whose record is not there to compare them with."""
        yield from self._stray(sequence)
        self._take(sequence)

    def missing(self, erased: Erased) -> Iterator[Finding]:
        """At the end: what is not there, and was not erased."""
        for name, places in self._missing.items():
            for first, last in _runs(place for place in places if not erased.has(place, name)):
                events = f"event {first}" if first == last else f"events {first} to {last}"
                expected = f"{name} of {events}, or a signed statement that it was erased"
                yield Finding("private.missing", first, expected, "nothing")

    def strays(self, size: int) -> Iterator[Finding]:
        """At the end: what belongs to none of the events before ``size``."""
        yield from self._stray(size)

    def _peek(self) -> KeptValue | None:
        if not self._started:
            self._started, self._next = True, next(self.values, None)
        return self._next

    def _take(self, sequence: int) -> dict[str, KeptValue]:
        found: dict[str, KeptValue] = {}
        while (value := self._peek()) is not None and value.sequence == sequence:
            found[value.name] = value
            self._next = next(self.values, None)
        return found

    def _stray(self, below: int) -> Iterator[Finding]:
        while (value := self._peek()) is not None and value.sequence < below:
            yield stray(value.sequence, value.name)
            self._next = next(self.values, None)


def check_returned(values: Iterable[KeptValue], erased: Erased) -> Iterator[Finding]:
    """Values that are there although they were erased: somebody has put them back, or a backup has."""
    for value in values:
        if erased.has(value.sequence, value.name):
            yield Finding("private.returned", value.sequence, f"{value.name} erased, as the trail says", "a value")


def stray(sequence: object, name: object) -> Finding:
    """A value that is there, and that no record commits to."""
    place = sequence if isinstance(sequence, int) else None
    return Finding("private.stray", place, "values that its record commits to", f"one of {as_text(name)}, too")


def _places_above(name: str) -> Iterator[str]:
    """``/a``, ``/a/b`` and ``/a/b/c``, of which the last is the value's own."""
    end = name.find("/", 1)
    while end != -1:
        yield name[:end]
        end = name.find("/", end + 1)
    yield name


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined


def as_ranges(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Sequences in ascending order, as ranges."""
    return list(_runs(sequences))


def _runs(sequences: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for sequence in sequences:
        if last is not None and sequence == last + 1:
            last = sequence
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = sequence
    if first is not None and last is not None:
        yield first, last
