"""One event in its three forms: the object, the outbox's JSON, and the row that is hashed and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from audit_core.canonical import RECORD_COLUMNS, decode, encode, format_timestamp, parse_timestamp
from audit_core.errors import IntegrityError
from audit_core.event import AuditEvent

Row = tuple[Any, ...]  # RECORD_COLUMNS, then event_hash
STORED_COLUMNS = (*RECORD_COLUMNS, "event_hash")
_WAITING_FIELDS = tuple(f.name for f in fields(AuditEvent) if f.name not in {"sequence", "previous_hash", "event_hash"})


def to_json(event: AuditEvent) -> str:
    """The event as it waits in an outbox."""
    waiting: dict[str, Any] = {name: getattr(event, name) for name in _WAITING_FIELDS}
    waiting["timestamp"] = format_timestamp(event.timestamp)
    return encode(waiting).decode()


def from_json(text: str | bytes) -> AuditEvent:
    """The waiting event of ``text``. Raises ValueError if it is none."""
    try:
        waiting = decode(text)
        waiting["timestamp"] = parse_timestamp(waiting["timestamp"])
        event = AuditEvent(**waiting)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"This is no event: {text[:100]!r}") from error
    if not isinstance(event.event_id, str) or not isinstance(event.details, dict):
        raise ValueError(f"This is no event: {text[:100]!r}")  # noqa: TRY004 - it is the text that is wrong
    return event


def to_row(event: AuditEvent, sequence: int, previous_hash: str) -> Row:
    """The columns of the event at its place in the chain, still without ``event_hash``."""
    return (
        event.action,
        event.actor_id,
        event.actor_type,
        encode(event.details).decode(),
        event.event_id,
        event.ip_address,
        event.on_behalf_of,
        event.outcome,
        previous_hash,
        event.private,
        event.request_id,
        event.resource_id,
        event.resource_type,
        sequence,
        event.session_id,
        event.source,
        event.tenant_id,
        format_timestamp(event.timestamp),
        event.user_agent,
    )


def from_row(row: Sequence[Any]) -> AuditEvent:
    """The sealed event of a stored row. Raises IntegrityError for a row that we have not written."""
    columns = dict(zip(STORED_COLUMNS, row, strict=True))
    try:
        columns["details"] = dict(decode(columns["details"]).items())
        columns["timestamp"] = parse_timestamp(columns["timestamp"])
    except (ValueError, TypeError, AttributeError) as error:
        place = f"The event at sequence {columns['sequence']}"
        raise IntegrityError(f"{place} was tampered with and cannot be read: run `audit verify`.") from error
    return AuditEvent(**columns)
