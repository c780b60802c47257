"""The trail's database goes away, waits or comes back in the midst of requests: all are answered, nothing is lost."""

import base64
import itertools
import os
import signal
from collections import Counter, defaultdict
from contextlib import contextmanager

import psycopg
import pytest

from audit_core import AuditTrail
from tests.adapters.servers import wait_until
from tests.postgres.server import Server, new_database
from tests.servers.notes import make_tables
from tests.servers.running import SERVERS, running
from tests.servers.traffic import asking

CLIENTS = 10
SOME = 30  # answers, of which there are some from each client
ONE_WORKER = ("--workers", "1")
EMPTY = "POST /empty"
NAMES = ["FastAPI under uvicorn", "Flask under gunicorn with gevent", "Django under gunicorn with threads"]
LONG = pytest.mark.long


@pytest.fixture(scope="module")
def server():
    server = Server(18)
    yield server
    server.stop()


@pytest.fixture
def url(server, state):
    url = new_database(url=server.url)
    make_tables(url)
    return url


@contextmanager
def traffic(name, url, folder):
    """One worker, and clients who ask for the length of the block."""
    with (
        running((*SERVERS[name], *ONE_WORKER), url, folder) as site,
        asking(site.url, itertools.count(), CLIENTS, "/empty") as answers,
    ):
        yield site, answers


def more(answers, status, count=SOME):
    """Whether so many more come with this status."""
    before = Counter(answer.status for answer in answers)[status]
    return wait_until(lambda: Counter(answer.status for answer in answers)[status] >= before + count, 60)


def sealed(url):
    """The sequences of the requests' events, by request id and action; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush(30)
        assert list(trail.waiting()) == []
        assert trail.verify().findings == ()
        found = defaultdict(list)
        for event in trail.events():
            found[event.request_id, event.action].append(event.sequence)
        return found


def lost(url):
    """How many events the trail itself says that it has lost."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        return sum(event.details["lost"] for event in trail.events(action="trail.gap"))


@pytest.mark.parametrize("name", [*NAMES[:2], pytest.param(NAMES[2], marks=LONG)])
def test_while_the_server_is_down_requests_go_on_and_their_events_are_sealed_once_and_in_order(
    name, server, url, tmp_path
):
    with traffic(name, url, tmp_path) as (site, answers):
        assert more(answers, 201)
        server.control("-m", "immediate", "stop")
        try:
            assert more(answers, 201), site.said
        finally:
            server.restart()
        assert more(answers, 201)
    assert {answer.status for answer in answers} == {201}
    found = sealed(url)
    of_clients = defaultdict(list)
    for answer in answers:
        (sequence,) = found[answer.request_id, EMPTY]
        of_clients[answer.client].append(sequence)
    assert len(of_clients) == CLIENTS
    assert all(sequences == sorted(sequences) for sequences in of_clients.values())
    assert "Traceback" not in site.said, site.said


def test_what_a_worker_had_put_aside_when_it_was_killed_is_sealed_by_the_next_one(server, url, tmp_path):
    with traffic(NAMES[1], url, tmp_path) as (site, answers):
        assert more(answers, 201)
        server.control("-m", "immediate", "stop")
        try:
            assert more(answers, 201)
            os.kill(site.a_worker(), signal.SIGKILL)
            assert more(answers, 201), site.said
        finally:
            server.restart()
        assert more(answers, 201)
    found = sealed(url)
    assert {len(found[answer.request_id, EMPTY]) for answer in answers if answer.status == 201} == {1}


@pytest.mark.parametrize("name", [pytest.param(NAMES[0], marks=LONG), NAMES[1], pytest.param(NAMES[2], marks=LONG)])
def test_where_an_event_can_be_durable_nowhere_and_must_be_the_answer_is_503_until_it_can(name, server, url, tmp_path):
    (tmp_path / "file").touch()
    settings = {
        "AUDIT_ON_FAILURE": "block",
        "AUDIT_STATE_DIR": str(tmp_path / "file"),  # in which no spill file can lie
        "AUDIT_KEY": base64.b64encode(b"k" * 32).decode(),
        "AUDIT_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name_, value in settings.items():
            patch.setenv(name_, value)
        with traffic(name, url, tmp_path) as (site, answers):
            assert more(answers, 201), site.said
            server.control("-m", "immediate", "stop")
            try:
                assert more(answers, 503), site.said
            finally:
                server.restart()
            assert more(answers, 201)
        found = sealed(url)
    assert {answer.status for answer in answers} == {201, 503}
    refused = [answer for answer in answers if answer.status == 503]
    expected = Counter((answer.request_id, EMPTY) for answer in answers)
    expected.update((answer.request_id, "response.broken") for answer in refused)
    kept = Counter({one: len(found[one]) for one in expected})
    assert not kept - expected, "none is there twice"
    # In memory there is room for some thousands: on a slow machine there are more before the server is back.
    assert (expected - kept).total() == lost(url)


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=LONG) for name in NAMES[1:])])
def test_while_the_outbox_makes_everybody_wait_what_is_not_audited_is_answered(name, url, tmp_path):
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with traffic(name, url, tmp_path) as (site, answers), psycopg.connect(url) as other:
        assert more(answers, 201)
        other.execute("LOCK TABLE audit.audit_outbox IN ACCESS EXCLUSIVE MODE")
        with psycopg.connect(url, autocommit=True) as watcher:
            assert wait_until(lambda: watcher.execute(waiting).fetchone()[0] > 0, 30)
            assert site.a_worker() > 0
            assert watcher.execute(waiting).fetchone()[0] > 0, "they still wait"
        other.rollback()
        assert more(answers, 201)
    found = sealed(url)
    assert {len(found[answer.request_id, EMPTY]) for answer in answers} == {1}
