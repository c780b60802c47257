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
    last_event_id: str
