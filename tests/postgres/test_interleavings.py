"""Whatever the order of two transactions and the sealer: none waits for another, and what commits is sealed once."""

from contextlib import closing

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


def test_the_newest_transaction_may_stay_open_for_long_and_its_events_are_sealed_in_order(state, monkeypatch):
    """A snapshot does not name a transaction that began after all that have ended."""
    monkeypatch.setattr(late, "GRACE_SECONDS", 0)
    url = new_database()
    with (
        AuditTrail(url, lifecycle=False) as trail,
        closing(psycopg.connect(url)) as first,
        closing(psycopg.connect(url)) as newest,
    ):
        trail.sealer.seal()
        for connection in (first, newest):
            connection.execute("SELECT pg_current_xact_id()")

        def put(action, connection):
            trail.outboxes[0].put([trail.event(action)], connection)

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
