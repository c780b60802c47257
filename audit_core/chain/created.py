"""What the first record of a chain says: its origin, its key."""

from __future__ import annotations

from typing import Any

from audit_core.errors import IntegrityError
from audit_core.rows import from_row
from audit_core.stores import AuditStore


def created_details(store: AuditStore, connection: Any = None) -> dict[str, Any]:
    """Empty where it cannot be read."""
    row = store.row(0, connection)
    try:
        return from_row(row).details if row else {}
    except IntegrityError:
        return {}
