"""Small applications that audit one PostgreSQL trail from several processes; AUDIT_URL says which."""

import os

from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patient"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def sessions(trail: AuditTrail) -> sessionmaker[Session]:
    factory = sessionmaker(create_engine(trail.url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool))
    SQLAlchemyAuditor(trail).attach(factory)
    return factory


def make_tables(url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))


def flask_app():
    from flask import Flask

    from audit_flask import Audit

    trail = AuditTrail(os.environ["AUDIT_URL"])
    factory, app = sessions(trail), Flask("clinic")
    Audit(app, trail)

    @app.get("/health")
    def health():
        return {}

    @app.post("/patients")
    def create():
        with factory.begin() as session:
            session.add(Patient(name="Ann"))
        return {"pid": os.getpid()}, 201

    return app


def celery_app():
    from celery import Celery

    trail = AuditTrail(os.environ["AUDIT_URL"])
    factory = sessions(trail)
    folder = os.environ["QUEUE_FOLDER"]
    app = Celery("clinic", broker="filesystem://")
    app.conf.update(
        broker_transport_options={"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder},
        worker_hijack_root_logger=False,
    )

    @app.task(name="admit")
    def admit(number):
        with trail.actor("worker", type="service"), factory.begin() as session:
            session.add(Patient(name=f"Patient {number}"))
        trail.record("patient.admitted", resource=("patient", str(number)))

    return app
