"""Which events to read, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from audit_core.canonical import format_timestamp
from audit_core.event import AuditEvent
from audit_core.normalise import FIELD_LIMITS, clean_text

EQUALS = {
    "actor": "actor_id",
    "on_behalf_of": "on_behalf_of",
    "resource_type": "resource_type",
    "resource_id": "resource_id",
    "action": "action",
    "outcome": "outcome",
    "tenant": "tenant_id",
}  # names of a query, and the fields they are compared with

Place = tuple[str, int, str]
_WAITING = 2**62  # what waits comes after what is sealed


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """All that is given must hold. ``since`` is included, ``until`` is not; ``after`` is the place to go on from.

    What an event is asked for is brought into the form in which events have it: an id that is a number, a text that no
    record can hold or that is longer than one.
    """

    actor: str | None = None
    on_behalf_of: str | None = None  # which no index has: the whole table is read
    resource_type: str | None = None
    resource_id: object = None  # text, once it is here
    action: str | None = None
    outcome: str | None = None
    tenant: str | None = None
    resource_ids: tuple[str, ...] = ()  # any of them
    actor_types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = True
    after: Place | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a moment without a time zone: it must not be guessed."""
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{moment} has no time zone: give one, datetime.UTC say.")
        for name, field in EQUALS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, clean_text(value, FIELD_LIMITS[field]))


def place_of(event: AuditEvent) -> Place:
    """Events are read by time, then by sequence; those that wait have none yet, and are read by their id."""
    if event.sequence is None:
        return format_timestamp(event.timestamp), _WAITING, event.event_id
    return format_timestamp(event.timestamp), event.sequence, ""


def matches(event: AuditEvent, query: EventQuery) -> bool:
    """Whether the event is one that the query asks for."""
    for name, field in EQUALS.items():
        if (wanted := getattr(query, name)) is not None and getattr(event, field) != wanted:
            return False
    return (
        (not query.resource_ids or event.resource_id in query.resource_ids)
        and (not query.actor_types or event.actor_type in query.actor_types)
        and (query.since is None or event.timestamp >= query.since)
        and (query.until is None or event.timestamp < query.until)
        and (query.after is None or _is_after(place_of(event), query.after, newest_first=query.newest_first))
    )


def _is_after(place: Place, last: Place, *, newest_first: bool) -> bool:
    return place < last if newest_first else place > last
