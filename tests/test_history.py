"""What is sealed and what still waits, read as one stream."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from audit_core import AuditTrail
from audit_core.keys import LocalSigner
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


def test_the_status_of_a_long_outbox_takes_little_memory(trail):
    seal(trail, [about("42")])
    for _ in range(10):
        wait(trail, [about("42", details={"text": "x" * 2_000}) for _ in range(300)])
    tracemalloc.start()
    status = trail.status()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status["waiting"] == 3_000
    assert peak < 4_000_000
