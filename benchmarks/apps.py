"""The applications that benchmarks/request_cost.py measures: with and without an audit trail, otherwise the same.

    python -m benchmarks.apps fastapi plain|durable|buffered|PEER PORT URL

POST /empty does nothing, POST /change writes one row in one transaction; POST /work does the same with a table that
the trail does not tell of; GET /read does nothing, and is not audited.
"""

import sys
from collections.abc import Callable

from audit_core import AuditTrail
from benchmarks.databases import django_database
from benchmarks.peers import add_to_fastapi, settings_of_easy_audit, sqlalchemy_url

OURS = ("durable", "buffered")
OK = {"ok": True}
THREADS = 8


def make_trail(variant: str, url: str) -> AuditTrail | None:
    return AuditTrail(url, durable=variant == "durable") if variant in OURS else None


def with_sqlalchemy(url: str, trail: AuditTrail | None) -> tuple[Callable[[], None], Callable[[], None]]:
    """What writes a row that the trail does not tell of, and one that it tells of."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    class Base(DeclarativeBase):
        pass

    class Draft(Base):
        __tablename__ = "draft"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Patient(Base):
        __tablename__ = "patient"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    is_file = url.startswith("sqlite")
    engine = create_engine(sqlalchemy_url(url), connect_args={"timeout": 30} if is_file else {})
    if is_file:
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = FULL"))
    with engine.begin() as connection:
        if is_file:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        Base.metadata.create_all(connection)
    sessions = sessionmaker(engine)
    if trail is not None:
        from audit_core.orm.sqlalchemy import SQLAlchemyAuditor

        SQLAlchemyAuditor(trail, exclude=[Draft]).attach(sessions)

    def work() -> None:
        with sessions.begin() as session:
            session.add(Draft(name="Ada"))

    def change() -> None:
        with sessions.begin() as session:
            session.add(Patient(name="Ada"))

    return work, change


def serve_fastapi(variant: str, port: int, url: str) -> None:
    import uvicorn
    from fastapi import FastAPI

    from audit_fastapi import AuditMiddleware

    trail = make_trail(variant, url)
    write_draft, write_patient = with_sqlalchemy(url, trail)
    app = FastAPI()
    if trail is not None:
        app.add_middleware(AuditMiddleware, trail=trail)
    elif variant != "plain":
        add_to_fastapi(variant, app, url)

    @app.get("/read")
    async def read() -> dict[str, bool]:
        return OK

    @app.post("/empty")
    async def empty() -> dict[str, bool]:
        return OK

    @app.post("/work")
    def work() -> dict[str, bool]:
        write_draft()
        return OK

    @app.post("/change")
    def change() -> dict[str, bool]:
        write_patient()
        return OK

    uvicorn.run(app, port=port, log_level="error")


def serve_flask(variant: str, port: int, url: str) -> None:
    import waitress
    from flask import Flask

    from audit_flask import Audit

    trail = make_trail(variant, url)
    write_draft, write_patient = with_sqlalchemy(url, trail)
    app = Flask(__name__)
    if trail is not None:
        Audit(app, trail)

    @app.get("/read")
    def read() -> dict[str, bool]:
        return OK

    @app.post("/empty")
    def empty() -> dict[str, bool]:
        return OK

    @app.post("/work")
    def work() -> dict[str, bool]:
        write_draft()
        return OK

    @app.post("/change")
    def change() -> dict[str, bool]:
        write_patient()
        return OK

    waitress.serve(app, port=port, threads=THREADS)


def serve_django(variant: str, port: int, url: str) -> None:
    import django
    import waitress
    from django.conf import settings

    if variant in OURS:
        more = {
            "INSTALLED_APPS": ["audit_django"],
            "MIDDLEWARE": ["audit_django.AuditMiddleware"],
            "AUDIT": {"DURABLE": variant == "durable", "EXCLUDE": ["clinic.Draft"]},
        }
    else:
        more = {} if variant == "plain" else settings_of_easy_audit()
    settings.configure(
        **{
            "SECRET_KEY": "x",
            "ROOT_URLCONF": "__main__",
            "ALLOWED_HOSTS": ["*"],
            "DATABASES": {"default": django_database(url)},
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            **more,
            "INSTALLED_APPS": ["benchmarks.clinic", *more.get("INSTALLED_APPS", [])],
        }
    )
    django.setup()
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    from benchmarks.clinic.models import Draft, Patient

    call_command("migrate", verbosity=0)
    call_command("migrate", "--run-syncdb", verbosity=0)

    def empty(request: object) -> JsonResponse:
        return JsonResponse(OK)

    def work(request: object) -> JsonResponse:
        Draft(name="Ada").save()
        return JsonResponse(OK)

    def change(request: object) -> JsonResponse:
        Patient(name="Ada").save()
        return JsonResponse(OK)

    views = {"read": empty, "empty": empty, "work": work, "change": change}
    global urlpatterns
    urlpatterns = [path(name, view) for name, view in views.items()]
    waitress.serve(get_wsgi_application(), port=port, threads=THREADS)


urlpatterns: list[object] = []

if __name__ == "__main__":
    framework, variant, port, url = sys.argv[1:]
    {"fastapi": serve_fastapi, "flask": serve_flask, "django": serve_django}[framework](variant, int(port), url)
