"""When checkpoints go out, and that nothing waits for them."""

import json
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from audit_core import AuditTrail
from audit_core.anchors import Kept
from audit_core.cli import main
from audit_core.integrity.verify import Result
from audit_core.process.threads import wait_until
from tests.postgres.server import as_role, new_database

SOON = 20
ROOT = Path(__file__).parents[2]


class Notes:
    """An anchor in memory, which can be told to fail or to wait."""

    def __init__(self, name="ours"):
        self.name, self.notes, self.error, self.gate = name, [], None, threading.Event()
        self.gate.set()
        self.waits = False

    def keep(self, note, chain):
        self.waits = True
        self.gate.wait()
        if self.error:
            raise self.error
        self.notes.append(note)

    def kept(self, chain):
        return map(Kept, reversed(self.notes))

    @property
    def size(self):
        return int(self.notes[-1].split("\n")[1]) if self.notes else 0


@pytest.fixture
def anchor():
    anchor = Notes()
    yield anchor
    anchor.gate.set()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path, state):
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/clinic.db"


def test_an_anchor_that_hangs_beyond_the_end_of_the_trail_leaves_no_connection_open(state, anchor, monkeypatch):
    monkeypatch.setattr("audit_core.anchors.anchoring.PATIENCE_SECONDS", 0.1)
    anchor.gate.clear()
    with AuditTrail(new_database(), anchors=[anchor], anchor_every=0.01) as trail:
        trail.record("chart.read")
        ((thread,),) = [threads.all for threads in trail.anchoring._threads]
        assert wait_until(lambda: anchor.waits, SOON)
    assert not thread.ended
    anchor.gate.set()
    assert wait_until(lambda: thread.ended, SOON)
    assert anchor.notes
    assert [one for one in trail.store.database._open if (connection := one()) and not connection.closed] == []


def test_what_is_recorded_is_anchored_soon_and_again_when_it_has_grown(url, anchor):
    with AuditTrail(url, anchors=[anchor], anchor_every=0.05) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: anchor.size == 3, SOON), "log.created, trail.started and the event"
        trail.record("chart.read")
        assert wait_until(lambda: anchor.size == 4, SOON)
        count = len(anchor.notes)
        assert trail.verify().result is Result.OK
    assert len(anchor.notes) > count
    assert anchor.size == 6, "the end of the trail, too"


def test_without_growth_nothing_is_given_to_the_anchor_but_a_heartbeat_is_recorded(
    tmp_path, state, anchor, monkeypatch
):
    monkeypatch.setattr("audit_core.anchors.anchoring.HEARTBEAT_SECONDS", 0.3)
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor], anchor_every=0.02) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: next(trail.events(action="trail.heartbeat"), None) is not None, SOON)
        beats = len(list(trail.events(action="trail.heartbeat")))
        assert wait_until(lambda: anchor.size == 3 + beats, SOON)
        assert len(set(anchor.notes)) == len(anchor.notes)


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_a_heartbeat_is_recorded_whichever_anchor_is_down(tmp_path, state, anchor, monkeypatch, how):
    monkeypatch.setattr("audit_core.anchors.anchoring.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("audit_core.anchors.anchoring.PATIENCE_SECONDS", 0.1)
    other = Notes("the other one")
    if how == "fails":
        anchor.error = OSError("no route to it")
    else:
        anchor.gate.clear()
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor, other], anchor_every=0.02) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: len(list(trail.events(action="trail.heartbeat"))) >= 2, SOON)
        assert wait_until(lambda: other.size >= 5, SOON)


def test_an_anchor_that_hangs_holds_up_neither_events_nor_another_anchor_nor_the_end(url, anchor, monkeypatch):
    monkeypatch.setattr("audit_core.anchors.anchoring.PATIENCE_SECONDS", 0.1)
    other = Notes("the other one")
    anchor.gate.clear()
    with AuditTrail(url, anchors=[anchor, other], anchor_every=0.05) as trail:
        for _ in range(5):
            trail.record("chart.read")
        trail.flush()
        assert wait_until(lambda: other.size == 7, SOON)
        assert anchor.notes == []
    assert other.size == 8


def test_an_anchor_that_fails_is_told_in_status_and_log_and_tried_again_until_it_takes(tmp_path, state, anchor, caplog):
    anchor.error = OSError("no route to it")
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor], anchor_every=0.02) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: trail.status()["anchors"][0]["trouble"], SOON)
        (told,) = trail.status()["anchors"]
        assert (told["name"], told["size"], told["kept_at"]) == ("ours", 0, None)
        assert "no route to it" in told["trouble"]
        before = trail.anchoring.ages()["ours"]
        assert trail.anchoring.ages()["ours"] > before, "its age grows"
        anchor.error = None
        assert wait_until(lambda: anchor.size == 3, SOON)
        assert json.dumps(trail.status()["anchors"])
        assert wait_until(lambda: trail.status()["anchors"][0]["trouble"] is None, SOON)
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("The anchor")]
    assert len(said) == 2
    assert "is tried again: OSError: no route to it" in said[0]
    assert "takes checkpoints again" in said[1]


def test_the_age_of_an_anchor_is_a_metric(tmp_path, state, anchor):
    from prometheus_client import CollectorRegistry, generate_latest

    from audit_core.metrics import Collector

    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor]) as trail:
        registry = CollectorRegistry()
        registry.register(Collector(trail))
        assert b'audit_anchor_age_seconds{anchor="ours"}' in generate_latest(registry)


def test_a_trail_whose_anchor_was_never_reached_is_not_ok(tmp_path, state, anchor):
    anchor.error = OSError("down")
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor], lifecycle=False) as trail:
        trail.record("chart.read")
        trail.flush()
        assert trail.verify().result is Result.UNANCHORED
        assert trail.verify(max_age=timedelta(hours=1)).result is Result.FAILED


def test_a_child_of_a_fork_anchors_too(tmp_path, state):
    import os

    folder = tmp_path / "other"
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[f"file://{folder}"], anchor_every=0.05) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: len(list(folder.glob("*.checkpoint"))) >= 1, SOON)
        if (child := os.fork()) == 0:
            trail.record("in the child")
            size = trail.store.extent().events
            found = wait_until(lambda: any(int(p.name[:20]) >= size for p in folder.glob("*.checkpoint")), SOON)
            os._exit(0 if found else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_where_another_role_seals_the_application_anchors_nothing_and_the_sealer_does(state, anchor, caplog):
    owner = new_database()
    assert main(["init", "--url", owner, "--roles"]) == 0
    application, sealer = as_role(owner, "audit_application"), as_role(owner, "audit_sealer")
    with AuditTrail(application, create=False, anchors=[anchor], anchor_every=0.02) as trail:
        trail.record("chart.read")
        (threads,) = trail.anchoring._threads
        assert wait_until(lambda: threads.all and all(thread.ended for thread in threads.all), SOON)
    assert (anchor.notes, [r for r in caplog.records if "anchor" in r.getMessage()]) == ([], [])
    with AuditTrail(sealer, create=False, anchors=[anchor], anchor_every=0.02, lifecycle=False) as trail:
        trail.keep_sealing()
        assert wait_until(lambda: anchor.size == 4, SOON), "log.created, the start, the event and the stop"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_sealer_that_follows_anchors_too(kind, tmp_path, state):
    url = new_database() if kind == "postgres" else f"sqlite:///{tmp_path}/clinic.db"
    assert main(["init", "--url", url]) == 0
    folder = tmp_path / "other"
    words = ["seal", "--follow", "--url", url, "--anchor", f"file://{folder}"]
    process = subprocess.Popen([sys.executable, "-m", "audit_core.cli", *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: list(folder.glob("*.checkpoint")), 60)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_the_trails_own_database_is_no_anchor(url):
    with AuditTrail(url, anchors=[url], lifecycle=False) as trail:
        trail.record("chart.read")
        trail.flush()
        (state,) = trail.anchor_now()
        assert "holds the trail itself" in state.trouble
        found = trail.verify()
        assert (found.result, [one.kind for one in found.warnings]) == (Result.UNANCHORED, ["anchor.unreachable"])


def test_without_an_anchor_the_age_of_the_last_event_tells_whether_the_trail_is_alive(tmp_path, state):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        trail.record("chart.read")
        trail.flush()
        assert trail.verify(max_age=timedelta(hours=1)).result is Result.UNANCHORED
        assert trail.verify(max_age=timedelta(0)).result is Result.FAILED


def test_an_anchor_that_was_not_asked_again_is_not_said_to_have_been_seen(tmp_path, state, anchor):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor], anchor_every=0.02) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: anchor.size == 3, SOON)
        then, count = trail.status()["anchors"][0]["kept_at"], len(anchor.notes)
        threading.Event().wait(0.2)
        assert (trail.status()["anchors"][0]["kept_at"], len(anchor.notes)) == (then, count)
        assert trail.anchoring.ages()["ours"] > 0.15


def test_what_is_sealed_while_an_anchor_is_busy_goes_out_at_the_end_all_the_same(tmp_path, state, anchor):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", anchors=[anchor], anchor_every=0.02) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: anchor.size == 3, SOON)
        anchor.gate.clear()
        trail.record("chart.read")
        threading.Event().wait(0.2)  # its thread waits for the anchor by now
        threading.Timer(0.3, anchor.gate.set).start()
    assert anchor.size == 5, "with the orderly stop"
