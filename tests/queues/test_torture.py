"""Whoever is killed: what is acknowledged is sealed once, or its loss is one that is admitted, and it is counted."""

import pytest

from tests.queues import soak
from tests.queues.redis_server import Server
from tests.queues.torture import EVERYBODY, Round


@pytest.fixture(autouse=True)
def _state(monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))


def test_redis_with_a_file_loses_nothing_whoever_is_killed(tmp_path):
    server = Server("--appendfsync", "always")
    found = Round(server.url, server, tmp_path, events=2_000, processes=2, kill=EVERYBODY).play(1.0)
    server.stop()
    assert found[1:4] == (0, 0, 0)


@pytest.mark.long
@pytest.mark.parametrize("kind", soak.KINDS)
def test_each_queue_loses_what_is_admitted_and_tells_of_it(kind, tmp_path):
    soak.play(kind, tmp_path, events=16_000, processes=4)
