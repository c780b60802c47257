"""One trail, written by servers with several workers, by a task queue, and by commands."""

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from audit_core import AuditTrail
from tests.adapters.processes import ROOT, running
from tests.postgres import apps
from tests.postgres.server import as_role, new_database

REQUESTS = 60
GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "4", "--log-level", "error"]


@pytest.fixture
def url(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.store.database.run("postgres_roles.sql")
    apps.make_tables(url)
    return url


def test_four_workers_that_share_what_was_loaded_before_they_were_forked_write_one_chain(url):
    with (
        running([*GUNICORN, "--preload", "tests.postgres.apps:flask_app()"], url) as address,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: httpx.post(f"{address}/patients", timeout=30), range(REQUESTS)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["pid"] for answer in answers}) > 1
    actions = verified(url)
    assert actions["create"] == actions["POST /patients"] == REQUESTS


def test_a_prefork_task_queue_writes_the_same_chain(url, tmp_path):
    environment = {**os.environ, "AUDIT_URL": url, "QUEUE_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tests.postgres.tasks", "worker", "--concurrency", "2", "-l", "ERROR"],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        send = "from tests.postgres.tasks import app\nfor n in range(20): app.send_task('admit', [n])"
        subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=environment, check=True)
        with AuditTrail(url, lifecycle=False) as trail:
            ends = time.monotonic() + 60
            while len(list(trail.events(action="patient.admitted"))) < 20 and time.monotonic() < ends:
                time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(30)
    actions = verified(url)
    assert actions["create"] == actions["patient.admitted"] == 20
    assert actions["trail.stopped"] == actions["trail.started"] > 0  # each child has written what it held


def test_an_application_that_may_only_write_is_sealed_by_a_process_of_another_role(url):
    with AuditTrail(url, lifecycle=False) as trail, trail.store.database.transaction() as connection:
        connection.execute("GRANT INSERT, SELECT ON public.patient TO audit_application")
        connection.execute("GRANT USAGE ON SEQUENCE public.patient_id_seq TO audit_application")
    with running([*GUNICORN, "tests.postgres.apps:flask_app()"], as_role(url, "audit_application")) as address:
        for _ in range(5):
            assert httpx.post(f"{address}/patients").status_code == 201
        with AuditTrail(as_role(url, "audit_sealer"), lifecycle=False) as sealer:
            sealer.flush()
            assert Counter(event.action for event in sealer.events())["create"] == 5
    assert verified(url)["POST /patients"] == 5


def verified(url):
    """How many sealed events of each action; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush()
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        return Counter(event.action for event in trail.events())
