"""A development server that starts anew whenever a file changes."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from audit_core import AuditTrail
from tests.postgres.server import new_database

APP = """
from fastapi import FastAPI
from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware

trail = AuditTrail({url!r})
app = FastAPI()
app.add_middleware(AuditMiddleware, trail=trail)

@app.post("/rooms/{{number}}")
def room(number: str) -> str:
    return "version {version}"
"""


def post(port, number, expected):
    """What the server answers, as soon as it is the expected version."""
    deadline, answer = time.monotonic() + 40, b""
    while expected not in answer and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            answer = httpx.post(f"http://127.0.0.1:{port}/rooms/{number}").content
        time.sleep(0.2)
    return answer


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/app.db"


def test_uvicorn_reloads_cleanly(url, tmp_path):
    (tmp_path / "code").mkdir()
    main = tmp_path / "code" / "main.py"
    main.write_text(APP.format(url=url, version=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "main:app", "--reload", "--port", str(port)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        command, cwd=main.parent, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert b"version 1" in post(port, "before", b"version 1")
        time.sleep(1)  # a file's time is compared
        main.write_text(APP.format(url=url, version=2))
        assert b"version 2" in post(port, "after", b"version 2")
    finally:
        os.killpg(server.pid, signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush()
        actions = [(event.action, event.sealed) for event in trail.events()]
        assert actions.count(("trail.started", True)) == actions.count(("trail.stopped", True)) == 2
        assert {e.resource_id for e in trail.events(action="POST /rooms/{number}")} == {"before", "after"}
        assert trail.chain.verify().findings == ()
