"""Every statement of the sealer fails once: lost on its way, and done but reported lost."""

import time
from contextlib import suppress

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import StoreUnavailableError
from tests.postgres.server import new_database


class Faulty:
    """Cuts the connection at one of the statements that follow."""

    def __init__(self, monkeypatch):
        self.statements, self.cut_at, self.done = 0, 0, False
        ways = ((psycopg.Connection, "execute"), (psycopg.ClientCursor, "execute"), (psycopg.Cursor, "copy"))
        for owner, name in ways:
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name)))

    def wrapped(self, original):
        def statement(this, *args, **kwargs):
            self.statements += 1
            if self.statements != self.cut_at:
                return original(this, *args, **kwargs)
            if self.done:
                original(this, *args, **kwargs)
            getattr(this, "connection", this).close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        return statement


@pytest.fixture
def trail(state):
    with AuditTrail(new_database(), lifecycle=False) as trail:
        yield trail


def put(trail, number):
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([trail.event("a.b", resource=("n", f"{number}-{part}")) for part in range(3)], connection)


def test_a_statement_that_fails_loses_nothing_and_seals_nothing_twice(trail, monkeypatch):
    faulty = Faulty(monkeypatch)
    put(trail, 0)
    faulty.statements = 0
    trail.sealer.seal()
    statements = faulty.statements
    assert statements > 7  # begin, lock, head, look, known, copy, checkpoint, remove, commit
    wanted = {f"0-{part}" for part in range(3)}
    for number in range(1, 2 * statements + 1):
        put(trail, number)
        wanted |= {f"{number}-{part}" for part in range(3)}
        faulty.statements, faulty.cut_at, faulty.done = 0, (number + 1) // 2, number % 2 == 0
        with suppress(StoreUnavailableError):  # a BEGIN that fails is tried again on another connection
            trail.sealer.seal()
        faulty.cut_at = 0
        trail.sealer.seal()
        sealed = [event.resource_id for event in trail.events(action="a.b")]
        assert sorted(sealed) == sorted(wanted), (number, faulty.done)
    assert trail.chain.verify().findings == ()


def test_a_connection_that_was_cut_while_idle_is_replaced_unseen(trail):
    trail.record("before.cut")
    with psycopg.connect(trail.url, autocommit=True) as connection:
        others = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
        )
        connection.execute(others, (connection.info.backend_pid,))
    trail.record("after.cut")
    trail.flush()
    assert [event.action for event in trail.events()] == ["after.cut", "before.cut", "log.created"]
    assert trail.counters()["spilled"] == 0


def test_a_connection_that_is_in_use_while_all_are_closed_is_closed_once_it_is_given_back(trail):
    database = trail.store.database
    with database.transaction() as used:
        database.close()
        assert not used.closed
    assert used.closed
    with database.transaction() as next_one:
        pass
    assert not next_one.closed


def test_an_orderly_stop_seals_what_came_while_the_sealer_was_at_work(state, monkeypatch):
    with AuditTrail(new_database()) as trail:
        real = trail.sealer.seal_some
        monkeypatch.setattr(trail.sealer, "seal_some", lambda limit: (real(limit), time.sleep(0.5))[0])
        trail.record("a.b")
        time.sleep(0.2)
    with AuditTrail(trail.url, lifecycle=False, create=False) as trail:
        assert list(trail.waiting()) == []
        assert [event.action for event in trail.events()] == ["trail.stopped", "a.b", "trail.started", "log.created"]


@pytest.mark.parametrize("hurry", [AuditTrail.flush, AuditTrail.close])
def test_a_sealer_that_gathers_events_is_hurried_by_whoever_waits_for_it(state, monkeypatch, hurry):
    monkeypatch.setattr("audit_core.writing.follower_thread.GATHER_SECONDS", 600)
    trail = AuditTrail(new_database(), lifecycle=False)
    trail.record("a.b")
    hurry(trail)
    assert all(event.sealed for event in trail.events())
    trail.close()
