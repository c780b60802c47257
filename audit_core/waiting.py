"""What stands in an outbox may have been written by anybody who may insert there."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from audit_core.draft import Draft, draft_of, event_of, parse_draft
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import clean_text
from audit_core.triggers.told import BEGINNING, read_told


def read_draft(text: str) -> Draft:
    """The event to be sealed; what is none becomes an event that says so, and does not hold up the others."""
    try:
        return draft_of(read_told(text)) if text.startswith(BEGINNING) else parse_draft(text)
    except ValueError:
        return unreadable_draft(repr(text))


def draft_or_unreadable(event: AuditEvent) -> Draft:
    """The same, of an event that somebody made by hand."""
    try:
        return draft_of(event)
    except (TypeError, ValueError, AttributeError):
        return unreadable_draft(repr(event))


def read_waiting(text: str) -> AuditEvent:
    """The event that waits, or the one that will stand in its place."""
    return event_of(read_draft(text))


def unreadable_draft(text: str) -> Draft:
    """The event that says that ``text`` waited and was none."""
    return draft_of(
        AuditEvent(
            event_id=new_event_id(),
            timestamp=datetime.now(UTC),
            action="outbox.unreadable",
            actor_type=ActorType.SYSTEM.value,
            outcome=Outcome.FAILURE.value,
            details={"text": clean_text(text), "sha256": sha256(text.encode("utf-8", "replace")).hexdigest()},
        )
    )
