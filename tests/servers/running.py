"""The servers of this folder, each in processes of its own, started and ended as an operator does it."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.adapters.servers import wait_until

ROOT = Path(__file__).parents[2]
UVICORN = ("-m", "uvicorn", "--port", "{port}", "--workers", "2", "--log-level", "warning")
GUNICORN = (
    "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "--no-control-socket",
    "--timeout", "100", "--graceful-timeout", "100",  # the machine may be busy
)  # fmt: skip
THREADS = (*GUNICORN, "--threads", "16")
GEVENT = (*GUNICORN, "--worker-class", "gevent", "--worker-connections", "40")
FLASK = "tests.servers.flask_site:make_app()"
FASTAPI = ("--factory", "tests.servers.fastapi_site:make_app")
DJANGO_WSGI = "django.core.wsgi:get_wsgi_application()"
DJANGO_ASGI = ("--factory", "django.core.asgi:get_asgi_application")
SERVERS = {
    "FastAPI under uvicorn": (*UVICORN, *FASTAPI),
    "Flask under gunicorn with threads": (*THREADS, FLASK),
    "Flask under gunicorn with gevent": (*GEVENT, FLASK),
    "Flask under gunicorn with gevent, loaded before it patches": (*GEVENT, "--preload", FLASK),
    "Django under gunicorn with threads": (*THREADS, DJANGO_WSGI),
    "Django under gunicorn with gevent": (*GEVENT, DJANGO_WSGI),
    "Django under uvicorn": (*UVICORN, *DJANGO_ASGI),
}


@dataclass
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def a_worker(self) -> int:
        """The process that answers just now."""
        return httpx.get(f"{self.url}/health", timeout=20).json()["pid"]

    def workers(self) -> set[int]:
        """Its processes, also those that do not answer yet."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        return {pid for pid, parent in pairs if parent == self.process.pid}

    def stop(self) -> None:
        """As an operator does it; it has time to end what it has begun."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(100)


@contextmanager
def running(command, url, folder, **environment):
    """``{port}`` in the command is the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "server.log"
    environment = {
        **os.environ,
        "AUDIT_URL": url,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.servers.django_site.settings",
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *(part.replace("{port}", str(port)) for part in command)],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    server = Running(f"http://127.0.0.1:{port}", process, log)
    try:
        assert wait_until(lambda: _answers(server), 60), server.said
        yield server
        server.stop()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(server):
    try:
        return server.a_worker() > 0
    except httpx.HTTPError:
        return False
