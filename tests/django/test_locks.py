"""acceptance: "database is locked" is seen no more often than without us.

After five seconds without a quiet moment, and at a process's end, the trail writes all the same (backlog.py,
writer.py): neither is what these tests are about.
"""

import pytest

from tests.django.projects import migrated_project

WORK = """
import threading
import audit_core.writing.backlog
audit_core.writing.backlog.PATIENCE_SECONDS = 100
from django.db import transaction
from django.test import Client
from tests.django.clinic.models import Patient
from tests.django.clinic.views import read_then_write
bad = []

def ask(path):
    try:
        client = Client(raise_request_exception=True)
        for _ in range({rounds}):
            response = client.post(path)
            if response.status_code >= 400: bad.append((path, response.status_code))
    except Exception as error:
        bad.append((path, repr(error)))

def outside():
    try:
        for _ in range({rounds}):
            with transaction.atomic():
                read_then_write(None)
    except Exception as error:
        bad.append(("outside", repr(error)))

threads = [threading.Thread(target=ask, args=("/indifferent/",)) for _ in range(3)]
threads += {writer}
for thread in threads: thread.start()
for thread in threads: thread.join()
print("bad", bad, flush=True)
input()
"""
ROUNDS = 25
WRITERS = {
    "in a request": '[threading.Thread(target=ask, args=("/read-then-write/",))]',
    "outside of requests": "[threading.Thread(target=outside)]",
}


@pytest.mark.parametrize(
    ("mode", "writer"),
    [
        ("WAL", "in a request"),
        pytest.param("DELETE", "outside of requests", marks=pytest.mark.long),
        pytest.param("WAL", "outside of requests", marks=pytest.mark.long),
        pytest.param("DELETE", "in a request", marks=pytest.mark.long),
    ],
)
def test_what_reads_and_then_writes_is_not_locked_out_by_events_of_others(tmp_path, mode, writer):
    init = f"PRAGMA journal_mode = {mode}"
    project = migrated_project(tmp_path, AUDIT_TEST_ATOMIC="1", AUDIT_TEST_INIT=init)
    project.script("from tests.django.clinic.models import Patient; Patient.objects.create(name='Ada')")
    processes = [
        project.start_script(WORK.format(rounds=ROUNDS, writer=WRITERS[writer])),
        project.start_script(WORK.format(rounds=ROUNDS, writer="[]")),
    ]
    finish(processes)
    actions = [event[0] + " " + event[1] for event in project.events()]
    assert sum(action.startswith("update") for action in actions) == ROUNDS
    assert sum(action.startswith("POST") for action in actions) == ROUNDS * (7 if writer == "in a request" else 6)
    verified = project.script("from audit_django import get_trail; print(get_trail().verify().findings)")
    assert verified.stdout.strip() == "()"


def finish(processes):
    """Each has done its work before the first one ends."""
    outputs = [process.stdout.readline() for process in processes]
    rest = [process.communicate("\n", timeout=100)[0] for process in processes]
    assert outputs == ["bad []\n"] * len(processes), rest


CHANGES = """
import threading
from django.db import connections, transaction
from tests.django.clinic.models import Room
bad = []

def work(name):
    try:
        for number in range(25):
            room = Room.objects.create(number=f"{process}-{{name}}-{{number}}")
            room.beds = 2
            room.save()
            if number % 2: room.delete()
    except Exception as error:
        bad.append(repr(error))
    finally:
        connections.close_all()

threads = [threading.Thread(target=work, args=(str(n),)) for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("bad", bad, flush=True)
input()
"""


@pytest.mark.parametrize("mode", ["WAL", pytest.param("DELETE", marks=pytest.mark.long)])
def test_threads_and_processes_in_autocommit_wait_for_each_other(tmp_path, mode):
    project = migrated_project(tmp_path, AUDIT_TEST_INIT=f"PRAGMA journal_mode = {mode}")
    project.script("from tests.django.clinic.models import Patient; Patient.objects.create(name='Ada')")
    processes = [project.start_script(CHANGES.format(process=name)) for name in "ab"]
    finish(processes)
    actions = [event[0] for event in project.events()]
    assert (actions.count("create"), actions.count("update"), actions.count("delete")) == (151, 150, 72)
