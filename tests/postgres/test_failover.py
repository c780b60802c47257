"""Another server takes the place of the one that a process has sealed on."""

from collections import Counter

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import BusyError, IntegrityError, StoreUnavailableError
from tests.adapters.servers import wait_until
from tests.postgres.server import Server, Standby, new_database


@pytest.fixture
def trail(state):
    with AuditTrail(new_database(), lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        yield trail


def replace_by_copy(trail, change):
    """As if a replica had been promoted that had not heard of the last events."""
    url = trail.url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit.audit_events DISABLE TRIGGER USER")
        connection.execute("ALTER TABLE audit.audit_checkpoints DISABLE TRIGGER USER")
        for statement in change:
            connection.execute(statement)
        connection.execute("ALTER TABLE audit.audit_events ENABLE TRIGGER USER")
        connection.execute("ALTER TABLE audit.audit_checkpoints ENABLE TRIGGER USER")


def seals(trail):
    """Not while the trail's own thread looks whether it may."""
    try:
        trail.sealer.seal()
    except BusyError:
        return False
    return True


LOST = ["DELETE FROM audit.audit_events WHERE sequence >= 2", "DELETE FROM audit.audit_checkpoints WHERE tree_size > 2"]


def test_a_replica_that_lacks_what_was_sealed_is_not_sealed_upon_and_the_reason_is_told(trail):
    trail.record("sealed.and.lost")
    trail.flush()
    replace_by_copy(trail, LOST)
    trail.record("after.failover")
    with pytest.raises(StoreUnavailableError):
        trail.flush(2)
    assert "this process has sealed 3" in trail.status()["trouble"]
    assert [event.action for event in trail.waiting()] == ["after.failover"]
    with AuditTrail(trail.url, lifecycle=False) as restarted:  # an operator has looked
        restarted.flush()
        assert [event.action for event in restarted.events()] == ["after.failover", "a.b", "log.created"]


def test_a_replica_that_has_gone_another_way_is_not_sealed_upon(trail):
    trail.record("sealed.and.lost")
    trail.flush()
    replace_by_copy(trail, LOST)
    with AuditTrail(trail.url, lifecycle=False) as other:
        for _ in range(3):
            other.record("another.history")
        other.flush()
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([trail.event("after.failover")], connection)
    with pytest.raises(IntegrityError, match="not those of their checkpoint"):
        wait_until(lambda: seals(trail))


def test_what_others_have_sealed_meanwhile_is_sealed_upon(trail):
    with AuditTrail(trail.url, lifecycle=False) as other:
        for _ in range(3):
            other.record("by.another.process")
            other.flush()
    trail.record("by.this.one")
    trail.flush()
    assert trail.chain.verify().findings == ()
    assert trail.chain.verify().size == 6


def test_an_append_that_was_rolled_back_is_no_promise(trail, monkeypatch):
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([trail.event("c.d")], connection)
    with monkeypatch.context() as patched:
        patched.setattr(trail.outboxes[0], "remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trail.sealer.seal()
    with trail.store.transaction(patient=True):
        pass
    trail.sealer.seal()
    assert [event.action for event in trail.events()] == ["c.d", "a.b", "log.created"]


def test_a_process_that_knows_both_servers_goes_on_with_the_promoted_one(state):
    primary = Server(18)
    standby = Standby(primary)
    try:
        url = new_database(url=primary.url)
        hosts = f"host={primary.folder},{standby.folder}&target_session_attrs=read-write"
        with AuditTrail(url.replace(f"host={primary.folder}", hosts), lifecycle=False) as trail:
            record(trail, 0)
            trail.flush()
            standby.wait_for(primary)
            primary.control("-m", "immediate", "stop")
            record(trail, 1)
            standby.control("promote")
            record(trail, 2)
            assert wait_until(lambda: not list(trail.waiting()), 30)
            record(trail, 3)
            trail.flush()
            assert trail.chain.verify().findings == ()
            events = Counter(event.resource_id for event in trail.events(action="work.done"))
            assert events == {str(number): 1 for number in range(4)}
    finally:
        standby.stop()
        primary.stop()


def record(trail, number):
    trail.record("work.done", resource=("work", str(number)))
