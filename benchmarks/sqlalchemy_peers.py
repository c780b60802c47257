"""The peers of SQLAlchemy's ORM, each set up as its own documentation says.

SQLAlchemy-Continuum can also use triggers (``native_versioning``). They need PostgreSQL's extension hstore, which the
server of these benchmarks has not.
"""

from __future__ import annotations

from typing import Any

REQUIREMENTS = {
    "continuum": "SQLAlchemy-Continuum==2.0.0",
    "history": "SQLAlchemy-History==2.2.1",
    "postgresql_audit": "PostgreSQL-Audit==0.18.0",
    "audit_trail": "sqlalchemy-audit-trail==0.2.0",
}
ONLY_POSTGRESQL = ("postgresql_audit", "audit_trail")
TABLES = {  # where it writes what it tells
    "continuum": "patient_version",
    "history": "patient_version",
    "postgresql_audit": "activity",
    "audit_trail": "audit.audit_activity",
}


def before_classes(variant: str, base: type[Any]) -> tuple[type[Any], ...]:
    """What is to be done before classes are mapped; the bases that an audited class has besides ``base``."""
    if variant == "continuum":
        from sqlalchemy_continuum import make_versioned

        make_versioned(user_cls=None)
    elif variant == "history":
        from sqlalchemy_history import make_versioned

        make_versioned(user_cls=None)
    elif variant == "postgresql_audit":
        from postgresql_audit import versioning_manager

        versioning_manager.init(base)
    elif variant == "audit_trail":
        from audit_trail import Audited

        return (Audited,)
    return ()


def before_tables(variant: str, engine: Any) -> None:
    """What has to be made before the tables that are audited."""
    if variant == "postgresql_audit":
        from postgresql_audit import versioning_manager

        for made in (versioning_manager.transaction_cls, versioning_manager.activity_cls):
            made.__table__.create(engine)


def after_tables(variant: str, engine: Any, sessions: Any) -> None:
    """The same once the tables are there."""
    if variant == "audit_trail":
        from audit_trail import AuditTrail
        from audit_trail.migrations import create_audit_tables

        trail = AuditTrail(engine, events=[])
        trail.install(sessions)
        with engine.begin() as connection:
            create_audit_tables(connection, trail.tables, trail.severities)
        trail.maintenance.ensure_partitions()
