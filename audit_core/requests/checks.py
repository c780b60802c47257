"""What an adapter was given, before its first request."""

from __future__ import annotations

from audit_core.settings import no_trail
from audit_core.trail import AuditTrail


def checked_trail(trail: object) -> AuditTrail:
    """The trail, which now serves requests, with its hash key.

    Raises ConfigurationError for anything else, such as its URL, and without a key.
    """
    if isinstance(trail, AuditTrail):
        _ = trail.redactor  # else every request would fail, and not the start
        trail.serves_requests = True
        return trail
    raise no_trail(trail, "trail=AuditTrail(url)")
