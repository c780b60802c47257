"""Several processes on one file, forks, and kill -9."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from audit_core.trail import AuditTrail

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd())}


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clinic.db"
    AuditTrail(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE patient (name TEXT)")
    connection.close()
    return path


def read(path):
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
        trail.flush(60)
        events = list(trail.events(newest_first=False))
        assert trail.chain.verify().findings == ()
        return events


RECORDER = """
    import sys
    from audit_core import AuditTrail
    path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with AuditTrail(f"sqlite:///{path}") as trail:
        for number in range(count):
            trail.record("a.b", resource=("n", f"{name}-{number}"))
            print(number, flush=True)
"""

CHANGER = """
    import random, sqlite3, sys, time
    from audit_core import AuditTrail
    path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chance = random.Random(name)
    with AuditTrail(f"sqlite:///{path}") as trail:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        for number in range(count):
            trail.opened()
            connection.execute("BEGIN IMMEDIATE")
            key = f"{name}-{number}"
            connection.execute("INSERT INTO patient VALUES (?)", (key,))
            trail.carry([trail.event("create", resource=("patient", key))], connection, "app")
            if chance.random() < 0.3:
                connection.execute("SAVEPOINT one")
                trail.carry([trail.event("create", resource=("undone", key))], connection, "app")
                connection.execute("ROLLBACK TO SAVEPOINT one")
            connection.execute("ROLLBACK" if chance.random() < 0.2 else "COMMIT")
            trail.closed()
            print(number, flush=True)
"""


def test_several_processes_seal_into_one_chain_and_nothing_is_lost_or_repeated(path):
    processes = [start(RECORDER, path, f"r{n}", 60) for n in range(3)]
    processes += [start(CHANGER, path, f"c{n}", 60) for n in range(3)]
    for process in processes:
        process.communicate(timeout=100)
        assert process.returncode == 0
    events = read(path)
    recorded = [event.resource_id for event in events if event.action == "a.b"]
    assert sorted(recorded) == sorted(f"r{p}-{n}" for p in range(3) for n in range(60))
    assert_changes_match(path, events)
    assert [event.action for event in events].count("trail.started") == 6
    assert [event.action for event in events].count("trail.stopped") == 6


def assert_changes_match(path, events):
    connection = sqlite3.connect(path)
    names = sorted(name for (name,) in connection.execute("SELECT name FROM patient"))
    connection.close()
    assert sorted(event.resource_id for event in events if event.resource_type == "patient") == names
    assert not [event for event in events if event.resource_type == "undone"]
    assert all(event.sealed for event in events)


def test_kill_9_again_and_again_loses_nothing_that_was_acknowledged_and_repeats_nothing(path):
    chance = random.Random(9)
    acknowledged = set()
    for turn in range(8):
        recorder, changer = start(RECORDER, path, f"r{turn}", 10_000), start(CHANGER, path, f"c{turn}", 10_000)
        first, _ = recorder.stdout.readline(), changer.stdout.readline()  # both are at work
        time.sleep(chance.random() * 0.5)
        for process in (recorder, changer):
            process.send_signal(signal.SIGKILL)
        lines = [first.strip(), *recorder.communicate()[0].split()]
        changer.communicate()
        acknowledged |= {f"r{turn}-{line}" for line in lines if line.isdigit()}
    events = read(path)
    recorded = [event.resource_id for event in events if event.action == "a.b"]
    assert len(acknowledged) > 50
    assert acknowledged <= set(recorded)
    assert len(recorded) == len(set(recorded))
    assert_changes_match(path, events)


def test_a_trail_made_and_used_before_a_fork_works_in_the_child_and_in_the_parent(path):
    code = """
        import os, sys
        from audit_core import AuditTrail
        trail = AuditTrail(f"sqlite:///{sys.argv[1]}")
        trail.record("before.fork")
        trail.opened()
        children = []
        for number in range(4):
            if (pid := os.fork()) == 0:
                trail.record("in.child", resource=("n", number))
                trail.opened()
                trail.record("in.child", resource=("n", number))
                trail.closed()
                trail.close()
                os._exit(0)
            children.append(pid)
        trail.record("in.parent")
        trail.closed()
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
        trail.record("in.parent")
        trail.close()
    """
    process = start(code, path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    actions = [event.action for event in read(path)]
    assert actions.count("before.fork") == 1
    assert actions.count("in.child") == 8
    assert actions.count("in.parent") == 2
    assert actions.count("trail.started") == 5  # the parent's, and one for each child


def test_a_fork_while_other_threads_write_leaves_the_child_able_to(path):
    code = """
        import os, sys, threading
        from audit_core import AuditTrail
        trail = AuditTrail(f"sqlite:///{sys.argv[1]}")
        stop = threading.Event()
        def work():
            while not stop.is_set():
                trail.record("busy.parent")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for number in range(10):
            if (pid := os.fork()) == 0:
                trail.record("in.child", resource=("n", number))
                trail.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
        trail.close()
    """
    process = start(code, path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [event.action for event in read(path)].count("in.child") == 10


def test_an_interpreter_that_just_ends_seals_what_waits_and_says_that_it_stopped(path):
    code = """
        import sys
        from audit_core import AuditTrail
        trail = AuditTrail(f"sqlite:///{sys.argv[1]}", durable=False)
        for number in range(500):
            trail.record("a.b")
    """
    process = start(code, path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    connection = sqlite3.connect(path)
    sealed = [row[0] for row in connection.execute("SELECT action FROM audit_events")]
    connection.close()
    assert sealed.count("a.b") == 500
    assert sealed[-1] == "trail.stopped"


def test_many_processes_that_make_the_same_trail_at_once_make_one(tmp_path):
    path = tmp_path / "new.db"
    processes = [start(RECORDER, path, f"r{n}", 5) for n in range(6)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    events = read(path)
    assert [event.action for event in events].count("log.created") == 1
    assert [event.action for event in events].count("a.b") == 30


READ_THEN_WRITE = """
    import sqlite3, sys, time
    path, seconds = sys.argv[1], float(sys.argv[2])
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    from audit_core import AuditTrail
    trail = AuditTrail(f"sqlite:///{path}", lifecycle=False)
    failed = done = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        trail.opened()
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM patient").fetchone()
        time.sleep(0.01)
        try:
            connection.execute("INSERT INTO patient VALUES ('x')")
            connection.execute("COMMIT")
            done += 1
        except sqlite3.OperationalError:
            connection.execute("ROLLBACK")
            failed += 1
        trail.closed()
    trail.close()
    print(done, failed)
"""

NOISE = """
    import sys, time
    from audit_core import AuditTrail
    trail = AuditTrail(f"sqlite:///{sys.argv[1]}", lifecycle=False)
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        trail.opened()
        trail.record("a.b")
        trail.closed()
    trail.close()
"""


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_transactions_that_read_and_then_write_see_no_lock_that_they_would_not_see_without_us(path, mode):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.close()
    noise = [start(NOISE, path, 2) for _ in range(2)]
    application = start(READ_THEN_WRITE, path, 2)
    done, failed = map(int, application.communicate(timeout=60)[0].split())
    for process in noise:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert done > 20
    assert failed == 0
    read(path)


CHILDREN = """
    import multiprocessing, sys
    from concurrent.futures import ProcessPoolExecutor
    from audit_core import AuditTrail
    path, method, pooled = sys.argv[1:]
    trail = AuditTrail(f"sqlite:///{path}", durable=False)

    def work(name):
        for number in range(5):
            trail.record("a.b", resource=("n", f"{name}-{number}"))

    if __name__ == "__main__":
        trail.record("before.children")
        context = multiprocessing.get_context(method)
        if pooled == "pool":
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                list(pool.map(work, range(4)))
        else:
            children = [context.Process(target=work, args=(name,)) for name in range(4)]
            for child in children: child.start()
            for child in children: child.join()
"""


@pytest.mark.parametrize("pooled", ["process", "pool"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_that_ends_in_good_order_loses_nothing_that_nobody_waited_for(path, tmp_path, method, pooled):
    script = tmp_path / "children.py"
    script.write_text(textwrap.dedent(CHILDREN))
    subprocess.run([sys.executable, script, path, method, pooled], env=ENVIRONMENT, check=True, timeout=100)
    names = sorted(event.resource_id for event in read(path) if event.action == "a.b")
    assert names == sorted(f"{name}-{number}" for name in range(4) for number in range(5))
