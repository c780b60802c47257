"""A clinic with a task queue: `celery -A tests.celery.clinic` runs its workers. CLINIC_FOLDER is where it lies."""

import os
from functools import partial

from celery import Celery
from celery.signals import task_postrun
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from audit_core import AuditTrail
from audit_core.celery import carry_actor
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
from tests.celery.folder import BROKER


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[str] = mapped_column(primary_key=True)


class Clinic:
    def __init__(self, folder):
        self.trail = AuditTrail(f"sqlite:///{folder}/clinic.db", lifecycle=False)
        engine = create_engine(f"sqlite:///{folder}/clinic.db", poolclass=NullPool)
        Base.metadata.create_all(engine)
        self.sessions = sessionmaker(engine)
        SQLAlchemyAuditor(self.trail).attach(self.sessions)
        self.app = Celery("clinic", broker=f"{BROKER}://", backend=f"file://{folder}", set_as_current=False)
        self.app.conf.update(
            broker_transport_options={
                "data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder),
                "polling_interval": 0.02,
            },
            worker_hijack_root_logger=False,
            worker_prefetch_multiplier=1,
        )  # fmt: skip
        carry_actor()
        self._add_tasks()

    def _add_tasks(self):
        task, trail = partial(self.app.task, shared=False), self.trail
        left_open = []

        @task(name="note")
        def note(key, *_):
            trail.record("note.made", resource=("note", key))

        @task(name="note_later")
        def note_later(key):
            note.delay(key)

        @task(name="admit")
        def admit(key, *, fails=False):
            with self.sessions.begin() as session:
                session.add(Patient(id=key))
                session.flush()
                if fails:
                    trail.record("note.made", resource=("patient", key))
                    raise ValueError

        @task(name="try_again", bind=True, max_retries=1)
        def try_again(self, key):
            trail.record("note.made", resource=("note", key))
            if self.request.retries == 0:
                with trail.actor("impostor"):
                    raise self.retry(countdown=0)

        @task(name="leave_open")
        def leave_open(key):
            """A generator that nobody ends keeps its block."""

            def rows():
                with trail.actor("left-open"):
                    yield trail.record("note.made", resource=("note", key))

            left_open.append(rows())
            next(left_open[-1])

        def idle(args, **_):
            trail.record("worker.idle", resource=("note", args[0]))

        task_postrun.connect(idle, sender=leave_open, weak=False)  # after the audit's own
        self.tasks = {one.name: one for one in (note, note_later, admit, try_again, leave_open)}


if "CLINIC_FOLDER" in os.environ:
    app = Clinic(os.environ["CLINIC_FOLDER"]).app
