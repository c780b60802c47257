"""What stands in an outbox may have been written by anybody who may insert there."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from audit_core.canonical import MAX_RECORD_BYTES
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import clean_text
from audit_core.rows import from_json


def read_waiting(text: object) -> AuditEvent:
    """The event; what is none becomes an event that says so, and does not hold up the others."""
    if isinstance(text, str) and len(text.encode("utf-8", "replace")) <= MAX_RECORD_BYTES:
        try:
            return from_json(text)
        except ValueError:
            pass
    return unreadable(repr(text))


def unreadable(text: str) -> AuditEvent:
    """The event that stands for something in an outbox that is none."""
    return AuditEvent(
        event_id=new_event_id(),
        timestamp=datetime.now(UTC),
        action="outbox.unreadable",
        actor_type=ActorType.SYSTEM.value,
        outcome=Outcome.FAILURE.value,
        details={"text": clean_text(text), "sha256": sha256(text.encode("utf-8", "replace")).hexdigest()},
    )
