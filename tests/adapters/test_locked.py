"""SQLite refuses at once, whatever its timeout, a transaction that has read and now wants to write, if anybody else
has committed in between. Our commits must not be that somebody."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from audit_core import AuditTrail
from tests.adapters import banks
from tests.adapters.servers import wait_until

ROOT = Path(__file__).parents[2]
WITHOUT_A_PAUSE = 8.0  # seconds


@contextmanager
def bank_process(framework, file):
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        fd, url = listener.fileno(), f"http://127.0.0.1:{listener.getsockname()[1]}"
        command = [sys.executable, "-m", "tests.adapters.banks", framework, file, str(fd), "audited"]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ}, pass_fds=[fd])
    try:
        assert wait_until(lambda: answers(url))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def answers(url):
    try:
        return httpx.get(f"{url}/refusals").status_code == 200
    except httpx.HTTPError:
        return False


def load(urls, transfer, seconds):
    """What many clients are answered, who transfer, do nothing, and are denied, all at once.

    For so many seconds, and on a slow machine until there were a few transfers.
    """
    counting = threading.Lock()
    until, patience, seen = time.monotonic() + seconds, time.monotonic() + 30, Counter()

    def goes_on():
        now = time.monotonic()
        return now < until or (now < patience and seen[transfer, 200] <= 20)

    def client(url, method, path):
        with httpx.Client(base_url=url, timeout=30) as client:
            while goes_on():
                answer = client.request(method, path).status_code
                with counting:
                    seen[path, answer] += 1

    kinds = [("POST", transfer)] * 3 + [("POST", "/nothing")] * 6 + [("GET", "/denied")] * 3
    threads = [threading.Thread(target=client, args=(url, *kind)) for url in urls for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def refusals(framework, transfer, tmp_path, *, journal, processes, seconds):
    """How often SQLite said no; that nothing is missing from the trail is looked at besides."""
    file = str(tmp_path / "bank.db")
    banks.create(file, journal)
    with ExitStack() as running:
        urls = [running.enter_context(bank_process(framework, file)) for _ in range(processes)]
        seen = load(urls, transfer, seconds)
        late = sum(int(httpx.get(f"{url}/refusals").text) for url in urls)
    with AuditTrail(f"sqlite:///{file}", lifecycle=False) as trail:
        trail.flush()
        kept = Counter(event.action for event in trail.events())
        assert kept[f"POST {transfer}"] == seen[transfer, 200] + seen[transfer, 409]
        assert kept["POST /nothing"] == seen["/nothing", 200] > 0
        assert kept["GET /denied"] == seen["/denied", 403] > 0
        assert not trail.verify().findings
    transferred = seen[transfer, 200] - late
    assert banks.balance(file) == transferred > 10
    return seen[transfer, 409] + late


@pytest.mark.parametrize(
    ("journal", "processes"),
    [("WAL", 2), *(pytest.param(*more, marks=pytest.mark.long) for more in (("WAL", 1), ("DELETE", 2)))],
)
@pytest.mark.parametrize(
    ("framework", "transfer"),
    [("flask", "/transfer"), ("fastapi", "/transfer"), ("fastapi", "/late-transfer")],
    ids=["flask", "fastapi", "fastapi-committing-after-the-response"],
)
def test_transactions_that_read_and_then_write_see_no_locked_database_that_they_would_not_see_without_us(
    framework, transfer, journal, processes, tmp_path
):
    assert refusals(framework, transfer, tmp_path, journal=journal, processes=processes, seconds=1.5) == 0


@pytest.mark.long
def test_transactions_see_no_locked_database_either_where_there_is_no_quiet_moment_for_long(tmp_path):
    assert refusals("fastapi", "/transfer", tmp_path, journal="WAL", processes=1, seconds=WITHOUT_A_PAUSE) == 0
