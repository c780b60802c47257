"""Under gevent threads are greenlets: they run only while the others wait, and only if they wait by gevent's means."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from audit_core import AuditTrail
from tests.postgres.server import new_database

ROOT = Path(__file__).parents[2]
PATCHED = "from gevent import monkey; monkey.patch_all()\n"


@pytest.fixture(params=["postgres", pytest.param("sqlite", marks=pytest.mark.long)])
def url(request, tmp_path, state):
    url = f"sqlite:///{tmp_path}/clinic.db" if request.param == "sqlite" else new_database()
    AuditTrail(url, lifecycle=False).close()
    return url


def run(code, *arguments, before=PATCHED):
    """It must come to its end by itself, and say nothing."""
    command = [sys.executable, "-c", before + textwrap.dedent(code), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr, result.stderr


def sealed(url):
    """How many sealed events there are of each action and of each resource; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush()
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        events = [event for event in trail.events() if event.action != "log.created"]
        resources = Counter((event.resource_type, event.resource_id) for event in events if event.resource_id)
        return Counter(event.action for event in events), resources


def test_nobody_else_runs_in_the_midst_of_a_transaction_because_it_writes_the_first_event(tmp_path, state):
    """He would wait for the file until his patience ends, and the whole process with him."""
    path = tmp_path / "clinic.db"
    AuditTrail(f"sqlite:///{path}", lifecycle=False).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE patient (name TEXT)")
    code = """
        import gevent, sqlite3, sys
        from audit_core import AuditTrail
        trail = AuditTrail(f"sqlite:///{sys.argv[1]}")

        def change(number):
            trail.opened()
            connection = sqlite3.connect(sys.argv[1], timeout=1, isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO patient VALUES (?)", (number,))
            trail.carry([trail.event("create", resource=("patient", number))], connection, "app")
            connection.execute("COMMIT")
            trail.closed()

        gevent.joinall([gevent.spawn(change, number) for number in range(20)], raise_error=True)
        trail.close()
    """
    run(code, str(path))
    assert sealed(f"sqlite:///{path}")[0]["create"] == 20


USED = """
    import gevent
    with trail.actor("importer", type="service"):
        gevent.joinall([gevent.spawn(trail.record, "in.greenlet") for _ in range(50)], raise_error=True)
        trail.record("in.main")
        trail.flush()
    trail.close()
    trail.record("after.close")
"""


@pytest.mark.parametrize("made", ["before", "after"])
def test_a_trail_works_that_was_made_before_or_after_it_patches(url, made):
    make = "import sys\nfrom audit_core import AuditTrail\ntrail = AuditTrail(sys.argv[1])\n"
    run(USED, url, before=make + PATCHED if made == "before" else PATCHED + make)
    actions, _ = sealed(url)
    assert (actions["in.greenlet"], actions["in.main"], actions["after.close"]) == (50, 1, 1)
    assert actions["trail.started"] == actions["trail.stopped"] == 2


def test_other_greenlets_go_on_while_one_waits_for_its_event(url):
    code = """
        import gevent, sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1])
        turns = []
        other = gevent.spawn(lambda: [(turns.append(1), gevent.sleep(0)) for _ in iter(int, 1)])
        for _ in range(20):
            before = len(turns)
            trail.record("a.b")
            assert len(turns) > before
        other.kill()
        trail.close()
    """
    run(code, url)
    assert sealed(url)[0]["a.b"] == 20


def test_a_greenlet_that_is_killed_while_it_waits_loses_no_event(url):
    code = """
        import gevent, sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1])
        for number in range(20):
            doomed = gevent.spawn(trail.record, "a.b")
            gevent.sleep(0)
            doomed.kill()
        with gevent.Timeout(0.0001, False):
            for _ in range(1000):
                trail.record("c.d")
        trail.record("e.f")
        trail.close()
    """
    run(code, url)
    assert sealed(url)[0]["a.b"] == 20


def test_a_process_that_just_ends_seals_what_waits_and_says_that_it_stopped(url):
    code = """
        import sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1], durable=False)
        for number in range(500):
            trail.record("a.b")
    """
    run(code, url)
    actions, _ = sealed(url)
    assert (actions["a.b"], actions["trail.stopped"]) == (500, 1)


def test_a_fork_while_others_write_leaves_the_child_able_to_and_nothing_is_lost_or_repeated(url):
    """The greenlets of the parent live on in the child, those of the application too."""
    code = """
        import gevent, os, subprocess, sys
        from audit_core import AuditTrail
        trail, parent = AuditTrail(sys.argv[1]), os.getpid()

        def work(name):
            for number in range(40):
                who = "parent" if os.getpid() == parent else f"child-{os.getpid()}"
                trail.record("a.b", resource=(who, f"{name}-{number}"))
                gevent.sleep(0.001)

        busy = [gevent.spawn(work, name) for name in range(4)]
        for number in range(3):
            gevent.sleep(0.02)
            subprocess.run(["true"], check=True)
            if (pid := os.fork()) == 0:
                trail.record("in.child", resource=("n", number))
                trail.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        gevent.joinall(busy, raise_error=True)
        trail.close()
    """
    run(code, url)
    actions, resources = sealed(url)
    assert actions["in.child"] == 3
    assert set(resources.values()) == {1}
    assert sum(kind == "parent" for kind, _ in resources) == 160


def test_an_anchor_that_waits_holds_nobody_up_where_the_trail_is_imported_before_it_patches(tmp_path, state):
    (tmp_path / "anchor").mkdir()
    code = """
        import gevent, os, sys
        anchors = [f"file://{sys.argv[1]}/anchor"]
        trail = AuditTrail(f"sqlite:///{sys.argv[1]}/clinic.db", anchors=anchors, anchor_every=600)
        trail.record("a.b")
        while not os.listdir(f"{sys.argv[1]}/anchor"):
            gevent.sleep(0.01)
        gevent.sleep(0.01)
        trail.close()
    """
    run(code, str(tmp_path), before=f"from audit_core import AuditTrail\n{PATCHED}")
