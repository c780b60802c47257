"""Every change that a SQLAlchemy session makes."""

from audit_core.orm.sqlalchemy.auditor import SQLAlchemyAuditor

__all__ = ["SQLAlchemyAuditor"]
