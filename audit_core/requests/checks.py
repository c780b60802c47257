"""What an adapter was given, before its first request."""

from __future__ import annotations

from audit_core.errors import ConfigurationError
from audit_core.trail import AuditTrail
from audit_core.urls import without_password


def checked_trail(trail: object) -> AuditTrail:
    """The trail, which now serves requests, with its hash key.

    Raises ConfigurationError for anything else, such as its URL, and without a key.
    """
    if isinstance(trail, AuditTrail):
        _ = trail.redactor  # else every request would fail, and not the start
        trail.serves_requests = True
        return trail
    given = repr(without_password(trail)) if isinstance(trail, str) else f"a {type(trail).__name__}"
    raise ConfigurationError(f"The trail is an AuditTrail, not {given}: give trail=AuditTrail(url).")
