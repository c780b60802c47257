"""Django on PostgreSQL under a server that loads the project once and forks its workers, told to stop in the midst."""

import signal
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from audit_core import AuditTrail
from tests.adapters.servers import wait_until
from tests.django.test_postgres import drop, migrate, new_prefix, project_on
from tests.postgres.server import shared

CLIENTS = 8
ENOUGH = 120  # changes, before the server is told to stop


@pytest.fixture
def project(tmp_path, state):
    server, prefix = shared().url, new_prefix()
    with psycopg.connect(server, autocommit=True) as connection:
        for alias in ("default", "other"):
            connection.execute(f"CREATE DATABASE {prefix}_{alias}")
    made = project_on(server, prefix, tmp_path)
    made.environment["AUDIT_STATE_DIR"] = str(state)
    migrate(made)
    yield made
    drop(server, [prefix])


def ask(url, query):
    with psycopg.connect(url, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query)]


def post_until_refused(address):
    """How often it was answered that the change is made."""
    made = 0
    with httpx.Client(base_url=address, timeout=30) as client:
        while True:
            try:
                made += client.post("/patients/").status_code == 201
            except httpx.HTTPError:
                return made


def test_every_change_of_four_preloaded_workers_is_sealed_once_when_they_are_stopped(project):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, address = project.urls["default"], f"http://127.0.0.1:{port}"
    server = project.start(
        "-m", "gunicorn", "--preload", "--workers", "4", "--bind", f"127.0.0.1:{port}",
        "django.core.wsgi:get_wsgi_application()", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    with ThreadPoolExecutor(CLIENTS) as pool:
        try:
            assert wait_until(lambda: answers(address))
            clients = [pool.submit(post_until_refused, address) for _ in range(CLIENTS)]
            assert wait_until(lambda: ask(url, "SELECT count(*) FROM clinic_patient")[0] >= ENOUGH, 30)
        finally:
            server.send_signal(signal.SIGTERM)
            said, _ = server.communicate(timeout=30)
        answered = sum(client.result() for client in clients)
    assert "Traceback" not in said, said
    assert "WARNING" not in said, said
    patients = Counter(map(str, ask(url, "SELECT id FROM clinic_patient")))
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush()  # two that stop at the same time may each leave a last event to the other
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        assert Counter(event.resource_id for event in trail.events(action="create")) == patients
        assert len(list(trail.events(action="POST /patients/"))) >= answered
        assert len(list(trail.events(action="trail.started"))) == len(list(trail.events(action="trail.stopped")))


def answers(address):
    try:
        return bool(httpx.get(f"{address}/indifferent/").status_code)
    except httpx.HTTPError:
        return False
