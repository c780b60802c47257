"""A server in a process of its own, to be stopped as an operator stops it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx

from audit_core import AuditTrail
from tests.adapters.servers import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def running(command: list[str], trail_url: str):
    """``{port}`` in the command is the port. Yields its URL, and stops it with SIGTERM."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, *(part.replace("{port}", str(port)) for part in command)]
    environment = {**os.environ, "AUDIT_URL": trail_url, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_until(lambda: _answers(url), 60)  # four processes start, on a machine that may be busy
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def sealed_and_stopped(url):
    """The five requests are in the chain, and the last word is the trail's own."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        found = list(trail.events(newest_first=False))
        assert [event.action for event in found].count("POST /patients") == 5
        assert found[-1].action == "trail.stopped"
        assert all(event.sealed for event in found)
