"""A flush that has to wait, because another process holds the SQLite file."""

import threading
import time
from contextlib import contextmanager

import pytest

from audit_core.errors import StoreUnavailableError
from audit_core.outbox.spill import peek
from audit_core.trail import AuditTrail
from tests.crash.test_processes import start

HOLDER = """
    import sqlite3, sys, time
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    print("locked", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trail.db"


@pytest.fixture
def trail(path):
    with AuditTrail(f"sqlite:///{path}") as trail:
        trail.record("a.b")
        yield trail


@contextmanager
def locked_by_another_process(path):
    process = start(HOLDER, path)
    assert process.stdout.readline() == "locked\n"
    try:
        yield process.kill
    finally:
        process.kill()
        process.communicate()


def flush(trail, timeout, told):
    """In a thread of its own; what becomes of it is told."""

    def run():
        began = time.monotonic()
        try:
            trail.flush(timeout)
            told.append("sealed")
        except StoreUnavailableError as error:
            told.append(str(error))
        told.append(time.monotonic() - began)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_what_is_recorded_while_a_flush_waits_is_durable_at_once(trail, path):
    told = []
    with locked_by_another_process(path):
        trail.record("before.flush")
        flushing = flush(trail, 3, told)
        time.sleep(0.3)
        began = time.monotonic()
        for number in range(5):
            event = trail.record("while.flushing", resource=("n", number))
            assert event in peek(path.parent / "trail.db-audit")
        assert time.monotonic() - began < 2
        assert not told
        flushing.join()
        assert "durable" in told[0]
        assert 3 <= told[1] < 4.5
    trail.flush()
    assert [event.sealed for event in trail.events(action="while.flushing")] == [True] * 5
    assert trail.verify().findings == ()


def test_a_flush_ends_when_its_own_events_are_sealed_however_many_follow(trail, path):
    told, done = [], threading.Event()

    def go_on():
        while not done.is_set():
            for future in [trail.submit("goes.on") for _ in range(400)]:
                future.result(20)

    with locked_by_another_process(path) as release:
        for number in range(300):
            trail.submit("before.flush", resource=("n", number))
        workers = [threading.Thread(target=go_on) for _ in range(2)]
        for worker in workers:
            worker.start()
        flushing = flush(trail, 20, told)
        time.sleep(0.5)
        release()
        flushing.join()
        seen = [event.sealed for event in trail.events(action="before.flush")]
        done.set()
        for worker in workers:
            worker.join()
    assert told[0] == "sealed"
    assert seen == [True] * 300


def test_several_flushes_wait_side_by_side_and_each_until_its_own_time(trail, path):
    first, second, third = [], [], []
    with locked_by_another_process(path) as release:
        trail.record("a.c")
        threads = [flush(trail, 0.3, first), flush(trail, 0.6, second), flush(trail, 20, third)]
        threads[0].join()
        threads[1].join()
        release()
        threads[2].join()
    assert ["durable" in told[0] for told in (first, second)] == [True, True]
    assert third[0] == "sealed"
    assert first[1] < second[1] < 3


def test_closing_ends_a_flush_that_waits(trail, path):
    told = []
    with locked_by_another_process(path):
        trail.record("a.c")
        flushing = flush(trail, 30, told)
        time.sleep(0.2)
        trail.close()
        flushing.join(5)
        assert "durable" in told[0]
