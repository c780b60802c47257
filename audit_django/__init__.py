"""The audit trail of a Django project: one app, one middleware line.

INSTALLED_APPS += ["audit_django"]
MIDDLEWARE = ["audit_django.AuditMiddleware", *MIDDLEWARE]
"""

from audit_core import add_details, audited, set_actor, set_outcome
from audit_core.extras import needed_by
from audit_core.orm import redacted, unaudited

with needed_by("audit_django", "django", "django", "asgiref"):
    from audit_django.middleware import AuditMiddleware
    from audit_django.trail import get_trail

__all__ = [
    "AuditMiddleware",
    "add_details",
    "audited",
    "get_trail",
    "redacted",
    "set_actor",
    "set_outcome",
    "unaudited",
]
