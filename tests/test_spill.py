"""The spill file among other processes, hostile hands and failing disks."""

import json
import logging
import os
import shutil
import signal
import sqlite3
import stat
import tempfile
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from audit_core.outbox import left
from audit_core.outbox import spill as spill_module
from audit_core.outbox.folder import make_folder
from audit_core.outbox.gate import Gate
from audit_core.outbox.spill import SpillFile, orphans, peek
from audit_core.redaction import Redactor
from audit_core.testing import make_event
from audit_core.trail import AuditTrail
from audit_core.writing.backlog import Backlog
from tests.reports.trails import OURS, as_nobody, let_everybody_in


def seconds(directory):
    return [event.timestamp.second for event in peek(directory)]


def adopt(directory):
    with orphans(directory) as (events, torn):
        return [event.timestamp.second for event in events], sum(each.number for each in torn)


def as_user(user, group, ask):
    """What ``ask`` answers in a process of that user."""
    if (pid := os.fork()) == 0:
        answer = False
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            answer = ask()
        finally:
            os._exit(0 if answer else 1)
    return os.waitpid(pid, 0)[1] == 0


class TestAFileThatIsNotThereAnyMore:
    def test_a_file_that_is_removed_is_written_anew_with_all_that_it_held(self, tmp_path):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        spill.path.unlink()
        spill.append([make_event(2)])
        assert seconds(tmp_path) == [1, 2]
        spill.abandon()

    def test_a_folder_that_is_removed_or_moved_is_made_anew_with_all_that_it_held(self, tmp_path):
        folder = tmp_path / "clinic.db-audit"
        spill = SpillFile(folder)
        spill.append([make_event(1)])
        shutil.rmtree(folder)
        spill.append([make_event(2)])
        folder.rename(tmp_path / "elsewhere")
        spill.append([make_event(3)])
        assert seconds(folder) == [1, 2, 3]
        spill.abandon()

    def test_where_it_cannot_be_made_anew_the_event_is_not_acknowledged(self, tmp_path, monkeypatch):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        spill.path.unlink()
        with monkeypatch.context() as full:
            full.setattr(left, "open_file", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OSError, match="full"):
                spill.append([make_event(2)])
        assert [event.timestamp.second for event in spill.events] == [1]
        spill.append([make_event(3)])
        assert seconds(tmp_path) == [1, 3]
        spill.abandon()

    @pytest.mark.parametrize("moment", ["while it is locked", "when it has been adopted"])
    def test_a_file_that_another_process_finds_before_it_is_locked_is_left_to_that_one(
        self, tmp_path, monkeypatch, moment
    ):
        real, found = left.open_file, []

        def make_and_be_found(path, flags):
            fd = real(path, flags)
            if not found:
                other = orphans(tmp_path)
                found.append(other)
                other.__enter__()
                if moment == "when it has been adopted":
                    other.__exit__(None, None, None)
            return fd

        monkeypatch.setattr(left, "open_file", make_and_be_found)
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        if moment == "while it is locked":
            found[0].__exit__(None, None, None)
        assert seconds(tmp_path) == [1]
        assert adopt(tmp_path) == ([], 0)
        spill.abandon()

    def test_forgetting_batch_by_batch_writes_a_large_file_anew_only_now_and_then(self, tmp_path, monkeypatch):
        monkeypatch.setattr(spill_module, "REWRITE_BYTES", 1_000)
        spill = SpillFile(tmp_path)
        events = [make_event(n) for n in range(64)]
        spill.append(events)
        files = set()
        for number in range(63):
            spill.remove({events[number].event_id})
            files.add(spill.path)
            assert len(peek(tmp_path)) >= 63 - number
        assert 2 < len(files) < 8
        spill.remove({events[-1].event_id})
        assert list(tmp_path.glob("*.spill")) == []


class TestWhatIsNoSpillFile:
    def write(self, directory, *texts):
        lines = [b"%08x %s\n" % (zlib.crc32(text), text) for text in texts]
        (directory / "1-00.spill").write_bytes(b"".join(lines))

    @pytest.mark.parametrize(
        "text",
        [b"no json", b"[]", b"null", b"{}", b'{"event_id": 1}', b"[" * 100_000, b'{"action":"\\ud800"}', b"\xff"],
    )
    def test_a_line_that_is_no_event_becomes_one_that_says_so_and_holds_up_nobody(self, path_of_trail, text):
        directory = path_of_trail.parent / "trail.db-audit"
        directory.mkdir()
        spill = SpillFile(directory)
        spill.append([make_event(action="from.dead")])
        spill.abandon()
        self.write(directory, text)
        assert sorted(event.action for event in peek(directory)) == ["from.dead", "outbox.unreadable"]
        with AuditTrail(f"sqlite:///{path_of_trail}") as trail:
            trail.flush()
            for action in ("from.dead", "outbox.unreadable"):
                assert [event.sealed for event in trail.events(action=action)] == [True]

    def test_an_event_that_the_chain_cannot_hold_is_sealed_as_unreadable(self, path_of_trail):
        directory = path_of_trail.parent / "trail.db-audit"
        directory.mkdir()
        spill = SpillFile(directory)
        spill.append([make_event(action="from.dead")])
        (line,) = spill.path.read_bytes().splitlines()
        spill.abandon()
        event = json.loads(line.partition(b" ")[2]) | {"actor_id": ["a list"], "event_id": "another"}
        self.write(directory, json.dumps(event).encode())
        with AuditTrail(f"sqlite:///{path_of_trail}") as trail:
            trail.flush()
            assert [event.sealed for event in trail.events(action="from.dead")] == [True]
            assert len(list(trail.events(action="outbox.unreadable"))) == 1

    def test_a_directory_with_such_a_name_holds_up_nobody(self, tmp_path):
        (tmp_path / "0.spill").mkdir()
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        spill.abandon()
        assert seconds(tmp_path) == [1]
        assert adopt(tmp_path) == ([1], 0)
        assert (tmp_path / "0.spill").is_dir()

    def test_a_file_that_may_not_be_read_is_told_of_once_and_holds_up_nobody(self, tmp_path, monkeypatch, caplog):
        for number in (1, 2):
            spill = SpillFile(tmp_path)
            spill.append([make_event(number)])
            spill.abandon()
        theirs, real = min(tmp_path.glob("*.spill")), os.open

        def refuse(path, *args, **options):
            if path == theirs:
                raise PermissionError(13, "not yours")
            return real(path, *args, **options)

        monkeypatch.setattr(spill_module.os, "open", refuse)
        assert len(adopt(tmp_path)[0]) == 1
        assert adopt(tmp_path) == ([], 0)
        assert caplog.text.count("not yours") == 1
        assert theirs.exists()


class TestForks:
    def test_what_a_dead_parent_spilled_is_adopted_while_its_idle_child_lives(self, tmp_path):
        read_end, write_end = os.pipe()
        if (parent := os.fork()) == 0:
            spill = SpillFile(tmp_path)
            spill.append([make_event(1)])
            gate = Gate(tmp_path)
            gate.enter()
            if (child := os.fork()) == 0:
                signal.pause()
            os.write(write_end, b"%d\n" % child)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(parent, 0)
        child = int(os.read(read_end, 20))
        os.close(read_end)
        os.close(write_end)
        try:
            assert adopt(tmp_path) == ([1], 0)
            gate = Gate(tmp_path)
            with gate.alone() as free:
                assert free
            gate.close()
        finally:
            os.kill(child, signal.SIGKILL)

    def test_a_child_that_spills_leaves_the_file_of_its_parent_alone(self, tmp_path):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        if (pid := os.fork()) == 0:
            spill.append([make_event(2)])
            os._exit(0 if len(list(tmp_path.glob("*.spill"))) == 2 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        spill.append([make_event(3)])
        assert adopt(tmp_path) == ([2], 0)
        assert seconds(tmp_path) == [1, 3]
        spill.abandon()


@pytest.fixture
def path_of_trail(tmp_path):
    return tmp_path / "trail.db"


class TestCarriedAlong:
    @pytest.mark.parametrize(
        ("synchronous", "carried"), [("OFF", False), ("NORMAL", False), ("FULL", True), ("EXTRA", True)]
    )
    @pytest.mark.parametrize("mode", ["WAL", "DELETE"])
    def test_only_a_transaction_that_survives_a_power_cut_takes_spilled_events_along(
        self, path_of_trail, mode, synchronous, carried
    ):
        with AuditTrail(f"sqlite:///{path_of_trail}", lifecycle=False) as trail:
            connection = sqlite3.connect(path_of_trail, isolation_level=None)
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            trail.opened()
            trail.record("a.b")
            connection.execute("BEGIN IMMEDIATE")
            trail.carry([trail.event("a.c")], connection, "app")
            connection.execute("COMMIT")
            assert [event.sealed for event in trail.events(action="a.c")] == [True]
            assert [event.sealed for event in trail.events(action="a.b")] == [carried]
            connection.close()
            trail.closed()
            trail.flush()
            assert [event.sealed for event in trail.events(action="a.b")] == [True]

    @pytest.mark.parametrize("mode", ["WAL", "DELETE"])
    def test_our_own_commits_survive_a_power_cut(self, path_of_trail, mode):
        with AuditTrail(f"sqlite:///{path_of_trail}") as trail:
            connection = sqlite3.connect(path_of_trail)
            connection.execute(f"PRAGMA journal_mode = {mode}")
            connection.close()
            with trail.store.transaction() as own:
                assert own.execute("PRAGMA synchronous").fetchone() == (2,)


class TestWhoMayUseIt:
    @pytest.mark.parametrize(
        ("database", "folder", "file"),
        [(0o600, 0o700, 0o600), (0o660, 0o770, 0o660), (0o640, 0o750, 0o640), (0o664, 0o775, 0o664)],
    )
    def test_whoever_may_use_the_database_may_use_gate_and_spill_files_and_nobody_else(
        self, path_of_trail, database, folder, file
    ):
        path_of_trail.touch()
        path_of_trail.chmod(database)
        directory = path_of_trail.parent / "trail.db-audit"
        make_folder(directory)
        gate, spill = Gate(directory), SpillFile(directory)
        gate.enter()
        spill.append([make_event(1)])
        assert stat.S_IMODE(directory.stat().st_mode) == folder
        assert stat.S_IMODE((directory / "gate").stat().st_mode) == file
        assert stat.S_IMODE(spill.path.stat().st_mode) == file
        gate.leave()
        gate.close()
        spill.abandon()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
    @pytest.mark.parametrize(("mode", "adopted"), [(0o660, True), (0o640, False)])
    def test_another_user_who_may_write_the_database_adopts_and_one_who_may_not_does_not(self, mode, adopted):
        home = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are for this user alone
        (home / "trail.db").touch()
        (home / "trail.db").chmod(mode)
        os.chown(home / "trail.db", 12_001, 12_000)
        home.chmod(0o777)
        directory = home / "trail.db-audit"
        try:
            assert as_user(12_001, 12_000, lambda: SpillFile(directory).append([make_event(1)]) is None)
            assert as_user(12_002, 12_000, lambda: len(peek(directory)) == 1)
            assert as_user(12_003, 12_003, lambda: peek(directory) == [])
            assert as_user(12_002, 12_000, lambda: adopt(directory) == (([1], 0) if adopted else ([], 0)))
        finally:
            shutil.rmtree(home)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group that is not his")
    def test_where_the_group_cannot_be_that_of_the_database_no_other_group_gets_in(self, path_of_trail, monkeypatch):
        path_of_trail.touch()
        os.chown(path_of_trail, -1, 12_345)
        path_of_trail.chmod(0o660)

        def refuse(*_):
            raise PermissionError(1, "not a member of it")

        monkeypatch.setattr(os, "fchown", refuse)
        directory = path_of_trail.parent / "trail.db-audit"
        make_folder(directory)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_a_link_in_the_folder_gives_away_no_other_file(self, path_of_trail, tmp_path, caplog):
        secret = tmp_path / "secret"
        secret.touch(mode=0o600)
        path_of_trail.touch()
        path_of_trail.chmod(0o666)
        directory = path_of_trail.parent / "trail.db-audit"
        make_folder(directory)
        (directory / "gate").symlink_to(secret)
        gate = Gate(directory)
        gate.enter()
        gate.leave()
        gate.close()
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert "cannot be opened" in caplog.text


class TestATrailThatMayNotBeWritten:
    @pytest.fixture
    def read_only(self, path_of_trail):
        """A trail whose file is read-only to everybody; ``mine`` says whether whoever records may use its folder."""

        def make(*, mine):
            with self.open(path_of_trail) as trail:
                trail.record("work.done")
            let_everybody_in(path_of_trail)
            path_of_trail.chmod(0o444)
            if mine and os.geteuid() == 0:
                for each in (path_of_trail.parent, *path_of_trail.parent.rglob("*")):
                    os.chown(each, 65534, 65534)
            if not mine:
                path_of_trail.parent.chmod(0o555)

        yield make
        path_of_trail.parent.chmod(0o755)

    def open(self, path):
        return AuditTrail(f"sqlite:///{path}", signer=OURS, redactor=Redactor(), lifecycle=False)

    def record(self, path, log):
        """Record as one who may not write the file; what the log then says at its usual level."""
        log.touch(mode=0o666)
        log.chmod(0o666)

        def run():
            logging.basicConfig(filename=log, format="%(levelname)s %(message)s", force=True)
            logging.getLogger("audit_core").setLevel(logging.NOTSET)
            with self.open(path) as trail:
                trail.record("work.done", resource="work:1")
                trail.record("work.done", resource="work:2")
                time.sleep(0.2)
            return 0

        assert as_nobody(run) == 0
        return log.read_text().splitlines()

    def test_every_event_waits_durably_and_the_log_says_once_how_to_mend_it(self, read_only, path_of_trail, tmp_path):
        read_only(mine=True)
        (line,) = self.record(path_of_trail, tmp_path / "log")
        assert line == (
            f"WARNING Events wait for the outbox, durably in the spill file where there is one: {path_of_trail}: "
            "attempt to write a readonly database; let this user write the file and its folder; until then the "
            "events wait."
        )
        path_of_trail.chmod(0o644)
        with self.open(path_of_trail) as trail:
            trail.flush()
            assert [event.resource_id for event in trail.events(newest_first=False)][-2:] == ["1", "2"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has a folder that another user may not write")
    def test_where_no_spill_file_can_be_made_either_every_line_has_its_cure(self, read_only, path_of_trail, tmp_path):
        read_only(mine=False)
        gate, waits, held, lost = self.record(path_of_trail, tmp_path / "log")
        assert "let this user write it and its folder" in gate
        assert "let this user write the file and its folder" in waits
        assert "lost when this process ends: let this user write there, or make room" in held
        assert lost.startswith("ERROR 2 events could be written neither")

    def test_a_file_that_somebody_else_writes_just_now_is_no_cause_for_a_warning(self, path_of_trail, caplog):
        with self.open(path_of_trail) as trail, closing(sqlite3.connect(path_of_trail)) as other:
            other.execute("BEGIN IMMEDIATE")
            trail.record("work.done")
            time.sleep(0.1)
            other.rollback()
            trail.flush()
        assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


class TestADiskThatIsFull:
    def test_it_is_told_once_and_how_many_were_held_when_it_is_over(self, tmp_path, monkeypatch, caplog):
        caplog.set_level(logging.WARNING, "audit_core")
        backlog = Backlog(tmp_path, lambda ids: set(), lambda *gap: make_event(action="trail.gap"))
        with monkeypatch.context() as full:
            full.setattr(SpillFile, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            for number in range(20):
                assert backlog.add([make_event(number)])
        assert caplog.text.count("No space left") == 1
        assert backlog.add([make_event(20)]) is None
        assert "20 events held in memory are written" in caplog.text
        assert len(peek(tmp_path)) == 21
        assert backlog.held == []
        backlog.abandon()

    def test_what_is_held_in_memory_is_read_like_all_that_waits(self, path_of_trail, monkeypatch):
        with AuditTrail(f"sqlite:///{path_of_trail}", lifecycle=False) as trail:
            trail.flush()
            with monkeypatch.context() as full:
                full.setattr(SpillFile, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
                trail.opened()
                trail.record("held.back")
                assert trail.status()["waiting"] == 1
                assert [event.action for event in trail.events()][:1] == ["held.back"]
                trail.closed()
            trail.flush()
            assert [event.sealed for event in trail.events(action="held.back")] == [True]

    def test_what_dead_processes_left_is_not_held_again_and_again(self, tmp_path, monkeypatch, caplog):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        spill.abandon()
        backlog = Backlog(tmp_path, lambda ids: set(), lambda *gap: make_event(action="trail.gap"))
        with monkeypatch.context() as full:
            full.setattr(SpillFile, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
            for _ in range(5):
                backlog.adopt()
        assert not backlog
        assert caplog.text.count("cannot be taken over") == 1
        backlog.adopt()
        assert [event.timestamp.second for event in backlog.events] == [1]
        backlog.abandon()

    def test_a_backlog_is_handed_over_oldest_first_and_the_gap_by_itself_at_the_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr("audit_core.writing.backlog.HELD_AT_MOST", 2)
        backlog = Backlog(tmp_path, lambda ids: set(), lambda *gap: make_event(action="trail.gap"))
        backlog.add([make_event(n) for n in range(3)])
        backlog.hold([make_event(n) for n in range(3, 7)])
        batches = []
        while backlog:
            batch = backlog.oldest(2)
            batches.append([event.action if event.action == "trail.gap" else event.timestamp.second for event in batch])
            backlog.remove(batch)
        assert batches == [[0, 1], [2], [3, 4], ["trail.gap"]]
