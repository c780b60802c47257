"""The audit trail for Flask.

Audit(app, trail)
"""

from audit_core import add_details, audited, set_actor, set_outcome
from audit_core.extras import needed_by

with needed_by("audit_flask", "flask", "flask", "werkzeug", "click"):
    from audit_flask.extension import Audit

__all__ = ["Audit", "add_details", "audited", "set_actor", "set_outcome"]
