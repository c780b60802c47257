"""The table that every application of this folder writes, and SQLAlchemy's way to it. AUDIT_URL says where.

POST /notes/{number}   201: set_actor(the X-Actor header), then a row with the X-Marker header, then
                       trail.record("note.written", details={"marker": ...})
POST /empty            201, and nothing of the application's own
POST /large/{mebibytes} and /upload: see streams.py
GET  /health           {"pid": ...}: which process answers
"""

import os

from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor

BUSY_SECONDS = 120  # SQLite's patience: it has one writer, and of a hundred who want to be it some wait for long
CONNECTIONS = 10  # of one process to PostgreSQL


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    marker: Mapped[str]


DURABLE = "AUDIT_BUFFERED" not in os.environ


def trail_of_environment() -> AuditTrail:
    on_failure = os.environ.get("AUDIT_ON_FAILURE", "spill")
    return AuditTrail(os.environ["AUDIT_URL"], on_failure=on_failure, durable=DURABLE)


def engine_of(url: str):
    if url.startswith("sqlite:"):
        return create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"), pool_size=CONNECTIONS, max_overflow=0)


def sessions(trail: AuditTrail) -> sessionmaker[Session]:
    factory = sessionmaker(engine_of(trail.url))
    SQLAlchemyAuditor(trail).attach(factory)
    return factory


def make_tables(url: str) -> None:
    """The trail's, and the application's one."""
    AuditTrail(url, lifecycle=False).close()
    engine = engine_of(url)
    if url.startswith("sqlite:"):
        with engine.connect() as connection:
            connection.execute(text("PRAGMA journal_mode = WAL"))
    Base.metadata.create_all(engine)
    engine.dispose()


def markers(url: str) -> list[str]:
    """What the application has committed."""
    engine = engine_of(url)
    with engine.connect() as connection:
        found = [row[0] for row in connection.execute(text("SELECT marker FROM note"))]
    engine.dispose()
    return found
