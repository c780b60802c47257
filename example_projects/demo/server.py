"""The real server, in a process of its own, on a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from example_projects.demo import signals

CHECKOUT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 15.0
MODULES = {
    "fastapi": ["example_projects.fastapi_clinic"],
    "flask": ["example_projects.flask_clinic"],
    "django": ["example_projects.django_clinic"],
    "django --asgi": ["example_projects.django_clinic", "--asgi"],
}
NAMES = {
    "fastapi": "FastAPI on uvicorn",
    "flask": "Flask on waitress",
    "django": "Django on waitress (WSGI)",
    "django --asgi": "Django on uvicorn (ASGI)",
}


class ServerError(Exception):
    """The server did not start; the message ends with what it had to say."""


class Server:
    """Runs one clinic for the length of a block."""

    def __init__(self, clinic: str, log: Path, environment: Mapping[str, str]) -> None:
        self._command: Sequence[str] = [sys.executable, "-m", *MODULES[clinic]]
        self._log, self._environment = log, environment
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        environment = {**os.environ, **self._environment, "PORT": str(self.port)}
        with ExitStack() as unless_it_answers:
            # In a session of its own: Ctrl-C in the terminal reaches the demo, and the demo stops the server.
            with self._log.open("wb") as log, signals.deferred():
                self._process = subprocess.Popen(
                    self._command,
                    cwd=CHECKOUT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                unless_it_answers.callback(self.stop)  # also for what arrives when the deferring ends
            self._wait_until_it_answers()
            unless_it_answers.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> bool:
        """SIGTERM, as every process manager sends it; whether the server ended by itself upon that."""
        with signals.deferred():
            self._process.terminate()
            try:
                return self._process.wait(STOP_SECONDS) in {0, -signal.SIGTERM}
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                return False

    def said(self, lines: int = 25) -> str:
        """The end of the server's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise ServerError(f"The server does not answer. The end of its log:\n{self.said()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
