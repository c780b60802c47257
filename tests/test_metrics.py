"""The counters, and the same where an application has its metrics."""

from __future__ import annotations

import gc
import os
import sqlite3
import weakref
from contextlib import closing

import prometheus_client
import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from audit_core import AuditTrail
from audit_core.metrics import Collector, observe
from audit_core.process.threads import wait_until


@pytest.fixture
def trail(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        yield trail


def test_what_is_written_is_counted(trail):
    assert set(trail.counters().values()) == {0}
    for _ in range(3):
        trail.record("chart.read")
    assert trail.counters() == {"written": 3, "spilled": 0, "lost": 0, "failures": 0, "queued": 0, "owed": 0}
    assert trail.status()["process"] == trail.counters()


def test_what_waits_for_a_locked_database_is_counted_and_then_written(trail, tmp_path):
    with closing(sqlite3.connect(tmp_path / "clinic.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        trail.record("chart.read")
        found = trail.counters()
        assert (found["written"], found["spilled"], found["owed"]) == (0, 1, 1)
        assert found["failures"] >= 1
        other.execute("ROLLBACK")
    assert wait_until(lambda: trail.counters()["written"] == 1, 10)
    assert trail.counters()["owed"] == 0


def test_what_does_not_fit_into_memory_is_counted_as_lost(trail, monkeypatch):
    def refuse(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("audit_core.writing.backlog.HELD_AT_MOST", 2)
    monkeypatch.setattr("audit_core.outbox.spill.SpillFile.append", refuse)
    monkeypatch.setattr(trail.sealer, "deliver", refuse)
    for _ in range(5):
        trail.record("chart.read")
    assert trail.counters()["lost"] == 3
    monkeypatch.undo()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_to_count_anew(trail):
    trail.record("chart.read")
    if not (child := os.fork()):
        os._exit(trail.counters()["written"])
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), trail.counters()["written"]) == (0, 1)


def test_prometheus_sees_them(trail):
    registry = prometheus_client.CollectorRegistry()
    registry.register(Collector(trail))
    trail.record("chart.read")
    assert registry.get_sample_value("audit_events_written_total") == 1
    assert registry.get_sample_value("audit_events_owed") == 0
    assert b"# TYPE audit_events_lost_total counter" in prometheus_client.generate_latest(registry)


def test_opentelemetry_sees_them_and_keeps_no_trail_alive(trail, monkeypatch):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    observe(trail)
    trail.record("chart.read")
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric.data.data_points[0].value for metric in scope.metrics}
    assert found["audit.events.written"] == 1
    assert found["audit.events.lost"] == found["audit.events.queued"] == 0

    other = AuditTrail("memory:", lifecycle=False)
    observe(other)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
    assert reader.get_metrics_data() is not None, "it is not asked any more"
