"""What a killed process loses of a buffered trail is counted by the next one."""

import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit_core import AuditTrail
from audit_core.outbox.folder import folder_of
from audit_core.outbox.spill import SpillFile
from audit_core.outbox.tally import SLOTS, Tally, losses
from audit_core.writing.writer_thread import BATCH
from tests.postgres.server import new_database

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd())}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    url = f"sqlite:///{tmp_path}/clinic.db" if request.param == "sqlite" else new_database()
    AuditTrail(url, lifecycle=False).close()
    return url


def start(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)


def told(url):
    """How many events are sealed, and how many are said to be lost by each gap."""
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush()
        assert trail.chain.verify().findings == ()
        events = list(trail.events())
    return (
        sum(event.action == "a.b" for event in events),
        [event.details["lost"] for event in events if event.action == "trail.gap"],
    )


def test_events_that_a_killed_process_took_and_did_not_write_are_counted_once(url):
    code = """
        import os, signal, sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1], durable=False)
        for number in range(40):
            trail.record("a.b")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with start(code, url) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert told(url) == (0, [41]), "with the one of its start"
    assert told(url) == (0, [41])


def test_whenever_it_is_killed_no_event_is_neither_there_nor_counted(url):
    code = """
        import sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1], durable=False, lifecycle=False)
        for number in range(1_000_000):
            trail.record("a.b")
            print(number, flush=True)
    """
    taken = lost = 0
    for line in (5, 400, 1500):
        with start(code, url) as process:
            numbers = [process.stdout.readline() for _ in range(line)]
            process.kill()
            taken += len([*numbers, *process.stdout])
        there, gaps = told(url)
        lost = sum(gaps)
        assert taken <= there + lost <= taken + 3 * (BATCH + 1), "of a commit in whose midst it was killed"
    assert lost > 0


@pytest.mark.parametrize("end", ["trail.close()", "pass", "trail.flush(); os._exit(0)"])
def test_nothing_is_counted_after_an_end_that_loses_nothing(end, url):
    code = """
        import os, sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1], durable=False, lifecycle=False)
        for number in range(500):
            trail.record("a.b")
    """
    with start(textwrap.dedent(code) + end, url) as process:
        assert process.wait(60) == 0
    assert told(url) == (500, [])


def test_a_living_process_is_no_dead_one_and_its_child_counts_for_itself(url):
    code = """
        import os, signal, sys
        from audit_core import AuditTrail
        trail = AuditTrail(sys.argv[1], durable=False, lifecycle=False)
        for _ in range(300):
            trail.record("a.b")
        if (pid := os.fork()) == 0:
            for _ in range(7):
                trail.record("a.b")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        trail.flush()
        print("flushed", flush=True)
        sys.stdin.readline()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout.readline() == "flushed\n"
    assert told(url) == (300, [7])
    process.communicate("\n")
    assert told(url) == (300, [7])


def test_what_was_held_in_memory_and_then_written_is_not_counted(tmp_path, monkeypatch):
    trail = AuditTrail(f"sqlite:///{tmp_path}/clinic.db", durable=False, lifecycle=False)
    folder = folder_of(tmp_path / "clinic.db")
    with monkeypatch.context() as full:
        full.setattr(SpillFile, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        full.setattr(type(trail.sealer), "deliver", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        for _ in range(3):
            trail.record("a.b")
        with pytest.raises(Exception, match="sealed"):
            trail.flush(1)
        (file,) = folder.glob("*.tally")
        assert file.read_bytes().count(1) == 3
    trail.flush()
    assert sum(file.read_bytes()[8:]) == 0
    trail.close()
    assert list(folder.glob("*.tally")) == []


def test_a_trail_that_waits_for_the_disk_keeps_no_tally(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db") as trail:
        trail.record("a.b")
        assert list(folder_of(tmp_path / "clinic.db").glob("*.tally")) == []


def test_where_the_folder_cannot_be_made_nothing_is_counted_and_everything_written(tmp_path, caplog):
    folder_of(tmp_path / "clinic.db").write_text("no folder")
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", durable=False, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
    assert "will not be counted" in caplog.text
    folder_of(tmp_path / "clinic.db").unlink()
    assert told(f"sqlite:///{tmp_path}/clinic.db") == (1, [])


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 8, b"\1" * 40, bytes(8) + b"\1" * SLOTS])
def test_whatever_stands_in_the_file_gives_a_count_and_a_time(content, tmp_path):
    (tmp_path / "1-00.tally").write_bytes(content)
    with losses(tmp_path) as lost:
        assert [each.number for each in lost] == [count for count in [content[8:].count(1)] if count]
    assert list(tmp_path.iterdir()) == []


def test_slots_are_used_again_round_the_end(tmp_path):
    tally = Tally(tmp_path)
    tally.open()
    (file,) = tmp_path.glob("*.tally")
    for _ in range(3):
        slots = [tally.add() for _ in range(SLOTS - 10)]
        assert file.read_bytes()[8:].count(1) == SLOTS - 10
        tally.settle(slots, datetime.now(UTC))
        assert file.read_bytes()[8:].count(1) == 0
    tally.close()
