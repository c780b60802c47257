"""Whatever the order of two transactions and the sealer: none waits for another, and what commits is sealed once."""

from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.outbox import late
from tests.postgres import interleavings
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, new_database

ORDERS = 60


@pytest.mark.parametrize("version", NEWEST_AND_AT_LENGTH_OLDEST)
def test_in_every_order_what_is_committed_is_sealed_once_and_nobody_waits(state, version):
    assert interleavings.play(new_database(version), ORDERS) == ORDERS


@contextmanager
def begun(url, count):
    """Connections with so many transactions, which have begun in this order."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(psycopg.connect(url))) for _ in range(count)]
        for connection in connections:
            connection.execute("SELECT pg_current_xact_id()")
        yield connections


@pytest.fixture
def trail(state, monkeypatch):
    """A trail whose sealer has looked, and to which every look is long ago."""
    monkeypatch.setattr(late, "GRACE_SECONDS", 0)
    with AuditTrail(new_database(), lifecycle=False) as trail:
        trail.sealer.seal()
        yield trail


def test_the_newest_transaction_may_stay_open_for_long_and_its_events_are_sealed_in_order(trail):
    """A snapshot does not name a transaction that began after all that have ended."""

    def put(action, connection):
        trail.outboxes[0].put([trail.event(action)], connection)

    with begun(trail.url, 2) as (first, newest):
        put("newest.one", newest)
        put("first.one", first)
        first.commit()
        for _ in range(3):  # while it stays open
            trail.sealer.seal()
        put("newest.two", newest)
        newest.commit()
        trail.sealer.seal()
    sealed = sorted((event.sequence, event.action) for event in trail.events())
    assert [action for _, action in sealed] == ["log.created", "first.one", "newest.one", "newest.two"]


def test_a_transaction_that_looks_for_the_second_time_after_long_says_nothing_of_who_began_meanwhile(trail):
    with begun(trail.url, 3) as (looking, first, newest):
        trail.outboxes[0].put([trail.event("newest")], newest)
        trail.outboxes[0].put([trail.event("first")], first)
        first.commit()
        trail.sealer.seal()
        assert trail.outboxes[0].take(10, looking) == []
        newest.commit()
        trail.sealer.seal()
    sealed = {event.action for event in trail.events() if event.sequence is not None}
    assert sealed == {"log.created", "first", "newest"}
