"""What somebody who may write to the outbox, or connect at all, can do to the sealer: be told, and hold nothing up."""

import json

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.rows import to_json
from audit_core.testing import make_event
from audit_core.urls import open_url
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, as_role, new_database

HIGHEST = 2**63 - 1


@pytest.fixture(params=NEWEST_AND_AT_LENGTH_OLDEST)
def url(request, monkeypatch, state):
    url = new_database(request.param)
    monkeypatch.setenv("AUDIT_URL", url)
    assert main(["init", "--roles"]) == 0
    return url


@pytest.fixture
def application(url):
    with psycopg.connect(as_role(url, "audit_application"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def outbox(url):
    parts = open_url(url)
    yield parts.outbox
    parts.outbox.close()
    parts.store.database.close()


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def put(connection, *texts):
    for text in texts:
        connection.execute("INSERT INTO audit.audit_outbox (event) VALUES (%s)", (text,))


def sealed(url, *, numbers=None):
    """What is sealed, in order. ``numbers`` is what verification finds of the ids where somebody has changed those."""
    with AuditTrail(url) as trail:
        trail.flush()
        found = {finding.got for finding in trail.chain.verify().findings}
        assert found == ({"nothing like it", numbers} if numbers else set())
        events = sorted(trail.events(), key=lambda event: event.sequence)
        return [event for event in events if not event.action.startswith(("trail.", "log."))]


def test_an_address_in_another_alphabet_holds_nothing_up(url, application):
    arabic = make_event(ip_address="1.2.3.\u0664")
    put(application, to_json(arabic), to_json(make_event()))
    assert [event.ip_address for event in sealed(url)] == ["1.2.3.\u0664", make_event().ip_address]


def test_the_application_cannot_choose_an_id(application):
    for id_ in (-5, HIGHEST):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute(
                "INSERT INTO audit.audit_outbox (id, event) OVERRIDING SYSTEM VALUE VALUES (%s, '{}')", (id_,)
            )


def test_the_permission_of_an_older_trail_to_choose_an_id_is_taken_back(url, application):
    run(url, "GRANT INSERT ON audit.audit_outbox TO audit_application")
    assert main(["init", "--roles"]) == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        application.execute("INSERT INTO audit.audit_outbox (id, event) OVERRIDING SYSTEM VALUE VALUES (7, '{}')")


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (
            "SET MINVALUE -9000000000000 RESTART WITH -1000000",
            f"sequence of audit.audit_outbox.id is bigint from -9000000000000 to {HIGHEST} by 1, starts at 1, keeps 1",
        ),
        ("RESTART WITH 1", None),
    ],
)
def test_ids_that_go_back_are_sealed_all_the_same(url, application, outbox, change, numbers):
    with AuditTrail(url) as trail:
        put(application, *(to_json(make_event(number)) for number in range(40)))
        trail.flush()
        run(url, f"ALTER TABLE audit.audit_outbox ALTER id {change}")
        later = [make_event(number) for number in range(3)]
        put(application, *map(to_json, later))
        assert [event.event_id for event in outbox.waiting()] == [event.event_id for event in later]
    told = [event.event_id for event in sealed(url, numbers=numbers)]
    assert told[-3:] == [event.event_id for event in later]


def test_what_is_longer_than_any_event_is_read_in_part(url, application, outbox):
    application.execute(
        "INSERT INTO audit.audit_outbox (event) SELECT repeat('x', 20000000) FROM generate_series(1, 4)"
    )
    assert all(len(waiting.event) < 100_000 for waiting in outbox.take(10))
    found = sealed(url)
    assert [event.action for event in found] == ["outbox.unreadable"] * 4


def test_a_batch_ends_where_it_would_fill_the_memory(url, application, outbox, monkeypatch):
    for module in ("audit_core.outbox", "audit_core.outbox.postgres"):
        monkeypatch.setattr(f"{module}.BYTES_AT_ONCE", 5_000)
    events = [make_event(number, details={"note": "n" * 1_000}) for number in range(20)]
    put(application, *map(to_json, events))
    assert 1 <= len(outbox.take(100)) <= 6
    assert [event.event_id for event in sealed(url)] == [event.event_id for event in events]


def test_a_second_event_with_an_id_that_is_taken_is_told(url, application):
    first = make_event(action="invoice.pay")
    put(
        application, to_json(first), to_json(first), json.dumps(json.loads(to_json(first)) | {"action": "invoice.void"})
    )
    found = sealed(url)
    put(application, json.dumps(json.loads(to_json(first)) | {"action": "invoice.burn"}), to_json(first))
    assert [event.action for event in found] == ["invoice.pay", "outbox.unreadable"]
    assert "invoice.void" in found[1].details["text"]
    *_, last = sealed(url)
    assert "invoice.burn" in last.details["text"]
