"""Who asked for a task, in a worker of its own process and in the caller's."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import chain, chord, group

from audit_core.celery import HEADER
from audit_core.context import Actor, AuditContext, end, enter, said
from tests.celery.clinic import Clinic

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["prefork", "threads", "solo"])
def clinic(request, tmp_path_factory):
    """A clinic whose worker has one place: every task is run where the one before it was."""
    folder = tmp_path_factory.mktemp("clinic")
    environment = {**os.environ, "CLINIC_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    command = ["celery", "-A", "tests.celery.clinic", "worker", "--pool", request.param, "--concurrency", "1"]
    worker = subprocess.Popen(
        [sys.executable, "-m", *command, "-l", "ERROR"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    clinic = Clinic(folder)
    yield clinic
    worker.terminate()
    worker.wait(30)
    clinic.trail.close()


@pytest.fixture
def key():
    return uuid4().hex


@pytest.fixture
def request_of_ada():
    context = AuditContext(
        actor=Actor("ada", "admin", "grace"), tenant_id="north", request_id="r-1", ip_address="192.0.2.7"
    )
    enter(context)
    yield context
    end(context)


def noted(clinic, key, count=1):
    """What the worker has recorded of this key, oldest first; waits until there is so much of it."""
    ends = time.monotonic() + 15
    while True:
        found = [event for event in clinic.trail.events(newest_first=False) if event.resource_id == key]
        if len(found) >= count:
            assert len(found) == count
            return found
        assert time.monotonic() < ends, found
        time.sleep(0.05)


def who(event):
    return event.actor_id, event.actor_type, event.on_behalf_of


ADA = ("ada", "admin", "grace")


def test_a_task_acts_for_whoever_asked_for_it(clinic, key, request_of_ada):
    sent = clinic.tasks["note"].delay(key)
    (event,) = noted(clinic, key)
    assert who(event) == ADA
    assert (event.tenant_id, event.request_id) == ("north", "r-1")
    assert (event.ip_address, event.user_agent) == (None, None), "a task is not done from where it was asked for"
    assert event.details == {"task": {"id": sent.id, "name": "note"}}


def test_a_change_in_a_task_has_its_actor_and_its_task(clinic, key, request_of_ada):
    sent = clinic.tasks["admit"].delay(key)
    (event,) = noted(clinic, key)
    assert (event.action, who(event), event.details["task"]["id"]) == ("create", ADA, sent.id)


def test_who_it_is_is_asked_when_the_task_is_asked_for(clinic, key):
    context = AuditContext(find_actor=lambda: Actor("late", "user"))
    enter(context)
    clinic.tasks["note"].delay(key)
    end(context)
    assert who(noted(clinic, key)[0]) == ("late", "user", None)


def test_a_task_that_nobody_asked_for_is_a_service(clinic, key):
    assert said() is None
    clinic.tasks["note"].delay(key)
    (event,) = noted(clinic, key)
    assert who(event) == ("note", "service", None)
    assert event.request_id is None


def test_a_task_that_an_anonymous_request_asked_for_is_anonymous(clinic, key):
    context = AuditContext(request_id="r-2")
    enter(context)
    clinic.tasks["note"].delay(key)
    end(context)
    (event,) = noted(clinic, key)
    assert (who(event), event.request_id) == ((None, "anonymous", None), "r-2")


def test_nothing_is_left_over_for_the_task_after_it(clinic, key):
    with clinic.trail.actor("ada"):
        clinic.tasks["leave_open"].delay(key)
    during, afterwards = noted(clinic, key, count=2)
    assert who(during) == ("left-open", "user", None)
    assert who(afterwards) == (None, "system", None)
    after = uuid4().hex
    clinic.tasks["note"].delay(after)
    assert who(noted(clinic, after)[0]) == ("note", "service", None)


def test_a_task_that_fails_leaves_what_was_recorded_and_nothing_of_what_was_rolled_back(clinic, key):
    with clinic.trail.actor("ada"):
        clinic.tasks["admit"].delay(key, fails=True)
    (event,) = noted(clinic, key)
    assert (event.action, event.actor_id) == ("note.made", "ada")
    after = uuid4().hex
    clinic.tasks["note"].delay(after)
    assert who(noted(clinic, after)[0]) == ("note", "service", None)
    assert len(noted(clinic, key)) == 1


def test_a_task_of_a_task_acts_for_whoever_asked_first(clinic, key, request_of_ada):
    first = clinic.tasks["note_later"].delay(key)
    (event,) = noted(clinic, key)
    assert (who(event), event.request_id) == (ADA, "r-1")
    assert event.details["task"]["name"] == "note"
    assert event.details["task"]["id"] != first.id


def test_a_retry_acts_for_whoever_asked_first(clinic, key, request_of_ada):
    sent = clinic.tasks["try_again"].delay(key)
    events = noted(clinic, key, count=2)
    assert [who(event) for event in events] == [ADA, ADA]
    assert {event.details["task"]["id"] for event in events} == {sent.id}


def test_a_task_for_later_acts_for_whoever_asked(clinic, key, request_of_ada):
    clinic.tasks["note"].apply_async([key], countdown=1)
    assert who(noted(clinic, key)[0]) == ADA


def test_all_of_a_chain_a_group_and_a_chord_act_for_whoever_asked(clinic, key, request_of_ada):
    note = clinic.tasks["note"]
    chain(note.si(key), note.si(key)).delay()
    group(note.si(key), note.si(key)).delay()
    chord([note.si(key), note.si(key)], note.si(key)).delay()
    assert {who(event) for event in noted(clinic, key, count=7)} == {ADA}


def test_a_task_is_sent_by_its_name_too(clinic, key, request_of_ada):
    clinic.app.send_task("note", [key])
    assert who(noted(clinic, key)[0]) == ADA


@pytest.mark.parametrize(
    "forged",
    ["text", 7, [], {}, {"actor_type": "robot"}, {"actor_id": "ada"}, {"actor_type": ["user"]}],
    ids=repr,
)
def test_a_header_that_says_nothing_of_the_kind_breaks_no_task(clinic, key, forged):
    clinic.app.send_task("note", [key], headers={HEADER: forged})
    assert who(noted(clinic, key)[0]) == (None, "anonymous", None)


def test_whatever_a_header_says_can_be_sealed(clinic, key):
    forged = {"actor_type": "user", "actor_id": {"a": ["\ud800" * 600]}, "tenant_id": 1e300, "request_id": [None]}
    clinic.app.send_task("note", [key], headers={HEADER: forged})
    (event,) = noted(clinic, key)
    assert event.actor_type == "user"
    clinic.trail.flush()
    assert clinic.trail.chain.verify().findings == ()


class TestInTheCaller:
    """``apply``, and ``task_always_eager``."""

    @pytest.fixture
    def clinic(self, tmp_path):
        clinic = Clinic(tmp_path)
        clinic.app.conf.task_always_eager = True
        return clinic

    def test_it_keeps_the_request_and_tells_the_task(self, clinic, key, request_of_ada):
        clinic.tasks["note_later"].delay(key)
        (event,) = noted(clinic, key)
        assert (who(event), event.request_id, event.ip_address) == (ADA, "r-1", "192.0.2.7")
        assert event.details["task"]["name"] == "note"
        assert said() is request_of_ada
        clinic.trail.record("note.made", resource=("note", "after"))
        assert noted(clinic, "after")[0].details == {}

    def test_where_nobody_asks_it_is_a_service(self, clinic, key):
        clinic.tasks["note"].apply([key])
        assert who(noted(clinic, key)[0]) == ("note", "service", None)
        assert said() is None

    def test_a_retry_and_a_failure_leave_nothing_over(self, clinic, key, request_of_ada):
        clinic.tasks["try_again"].delay(key)
        clinic.tasks["admit"].delay(key, fails=True)
        assert [who(event) for event in noted(clinic, key, count=3)][-1] == ADA
        assert said() is request_of_ada

    def test_called_as_a_function_it_is_no_task(self, clinic, key, request_of_ada):
        clinic.tasks["note"](key)
        (event,) = noted(clinic, key)
        assert (who(event), event.details) == (ADA, {})


def test_whatever_is_told_besides_the_task_stays(tmp_path, request_of_ada):
    clinic = Clinic(tmp_path)

    @clinic.app.task(name="own", bind=True)
    def own(self):
        return SimpleNamespace(event=clinic.trail.record("a.b", details={"task": "clean up", "n": 1}))

    event = own.apply().result.event
    assert event.details == {"task": "clean up", "n": 1}, "the application's own word is not lost"
