"""A queue beside a trail in PostgreSQL: who may do what, and what goes on while something does not."""

import time
from contextlib import closing

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.postgres.doctor import Doctor
from audit_core.postgres.making import make_roles
from audit_core.testing.making import make_event
from audit_core.urls import open_store
from tests.postgres.server import as_role, new_database
from tests.queues.redis_server import Server, new_queue


@pytest.fixture
def url():
    return new_database()


def names(trail):
    return [event.resource_id for event in trail.events(action="a.b", newest_first=False) if event.sealed]


def record(trail, *numbers):
    for number in numbers:
        trail.record("a.b", resource=("n", str(number)))


def carry(trail, url, number):
    with psycopg.connect(url) as connection:
        trail.carry([trail.event("a.b", resource=("n", str(number)))], connection, "clinic")


def test_both_the_outbox_and_the_queue_are_drained(url):
    with AuditTrail(url, queue=new_queue(), lifecycle=False) as trail:
        record(trail, 1)
        carry(trail, url, 2)
        trail.flush()
        assert sorted(names(trail)) == ["1", "2"]
        assert trail.verify().findings == ()


def test_whoever_adds_seals_nothing_and_the_sealer_needs_no_more_than_his_role(url):
    queue = new_queue()
    with AuditTrail(url, queue=queue, lifecycle=False) as owner:
        with owner.store.transaction() as connection:
            owner.chain.append([], connection)
        make_roles(owner.store.database)
        assert [check.text for check in Doctor(owner.store.database).examine() if not check.holds] == []
        with AuditTrail(as_role(url, "audit_application"), queue=queue, lifecycle=False) as web:
            record(web, 1)
            web.flush()
            assert [event.resource_id for event in web.queue.waiting()] == ["1"]
        with AuditTrail(as_role(url, "audit_sealer"), queue=queue, lifecycle=False) as sealer:
            sealer.sealer.seal()
            record(sealer, 2)
            sealer.flush()
        auditor = AuditTrail(as_role(url, "audit_auditor"), queue=queue, lifecycle=False, create=False)
        assert names(auditor) == ["1", "2"]
        assert list(auditor.waiting()) == []
        auditor.close()
        assert owner.verify().findings == ()


@pytest.mark.parametrize("where", ["memory:", "sqlite:///{}", "postgresql:"])
def test_a_store_tells_which_queues_were_read_lately(where, tmp_path):
    store = open_store(new_database() if where == "postgresql:" else where.format(tmp_path / "clinic.db"))
    with closing(store):
        store.create()
        with store.transaction() as connection:
            store.keep_positions("redis audit", {"": "place", "sender": "1 1"}, connection)
        assert store.queues_since("2000-01-01T00:00:00.000000Z") == ["redis audit"]
        assert store.queues_since("2200-01-01T00:00:00.000000Z") == []


def test_changes_are_sealed_as_soon_as_ever_while_the_queue_is_away(url):
    server = Server()
    with AuditTrail(url, queue=server.url, lifecycle=False) as trail:
        record(trail, 1)
        trail.flush()
        server.kill()
        for number in range(2, 5):
            carry(trail, url, number)
            deadline = time.monotonic() + 5
            while str(number) not in names(trail):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        with pytest.raises(StoreUnavailableError, match="check that the server runs"):
            trail.flush(0.3)
        time.sleep(2)
        trail.outboxes[0].commit([make_event(action="a.b", resource_id="of another process")])
        deadline = time.monotonic() + 1.5
        while "of another process" not in names(trail):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.start()
        trail.flush()
    server.stop()


def test_what_the_store_refuses_holds_up_nothing_that_comes_behind_it(url):
    with AuditTrail(url, queue=new_queue(), lifecycle=False) as trail:
        record(trail, 1)
        trail.flush()
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE audit.audit_events ADD CONSTRAINT theirs CHECK (resource_id <> '2')")
        trail.queue.commit([make_event(action="a.b", resource_id=str(number)) for number in (2, 3)])
        deadline = time.monotonic() + 20
        while "3" not in names(trail):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert list(trail.queue.waiting()) == []
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE audit.audit_events DROP CONSTRAINT theirs")
        trail.flush()
        assert sorted(names(trail)) == ["1", "2", "3"]
        assert [event.action for event in trail.events(action="trail.gap")] == []


def test_a_batch_that_was_rolled_back_is_taken_again_with_its_position(url, monkeypatch):
    with AuditTrail(url, queue=new_queue(), lifecycle=False) as trail:
        trail.queue.commit([make_event(action="a.b", resource_id="1")])
        trail.sealer.seal()
        for waiting in trail.queue.take(1):
            trail.queue.remove([waiting.id])
        trail.queue.commit([make_event(action="a.b", resource_id="lost")])
        trail.queue.remove([waiting.id for waiting in trail.queue.take(1)])
        trail.queue.commit([make_event(action="a.b", resource_id="3")])
        keep = trail.store.keep_positions

        def fail(*arguments):
            keep(*arguments)
            raise StoreUnavailableError("the server fell")

        monkeypatch.setattr(trail.store, "keep_positions", fail)
        with pytest.raises(StoreUnavailableError, match="fell"):
            trail.sealer.seal()
        assert names(trail) == ["1"]
        monkeypatch.undo()
        trail.sealer.seal()
        assert names(trail) == ["1", "3"]
        (gap,) = trail.events(action="trail.gap")
        assert gap.details["lost"] == 1


def test_a_trail_of_an_older_version_says_what_it_lacks_and_verifies(url):
    queue = new_queue()
    with AuditTrail(url, queue=queue, lifecycle=False) as trail:
        record(trail, 1)
        trail.flush()
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE audit.audit_positions")
    with AuditTrail(url, queue=queue, lifecycle=False) as trail:
        assert trail.verify().findings == ()
        with pytest.raises(ConfigurationError, match=r"how far a queue was read: run `audit init` as the owner"):
            trail.sealer.seal()
        trail.store.create()
        record(trail, 2)
        trail.flush()
        assert names(trail) == ["1", "2"]
