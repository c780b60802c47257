"""What happened: one immutable event, before and after it gets its place in the chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class _Choice(StrEnum):
    """One of a few words; an unknown one is told which there are."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"{value!r} is no {cls.__name__}: choose from {', '.join(cls)}.")


class ActorType(_Choice):
    """What kind of actor did it."""

    USER = "user"
    ADMIN = "admin"
    SERVICE = "service"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


class Outcome(_Choice):
    """How it ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Who did what to which resource, when, from where and with what outcome.

    The values are normalised and redacted already (see ``normalise`` and ``redaction``): an event does not
    change any more. ``sequence`` and both hashes are empty until the event is sealed.
    """

    event_id: str  # UUIDv7
    timestamp: datetime  # UTC, microseconds
    action: str
    actor_id: str | None = None
    actor_type: str = ActorType.ANONYMOUS.value
    on_behalf_of: str | None = None
    tenant_id: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    outcome: str = Outcome.SUCCESS.value
    details: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    private: str = ""  # salted commitments to values that are kept outside of the record: see ``private``

    sequence: int | None = None
    previous_hash: str | None = None
    event_hash: str | None = None

    # Before it is sealed, of each value that will be kept outside of the record.
    salts: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def sealed(self) -> bool:
        """Whether the event has its place in the chain."""
        return self.sequence is not None
