"""The audit trail for FastAPI and Starlette.

app.add_middleware(AuditMiddleware, trail=trail)
"""

from audit_core import add_details, audited, set_actor, set_outcome
from audit_core.extras import needed_by

with needed_by("audit_fastapi", "fastapi", "starlette", "anyio"):
    from audit_fastapi.middleware import AuditMiddleware

__all__ = ["AuditMiddleware", "add_details", "audited", "set_actor", "set_outcome"]
