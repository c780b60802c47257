"""Which events a bundle holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.errors import ConfigurationError
from audit_core.evidence.opened import EVENTS
from audit_core.normalise import clean_text
from audit_core.query import EQUALS, EventQuery
from audit_core.rows import Row
from audit_core.stores import AuditStore


@dataclass(frozen=True, slots=True)
class Selection:
    """What ``query`` asks for; or a ``sample`` of so many events of the whole trail, drawn by ``seed``.

    Raises ConfigurationError for a sample without a seed, of what matches only, or of more than ``EVENTS``.
    """

    query: EventQuery
    sample: int | None = None
    seed: str | None = None

    def __post_init__(self) -> None:
        if (self.sample is None) != (self.seed is None):
            raise ConfigurationError("A sample needs both --sample and --seed: let whoever audits choose the seed.")
        if self.sample is not None and self.sample > EVENTS:
            raise ConfigurationError(f"A sample has {EVENTS:,} events at most: ask for fewer (--sample).")
        if self.seed is not None and clean_text(self.seed, len(self.seed)) != self.seed:
            raise ConfigurationError("The seed has characters that are no UTF-8: choose another word.")
        if self.sample is not None and self._asked():
            raise ConfigurationError(
                "A sample is of all events of the trail, so that it can be drawn again by whoever has none of them: "
                "leave out what else is asked for."
            )

    @property
    def is_of_a_time(self) -> bool:
        """Whether it asks for nothing but an interval."""
        return self._asked().keys() <= {"since", "until"} and bool(self._asked())

    def described(self) -> dict[str, Any]:
        """As a bundle says it; empty for the whole trail."""
        if self.sample is not None:
            return {"sample": self.sample, "seed": self.seed}
        return self._asked()

    def rows(self, store: AuditStore, size: int) -> Iterator[Row]:
        """The stored rows below ``size``, in any order. Streams in constant memory."""
        if self.sample is not None and self.seed is not None:
            for sequence in draw(self.seed, size, self.sample):
                if (row := store.row(sequence)) is not None:
                    yield row
        elif self._asked():
            yield from store.select(self.query)
        else:
            yield from store.rows(0, size)

    def _asked(self) -> dict[str, Any]:
        query = self.query
        asked = {field: getattr(query, name) for name, field in EQUALS.items()}
        for name, moment in (("since", query.since), ("until", query.until)):
            asked[name] = None if moment is None else format_timestamp(moment)
        return {name: value for name, value in asked.items() if value is not None}


def draw(seed: str, size: int, count: int) -> list[int]:
    """``count`` of the sequences below ``size``, each as likely as any other, in order; all where there are no more.

    Knuth's shuffle, of which only the places that moved are remembered. The number for place i is SHA-256 over seed,
    size and i, modulo the places that are left: whoever knows the three can draw again.
    """
    moved: dict[int, int] = {}
    drawn = []
    for place in range(min(count, size)):
        digest = sha256(f"{seed}\n{size}\n{place}".encode()).digest()
        other = place + int.from_bytes(digest) % (size - place)
        drawn.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return sorted(drawn)
