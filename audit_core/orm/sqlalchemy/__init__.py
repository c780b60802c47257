"""Every change that a SQLAlchemy session makes."""

from audit_core.extras import needed_by

with needed_by("SQLAlchemyAuditor", "sqlalchemy", "sqlalchemy"):
    from audit_core.orm.sqlalchemy.auditor import SQLAlchemyAuditor
    from audit_core.orm.sqlalchemy.known import known_of

__all__ = ["SQLAlchemyAuditor", "known_of"]
