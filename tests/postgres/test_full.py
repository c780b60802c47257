"""No room on the server's disk, or for another connection: what is recorded waits, and nothing is lost."""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import StoreUnavailableError
from tests.adapters.servers import wait_until
from tests.postgres.server import Server, new_database

BALLAST = 1 << 20


@pytest.fixture(scope="module")
def server():
    server = Server(18)
    yield server
    server.stop()


@pytest.fixture
def small_disk(server):
    """A folder with room for 48 MB, as a tablespace of the server."""
    folder = Path(tempfile.mkdtemp(prefix="audit-disk-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        folder.rmdir()
        pytest.skip("only root can mount a disk that is small enough to fill")
    try:
        (folder / "data").mkdir()
        shutil.chown(folder / "data", server.user)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{folder / 'data'}'")
        yield folder
    finally:
        server.stop()
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def fill(folder):
    """Leave no byte."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"x" * BALLAST)


def sealed(url):
    """How often each resource is in the chain; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush(30)
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        return Counter(event.resource_id for event in trail.events(action="work.done"))


def test_a_server_without_a_connection_left_is_waited_for_and_loses_nothing(state, server, caplog):
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_connections = 10")
    server.restart()
    url = new_database(url=server.url)
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("work.done", resource=("work", "0"))
        trail.flush()
        others = []
        for _ in range(3):  # what the trail's threads were using comes back in a moment
            trail.store.database.close()
            others += take_all_connections(url)
            time.sleep(0.05)
        for number in range(1, 6):
            trail.record("work.done", resource=("work", str(number)))
        assert wait_until(lambda: "Nothing is sealed until this is mended" in caplog.text, 10)
        assert "raise max_connections, or put a pooler between" in caplog.text
        assert "host, user, password" not in caplog.text
        for other in others:
            other.close()
        assert wait_until(lambda: not list(trail.waiting()), 30)
    assert sealed(url) == {str(number): 1 for number in range(6)}


def take_all_connections(url):
    """Until the server refuses one."""
    others = []
    while True:
        try:
            others.append(psycopg.connect(url))
        except psycopg.OperationalError:
            return others


def test_a_full_disk_is_waited_for_and_loses_nothing(state, small_disk, server, caplog):
    url = new_database(url=server.url, options="TABLESPACE small")
    count = 300
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("work.done", resource=("work", "0"))
        trail.flush()
        with psycopg.connect(url) as connection:  # committed and waiting, when the disk is full
            trail._writer.follower.close(5)
            big = {"text": "x" * 20_000}
            events = [trail.event("work.done", resource=("work", str(n)), details=big) for n in range(1, count)]
            trail.outboxes[0].put(events, connection)
            fill(small_disk)
        with pytest.raises(StoreUnavailableError, match="make room on the server's disk"):
            trail.sealer.seal()
        for number in range(count, count + 100):
            trail.record("work.done", resource=("work", str(number)), details=big)
        assert "Events wait for the outbox, durably in the spill file" in caplog.text
        assert "make room on the server's disk" in caplog.text
        assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
        (small_disk / "ballast").unlink()
        trail.keep_sealing()
        assert wait_until(lambda: not list(trail.waiting()), 30)
    assert sealed(url) == {str(number): 1 for number in range(count + 100)}
