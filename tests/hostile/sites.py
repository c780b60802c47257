"""Each application twice, with an audit and without one, under each server that is used for it."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from audit_core import AuditTrail
from tests.adapters.processes import ROOT, free_port
from tests.adapters.servers import UvicornServer, WaitressServer, wait_until
from tests.hostile.arrivals import Arrivals
from tests.hostile.wire import LAST, exchange
from tests.suites.everything import Everything

DURING = {"lifecycle": False, "trusted_proxies": ["127.0.0.1"]}  # so that all that they say is looked at


class Uvicorn(UvicornServer):
    lifespan = "off"

    def __init__(self, http):
        self.http = http

    def make_app(self, trail, probe):
        raise NotImplementedError


class Waitress(WaitressServer):
    def make_app(self, trail, probe):
        raise NotImplementedError


def _fastapi(trail):
    from tests.hostile.asgi_apps import fastapi_app

    return fastapi_app(trail)


def _starlette(trail):
    from tests.hostile.asgi_apps import starlette_app

    return starlette_app(trail)


def _flask(trail):
    from tests.hostile.flask_site import make_app

    return make_app(trail)


def _django(trail, *, asgi):
    from tests.hostile.django_site import make_app

    return make_app(trail, asgi=asgi)


@dataclass
class Threaded:
    """A server in a thread of this process."""

    server: Any
    make_app: Any
    is_asgi: bool
    settings: dict = field(default_factory=dict)

    @contextmanager
    def serve(self, url, arrivals):
        trail = AuditTrail(url, policy=Everything(), **DURING, **self.settings) if url else None
        wrapper = Arrivals(arrivals)
        app = (wrapper.asgi if self.is_asgi else wrapper.wsgi)(self.make_app(trail))
        with self.server.serve_app(app) as address:
            yield urlsplit(address).port
        if trail is not None:
            trail.close()


class Gunicorn:
    """Threads of a worker that is a process."""

    @contextmanager
    def serve(self, url, arrivals):
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "4", "--log-level", "critical"]
        command += ["-b", f"127.0.0.1:{port}", "tests.hostile.flask_site:from_environment()"]
        environment = {**os.environ, "AUDIT_URL": url or "", "ARRIVALS": str(arrivals), "PYTHONPATH": str(ROOT)}
        environment["PYTHONHASHSEED"] = "0"  # the header Allow has the order of a set
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: _answers(port), 60)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)


def _answers(port):
    try:
        return bool(exchange(port, LAST).data)
    except OSError:
        return False


FORWARDED = {"proxy_header": "Forwarded"}
SITES = {
    "fastapi-h11": Threaded(Uvicorn("h11"), _fastapi, is_asgi=True),
    "fastapi-httptools": Threaded(Uvicorn("httptools"), _fastapi, True, FORWARDED),
    "starlette": Threaded(Uvicorn("httptools"), _starlette, is_asgi=True),
    "flask-waitress": Threaded(Waitress(), _flask, False, FORWARDED),
    "flask-gunicorn": Gunicorn(),
    "django-wsgi": Threaded(Waitress(), partial(_django, asgi=False), is_asgi=False),
    "django-asgi": Threaded(Uvicorn("httptools"), partial(_django, asgi=True), True, FORWARDED),
}
