"""An event on its way into an outbox, and out of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from audit_core.canonical import RECORD_COLUMNS, decode, encode, format_timestamp, parse_timestamp
from audit_core.errors import IntegrityError
from audit_core.event import AuditEvent
from audit_core.private import take_out

Row = tuple[Any, ...]  # RECORD_COLUMNS, then event_hash
STORED_COLUMNS = (*RECORD_COLUMNS, "event_hash")
_SEALED_OR_APART = {"sequence", "previous_hash", "event_hash", "salts"}
_WAITING_FIELDS = tuple(f.name for f in fields(AuditEvent) if f.name not in _SEALED_OR_APART)
_waiting_values = attrgetter(*_WAITING_FIELDS)


def to_json(event: AuditEvent) -> str:
    """The event as it waits in an outbox, what is kept outside of its record ``aside``."""
    waiting: dict[str, Any] = dict(zip(_WAITING_FIELDS, _waiting_values(event), strict=True))
    waiting["timestamp"] = format_timestamp(event.timestamp)
    if event.salts:
        taken = take_out(waiting, event.salts)
        waiting["aside"] = {one.name: [one.salt, decode(one.value)] for one in taken}
    return encode(waiting).decode()


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
