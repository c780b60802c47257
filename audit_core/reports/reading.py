"""Reading the trail is itself an event, unless whoever reads may not write: an auditor with a copy, say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from audit_core.sqlite import SqliteDatabase
from audit_core.trail import AuditTrail

NOT_RECORDED = "This user may not write to the trail, so that it was read is not recorded in it."


def can_record(trail: AuditTrail) -> bool:
    """Whether this user may write where the trail lies."""
    database = getattr(trail.store, "database", None)
    if not isinstance(database, SqliteDatabase):
        return True
    path = database.path
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


def note_reading(trail: AuditTrail, action: str, details: Mapping[str, Any]) -> bool:
    """Record that the trail is read; whether that could be tried."""
    if allowed := can_record(trail):
        trail.note_reading(action, details)
    return allowed
