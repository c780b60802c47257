"""The rows of the reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from audit_core.event import AuditEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event; its fields are called as the event's are. ``sequence`` is None while it waits to be sealed."""

    timestamp: datetime
    actor_id: str | None
    actor_type: str
    on_behalf_of: str | None
    action: str
    resource_type: str | None
    resource_id: str | None
    outcome: str
    ip_address: str | None
    request_id: str | None
    tenant_id: str | None
    sequence: int | None
    event_id: str
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, event: AuditEvent) -> Self:
        """The row of an event."""
        return cls(**{name: getattr(event, name) for name in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRow:
    """All failures of one actor, of one account that was tried, or from one address."""

    by: str  # actor, account or address
    who: str
    failures: int
    denied: int
    failed: int
    first: datetime
    last: datetime
    last_action: str
    last_sequence: int | None  # None while that event waits to be sealed
    last_event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRow:
    """One event that a person is in, as that person may see it."""

    timestamp: datetime
    relation: str  # about: it was done to what is theirs; by: they did it, or somebody in their name; both
    who: str | None  # None where it was nobody that is known, or where the name is withheld
    who_is: str  # a type of actor
    is_self: bool  # whether that is the person
    in_their_name: bool  # whether somebody else acted as the person
    action: str
    resource_type: str | None
    resource_id: str | None
    outcome: str
    ip_address: str | None
    user_agent: str | None
    changes: dict[str, Any]
    details: dict[str, Any]
    withheld: str  # what the event has besides, in words, and is or may be of others
    sequence: int | None
    event_id: str
