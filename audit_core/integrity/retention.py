"""What the trail says of months that were moved out of it, of what was purged there, and of what must be kept.

Trust: each counts only as a statement that the trail's key has signed. Whoever lacks the key can neither archive, purge
nor lift a hold; whoever has it and the database can do all three, and leaves a signed event of each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
_HASH = re.compile(r"[0-9a-f]{64}")
_OBJECT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,199}")
KINDS = ("actor", "resource", "tenant")  # what a hold is about


class Archive(NamedTuple):
    """That the events of a month lie in an object, and no more in the trail."""

    sequence: int  # of the statement
    month: str
    events: int
    first: int  # the lowest sequence of these events
    last: int
    hashes: str  # see ``Tally``
    object: str  # the name of the object
    sha256: str  # of its bytes
    size: int  # in bytes
    place: str  # the URL of what it was written to

    @classmethod
    def of(cls, sequence: int, says: Mapping[str, Any]) -> Archive:
        """What a statement at this place says. Raises ValueError, TypeError or LookupError for another form."""
        numbers = [says[name] for name in ("events", "first", "last", "bytes")]
        texts = [says[name] for name in ("month", "hashes", "object", "sha256", "place")]
        if any(type(number) is not int or number < 0 for number in numbers) or not all(
            isinstance(text, str) for text in texts
        ):
            raise TypeError("no archive")
        forms = zip((_MONTH, _HASH, _OBJECT, _HASH), texts, strict=False)
        events, first, last, size = numbers
        fits = first <= last < sequence and events <= last - first + 1
        if not fits or not all(form.fullmatch(text) for form, text in forms):
            raise ValueError("no archive")
        month, hashes, name, digest, place = texts
        return cls(sequence, month, events, first, last, hashes, name, digest, size, place)

    @property
    def says(self) -> dict[str, Any]:
        """What the statement says."""
        return {
            "month": self.month, "events": self.events, "first": self.first, "last": self.last, "hashes": self.hashes,
            "object": self.object, "sha256": self.sha256, "bytes": self.size, "place": self.place,
        }  # fmt: skip


class Purge(NamedTuple):
    """That an archived month was destroyed after its retention."""

    sequence: int
    archive: int  # the sequence of its statement
    reason: str


class Hold(NamedTuple):
    """That nothing of an actor, a resource or a tenant may be archived, purged or erased until it is lifted."""

    sequence: int
    kind: str  # of KINDS
    name: str  # an id; of a resource its type, or its type, a colon and its id
    reason: str

    def covers(
        self,
        *,
        actor: str | None,
        resource_type: str | None,
        resource_id: str | None,
        tenant: str | None,
        on_behalf_of: str | None = None,
    ) -> bool:
        """Whether it keeps what is about all that is given. One of a resource type covers each resource of it.

        Who asks for a whole type is stopped by a hold of one resource. One of an actor keeps what was done in his name.
        """
        if self.kind != "resource":
            return self.name in {"actor": (actor, on_behalf_of), "tenant": (tenant,)}[self.kind]
        kind, _, identifier = self.name.partition(":")
        return kind == resource_type and (not identifier or resource_id in {None, identifier})


class Entry(Protocol):
    """What is left of an archived event."""

    @property
    def sequence(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def event_hash(self) -> str: ...  # noqa: D102
    @property
    def event_id(self) -> str: ...  # noqa: D102


@dataclass(slots=True)
class Tally:
    """Which events one archive holds, as its statement says it: SHA-256 over a line for each, in order of sequence.

    A line is the sequence, the ``event_hash`` and the ``event_id``, with spaces between them and a newline.
    """

    events: int = 0
    first: int = -1
    last: int = -1
    _digest: Any = field(default_factory=sha256)

    def add(self, entry: Entry) -> None:
        """The next one."""
        line = f"{entry.sequence} {entry.event_hash} {entry.event_id}\n"
        self._digest.update(line.encode(errors="surrogatepass"))
        if self.events == 0:
            self.first = entry.sequence
        self.events, self.last = self.events + 1, entry.sequence

    @property
    def hashes(self) -> str:
        """In hex."""
        return str(self._digest.hexdigest())

    def fits(self, archive: Archive) -> bool:
        """Whether these are the events that it holds."""
        same = (archive.events, archive.first, archive.last, archive.hashes)
        return (self.events, self.first, self.last, self.hashes) == same
