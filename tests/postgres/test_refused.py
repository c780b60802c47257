"""Events that the server refuses, because of something that somebody has added, hold up no others and are not lost."""

import logging

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import RefusedError, StoreUnavailableError
from audit_core.urls import open_url
from audit_core.writing.sealer import REFUSED_AT_MOST
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, copy_of, make_trail, new_database

RAISE = "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$"
WAYS = {
    "a check": (
        ["ALTER TABLE audit.audit_events ADD CONSTRAINT z CHECK (actor_id <> 'mallory') NOT VALID"],
        ["ALTER TABLE audit.audit_events DROP CONSTRAINT z"],
    ),
    "a trigger": (
        [
            RAISE,
            (
                "CREATE TRIGGER z BEFORE INSERT ON audit.audit_events FOR EACH ROW "
                "WHEN (new.actor_id = 'mallory') EXECUTE FUNCTION public.no()"
            ),
        ],
        ["DROP TRIGGER z ON audit.audit_events"],
    ),
}


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture(params=NEWEST_AND_AT_LENGTH_OLDEST)
def trail(request, state):
    with AuditTrail(copy_of(make_trail, request.param), lifecycle=False) as trail:
        yield trail


def put(trail, names, outbox=None):
    outbox = outbox or trail.outboxes[0]
    with outbox.database.transaction() as connection:
        for name in names:
            with trail.actor(name):
                outbox.put([trail.event("a.b")], connection)


def sealed(trail):
    events = sorted(trail.events(action="a.b"), key=lambda event: event.sequence or 0)
    return [event.actor_id for event in events if event.sealed]


@pytest.mark.parametrize("way", WAYS)
def test_the_others_are_sealed_and_what_is_refused_waits_until_it_is_taken(trail, way):
    put(trail, "a")
    trail.sealer.seal()
    add, remove = WAYS[way]
    run(trail.url, *add)
    put(trail, [*"bcd", "mallory", *"efghijk"])
    with pytest.raises(RefusedError, match=r"Left in the outbox for now: \d+\.$"):
        trail.sealer.seal()
    assert sealed(trail) == list("abcdefghijk")
    put(trail, "l")
    with pytest.raises(RefusedError):
        trail.sealer.seal()
    assert sealed(trail) == list("abcdefghijkl")
    assert [event.actor_id for event in trail.waiting()] == ["mallory"]
    run(trail.url, *remove)
    trail.sealer.seal()
    assert sealed(trail) == [*"abcdefghijkl", "mallory"]
    assert [finding for finding in trail.chain.verify().findings if finding.kind != "time"] == []


def test_the_thread_that_seals_says_once_what_it_leaves_and_goes_on(trail, caplog):
    run(trail.url, *WAYS["a check"][0])
    with caplog.at_level(logging.WARNING, "audit_core"):
        put(trail, ["a", "mallory", "b"])
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="violates check constraint"):
                trail.flush(2)
    assert sealed(trail) == ["a", "b"]
    told = [entry.getMessage() for entry in caplog.records if "sealed until" in entry.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("Some events are not sealed until this is mended:")
    assert "remove the constraint, trigger or index that `audit init` has not made" in told[0]


def test_where_all_are_refused_few_are_tried_and_all_wait(trail):
    run(trail.url, *WAYS["a check"][0])
    put(trail, ["mallory"] * 200)
    with pytest.raises(RefusedError) as told:
        trail.sealer.seal()
    assert str(told.value).rpartition(": ")[2].count(",") == REFUSED_AT_MOST - 1
    run(trail.url, *WAYS["a check"][1])
    trail.sealer.seal()
    assert sealed(trail) == ["mallory"] * 200


def test_an_event_without_a_partition_waits_for_it(trail):
    with psycopg.connect(trail.url, autocommit=True) as connection:
        query = "SELECT relname FROM pg_class WHERE relname ~ '^audit_events_[0-9]' AND relkind = 'r'"
        months = [name for (name,) in connection.execute(query)]
    run(trail.url, *(f"DROP TABLE audit.{name}" for name in ["audit_events_default", *months]))
    put(trail, "a")
    with pytest.raises(RefusedError, match="`audit init` makes the default partition again"):
        trail.sealer.seal()
    trail.store.create()
    trail.sealer.seal()
    assert sealed(trail) == ["a"]


def test_an_outbox_elsewhere_is_served_the_same(state):
    elsewhere = new_database()
    with AuditTrail(new_database(), outbox=elsewhere, lifecycle=False) as trail:
        run(trail.url, *WAYS["a check"][0])
        put(trail, ["a", "mallory", "b"], trail.outboxes[1])
        with pytest.raises(RefusedError):
            trail.sealer.seal()
        assert sealed(trail) == ["a", "b"]
        outbox = open_url(elsewhere).outbox
        assert [event.actor_id for event in outbox.waiting()] == ["mallory"]
        outbox.close()
