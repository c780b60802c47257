"""What is sealed and what still waits, read as one stream."""

from __future__ import annotations

import itertools
import tracemalloc
from datetime import UTC, datetime
from enum import Enum

import pytest

from audit_core import AuditTrail
from audit_core.keys import LocalSigner
from audit_core.reports import AuditReporter
from tests.reports.trails import about, seal


@pytest.fixture
def trail(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", signer=LocalSigner(b"o" * 32), lifecycle=False) as trail:
        yield trail


def wait(trail, events):
    with trail.store.transaction(patient=True) as connection:
        trail.outboxes[0].put(events, connection)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("page", [1, 2, 3, 5])
def test_pages_over_events_of_one_moment_repeat_and_skip_none_whether_sealed_or_waiting(trail, newest_first, page):
    seal(trail, [about("42", 1) for _ in range(4)])
    wait(trail, [about("42", 1) for _ in range(7)])

    def read(**after):
        return trail.events(resource="patient:42", newest_first=newest_first, **after)

    everything = [event.event_id for event in read()]
    assert len(set(everything)) == 11
    found, after = [], None
    while some := list(itertools.islice(read(after=after), page)):
        found += [event.event_id for event in some]
        after = found[-1]
    assert found == everything


def test_an_event_that_is_sealed_between_two_looks_at_it_is_found(trail, monkeypatch):
    def sealed_meanwhile(history):
        seal(trail, [event])
        return iter(())  # which read what waits just after the event had left it

    event = about("42")
    monkeypatch.setattr(type(trail._history), "waiting", sealed_meanwhile)
    assert trail._history.find(event.event_id).event_id == event.event_id


def test_the_status_of_a_long_outbox_takes_little_memory(trail):
    seal(trail, [about("42")])
    for _ in range(10):
        wait(trail, [about("42", details={"text": "x" * 2_000}) for _ in range(300)])
    tracemalloc.start()
    status = trail.status()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status["waiting"] == 3_000
    assert peak < 6_000_000  # all of them at once are more than twice as much


class Colour(Enum):
    RED = "red"


IDS = [
    42,
    2**60,
    1e22,
    Colour.RED,
    b"scan",
    b"\xff",
    True,
    datetime(2024, 1, 2, tzinfo=UTC),
    (1, 2),
    "x" * 600,
    "a\0b",
    "\ud800",
]


@pytest.mark.parametrize("identifier", IDS)
def test_a_resource_is_found_by_the_id_that_it_was_recorded_with_whatever_that_is(trail, identifier):
    event = trail.record("scan.read", resource=("scan", identifier))
    trail.flush()
    assert [found.event_id for found in trail.events(resource=("scan", identifier))] == [event.event_id]
    assert [row.event_id for row in AuditReporter(trail).access_report("scan", identifier)] == [event.event_id]


@pytest.mark.parametrize("actor", ["x" * 600, "a\0b", "\ud800"])
def test_an_actor_is_found_by_the_name_that_he_was_recorded_with_whatever_that_is(trail, actor):
    with trail.actor(actor):
        event = trail.record("scan.read")
    assert [found.event_id for found in trail.events(actor=actor)] == [event.event_id]


def test_an_id_that_no_event_can_have_is_just_not_found(trail):
    seal(trail, [about("42")])
    assert trail.find("\ud800") is None
    with pytest.raises(LookupError):
        trail.prove("\ud800")
