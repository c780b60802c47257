"""The example applications, asked for all that the schema of the one in FastAPI allows, and for more.

python -m tests.hostile.clinics fastapi|flask|django|django-asgi [--plain]      serves one, with its audit or without
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager

from hypothesis import HealthCheck, given, settings

from audit_core.context import AuditContext, end, enter
from tests.adapters.processes import ROOT, free_port

NAME, PASSWORD = "blackwell", "change me"
CLINICS = ("fastapi", "flask", "django", "django-asgi")


def play(folder, examples):
    """The answers that differed: none, if all is well. Prints how many there were of each status."""
    return [difference for clinic in CLINICS for difference in _play(clinic, folder, examples)]


def _play(clinic, folder, examples):
    counts, differences = Counter(), []
    often = settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    with _serving(clinic, folder) as servers:

        def ask(case):
            plain, audited = (_status(case, url, session) for url, session in servers)
            counts[audited] += 1
            if plain != audited:
                differences.append((clinic, case.method, case.formatted_path, plain, audited))

        for operation in _operations():
            often(given(operation.as_strategy())(ask))()
    told = ", ".join(f"{count:,} with {status}" for status, count in sorted(counts.items(), key=str))
    print(f"the clinic in {clinic}: {counts.total():,} requests by its schema, {told}", flush=True)
    return differences


def _status(case, url, session):
    import requests

    request = case.as_transport_kwargs(base_url=url)
    request["headers"].pop("Authorization", None)  # the session's goes instead
    try:
        return session.request(**{**request, "cookies": None}, timeout=60, allow_redirects=False).status_code
    except requests.exceptions.InvalidHeader:
        return 0  # it never left


def _operations():
    """Of the schema of FastAPI's application: all have the same addresses. Nobody logs out in the midst of it."""
    import schemathesis

    from example_projects.fastapi_clinic.app import app

    schema = schemathesis.openapi.from_dict(app.openapi())
    found = [result.ok() for result in schema.get_all_operations()]
    return [operation for operation in found if operation.path != "/logout"]


@contextmanager
def _serving(clinic, folder):
    """The URL of each of the two, and a session that is logged in there."""
    import requests

    with ExitStack() as stack:
        servers = []
        for way in (["--plain"], []):
            port = free_port()
            environment = {
                **os.environ,
                "PORT": str(port),
                "CLINIC_DATABASE": f"sqlite:///{folder}/{clinic}{''.join(way)}.db",
                "PYTHONPATH": str(ROOT),
            }
            command = [sys.executable, "-m", "tests.hostile.clinics", clinic, *way]
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait, 30)
            stack.callback(process.send_signal, signal.SIGTERM)
            url, session = f"http://127.0.0.1:{port}", requests.Session()
            servers.append((url, _log_in(url, session)))
        yield servers


def _log_in(url, session):
    from tests.adapters.servers import wait_until

    def is_open():
        try:
            return session.get(f"{url}/health", timeout=5).ok
        except OSError:
            return False

    assert wait_until(is_open, 60)
    answer = session.post(f"{url}/login", json={"name": NAME, "password": PASSWORD}, timeout=60).json()
    if "token" in answer:
        session.headers["Authorization"] = f"Bearer {answer['token']}"
    return session


def serve(clinic, *, plain):
    if clinic.startswith("django"):
        _serve_django(plain=plain, asgi=clinic == "django-asgi")
        return
    if plain:
        _leave_out_the_audit()
    if clinic == "fastapi":
        import uvicorn

        uvicorn.run("example_projects.fastapi_clinic.app:app", port=int(os.environ["PORT"]), log_level="critical")
    else:
        import waitress

        from example_projects.flask_clinic.app import open_clinic

        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        waitress.serve(open_clinic(), host="127.0.0.1", port=os.environ["PORT"], threads=8)


def _serve_django(*, plain, asgi):
    from example_projects.django_clinic import __main__ as clinic
    from example_projects.django_clinic import settings

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    settings.LOGGING_CONFIG = None
    if plain:
        settings.INSTALLED_APPS.remove("audit_django")
        settings.MIDDLEWARE[0] = f"{__spec__.name}.InContext"
    clinic.prepare()
    (clinic.serve_asgi if asgi else clinic.serve_wsgi)()


class InContext:
    """In the place of the audit: without a context ``add_details`` has nobody to tell."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        enter(context := AuditContext())
        try:
            return self.get_response(request)
        finally:
            end(context)


def _leave_out_the_audit():
    """Nothing but a context, without which ``set_actor`` and ``add_details`` have nobody to tell."""
    from audit_core.orm.sqlalchemy import SQLAlchemyAuditor
    from audit_fastapi import AuditMiddleware
    from audit_flask import extension

    async def call(self, scope, receive, send):
        enter(context := AuditContext())
        try:
            await self.app(scope, receive, send)
        finally:
            end(context)

    def called(self, environ, start_response):
        enter(context := AuditContext())
        try:
            return self.app(environ, start_response)
        finally:
            end(context)

    SQLAlchemyAuditor.attach = lambda self, *sessions: None
    AuditMiddleware.__call__, extension._Audited.__call__ = call, called


if __name__ == "__main__":
    serve(sys.argv[1], plain="--plain" in sys.argv)
