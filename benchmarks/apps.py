"""The applications that benchmarks/request_cost.py measures: with and without an audit trail, otherwise the same.

    python benchmarks/apps.py fastapi plain|durable|buffered PORT FOLDER

Each has POST /empty, which does nothing, and POST /work, which writes one row in one transaction.
"""

import sys
from pathlib import Path

from audit_core import AuditTrail


def make_trail(mode: str, folder: str) -> AuditTrail | None:
    if mode == "plain":
        return None
    return AuditTrail(f"sqlite:///{folder}/clinic.db", durable=mode == "durable")


def make_sessions(folder: str, trail: AuditTrail | None) -> tuple[object, object]:
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    class Base(DeclarativeBase):
        pass

    class Patient(Base):
        __tablename__ = "patient"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    engine = create_engine(f"sqlite:///{folder}/clinic.db", connect_args={"timeout": 30})
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = FULL"))
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        Base.metadata.create_all(connection)
    sessions = sessionmaker(engine)
    if trail is not None:
        from audit_core.orm.sqlalchemy import SQLAlchemyAuditor

        SQLAlchemyAuditor(trail).attach(sessions)
    return sessions, Patient


def serve_fastapi(mode: str, port: int, folder: str) -> None:
    import uvicorn
    from fastapi import FastAPI

    from audit_fastapi import AuditMiddleware

    trail = make_trail(mode, folder)
    sessions, patient = make_sessions(folder, trail)
    app = FastAPI()
    if trail is not None:
        app.add_middleware(AuditMiddleware, trail=trail)

    @app.post("/empty")
    async def empty() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/read")
    async def read() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/work")
    def work() -> dict[str, bool]:
        with sessions.begin() as session:
            session.add(patient(name="Ada"))
        return {"ok": True}

    uvicorn.run(app, port=port, log_level="error")


def serve_flask(mode: str, port: int, folder: str) -> None:
    import waitress
    from flask import Flask

    from audit_flask import Audit

    trail = make_trail(mode, folder)
    sessions, patient = make_sessions(folder, trail)
    app = Flask(__name__)
    if trail is not None:
        Audit(app, trail)

    @app.post("/empty")
    def empty() -> dict[str, bool]:
        return {"ok": True}

    @app.get("/read")
    def read() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/work")
    def work() -> dict[str, bool]:
        with sessions.begin() as session:
            session.add(patient(name="Ada"))
        return {"ok": True}

    waitress.serve(app, port=port, threads=8)


def serve_django(mode: str, port: int, folder: str) -> None:
    import django
    import waitress
    from django.conf import settings

    audited = mode != "plain"
    settings.configure(
        SECRET_KEY="x",
        ROOT_URLCONF="__main__",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["benchmarks.clinic", *(["audit_django"] if audited else [])],
        MIDDLEWARE=["audit_django.AuditMiddleware"] if audited else [],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": Path(folder) / "clinic.db",
                "OPTIONS": {"timeout": 30, "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"},
            }
        },
        AUDIT={"DURABLE": mode == "durable"},
    )
    django.setup()
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    from benchmarks.clinic.models import Patient

    call_command("migrate", "--run-syncdb", verbosity=0)

    def empty(request: object) -> JsonResponse:
        return JsonResponse({"ok": True})

    def work(request: object) -> JsonResponse:
        Patient(name="Ada").save()
        return JsonResponse({"ok": True})

    global urlpatterns
    urlpatterns = [path("empty", empty), path("read", empty), path("work", work)]
    waitress.serve(get_wsgi_application(), port=port, threads=8)


urlpatterns: list[object] = []

if __name__ == "__main__":
    framework, mode, port, folder = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent.parent))
    {"fastapi": serve_fastapi, "flask": serve_flask, "django": serve_django}[framework](mode, int(port), folder)
