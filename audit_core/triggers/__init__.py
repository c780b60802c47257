"""Changes captured by triggers of PostgreSQL, whoever makes them: cascades, raw SQL, COPY, TRUNCATE, a DBA in psql."""

from audit_core.triggers.context import carry_context
from audit_core.triggers.install import Triggers, install
from audit_core.triggers.known import Known

__all__ = ["Known", "Triggers", "carry_context", "install"]
