"""The command ``audit``: every command, every error's sentence, every exit code."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.main import get_command

from audit_core import AuditTrail, VerifierKey
from audit_core.cli import main
from audit_core.cli.app import app
from audit_core.keys import LocalSigner, generate_key
from audit_core.outbox.spill import SpillFile
from tests.reports.trails import about, as_nobody, event, let_everybody_in, seal, tamper

ROOT = Path(__file__).parents[1]
OURS, THEIRS = base64.b64encode(b"o" * 32).decode(), base64.b64encode(b"t" * 32).decode()
ORIGIN = "example.com/clinic"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AUDIT_KEY", OURS)
    for name in ("AUDIT_HASH_KEY", "AUDIT_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path}"


@pytest.fixture
def events(url):
    """A trail of log.created and these."""
    with AuditTrail(url, origin=ORIGIN, lifecycle=False) as trail:
        return seal(trail, [about("42", n, outcome="denied" if n % 2 else "success") for n in range(12)])


@pytest.fixture
def audit(capsys):
    """Run a command: its exit code, stdout, stderr. No error ever shows a traceback."""

    def run(*words, **options):
        capsys.readouterr()
        code = main([str(word) for word in words], **options)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture
def refused(audit):
    """Run a command that cannot be done: its sentence."""

    def run(*words, **options):
        code, out, err = audit(*words, **options)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        return err

    return run


def verifier_key() -> str:
    return str(VerifierKey(ORIGIN, LocalSigner(b"o" * 32).public_key))


def start(*words, **environment):
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "audit_core.cli", *map(str, words)], cwd=ROOT, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def actions(url) -> list[str]:
    with AuditTrail(url, create=False, lifecycle=False) as trail:
        return [event.action for event in trail.events(newest_first=False)]


class TestInit:
    def test_makes_the_trail_and_prints_origin_and_verifier_key(self, audit, url):
        code, out, _ = audit("init", "--url", url, "--origin", ORIGIN)
        assert code == 0
        assert ORIGIN in out
        assert verifier_key() in out
        assert actions(url) == ["log.created"]

    def test_may_be_repeated_and_says_that_the_origin_stays(self, audit, url):
        first = audit("init", "--url", url, "--origin", ORIGIN)
        again = audit("init", "--url", url, "--origin", "example.com/other")
        assert again[:2] == first[:2]
        assert "its origin stays: example.com/clinic" in again[2]
        assert actions(url) == ["log.created"]

    def test_an_origin_that_none_can_have_is_refused(self, refused, url):
        assert "without spaces" in refused("init", "--url", url, "--origin", "a b")

    def test_a_folder_that_is_not_there_is_refused(self, refused, tmp_path):
        said = refused("init", "--url", f"sqlite:///{tmp_path}/missing/clinic.db")
        assert said.endswith("may use it.\n")

    def test_checkpoints_that_were_removed_are_not_made_again(self, refused, url, path, events):
        tamper(path, "DELETE FROM audit_checkpoints")
        assert "The trail has 13 events, but its signed checkpoints were removed" in refused("init", "--url", url)
        with closing(sqlite3.connect(path)) as reader:
            counts = [reader.execute(f"SELECT count(*) FROM audit_{name}").fetchone()[0]
                      for name in ("events", "checkpoints")]  # fmt: skip
        assert counts == [13, 0]

    def test_a_table_of_checkpoints_that_was_dropped_is_no_new_trail(self, refused, url, path, events):
        tamper(path, "DROP TABLE audit_checkpoints")
        assert "Put them back from a backup" in refused("init", "--url", url)

    def test_who_may_not_write_is_told(self, url, path, events):
        assert as_nobody(read_only(path, lambda: main(["init", "--url", url]))) == 2
        path.parent.chmod(0o755)


class TestStatus:
    def test_size_checkpoint_waiting_sealer_and_key(self, audit, url, events):
        code, out, _ = audit("status", "--url", url)
        assert code == 0
        for part in (ORIGIN, "13", "the transaction that carries an event", verifier_key(), "is the trail's"):
            assert part in out

    def test_json_has_the_same_figures(self, audit, url, events):
        code, out, _ = audit("status", "--url", url, "--json")
        found = json.loads(out)
        assert (code, found["size"], found["waiting"], found["key_is_ours"]) == (0, 13, 0, True)
        assert found["checkpoint"].startswith(f"{ORIGIN}\n13\n")

    def test_what_waits_and_for_how_long(self, audit, url, path, events):
        SpillFile(Path(f"{path}-audit")).append([event()])
        assert "1, the oldest for" in audit("status", "--url", url)[1]

    def test_another_key_is_said_with_the_cure(self, audit, url, events, monkeypatch):
        monkeypatch.setenv("AUDIT_KEY", THEIRS)
        code, out, err = audit("status", "--url", url)
        assert (code, "is not the trail's" in out) == (0, True)
        assert "set AUDIT_KEY" in err

    def test_where_the_key_lies_is_said(self, audit, url, tmp_path, monkeypatch):
        monkeypatch.delenv("AUDIT_KEY")
        _, _, err = audit("init", "--url", url)
        place = tmp_path / "state" / "signing.key"
        assert f"Made a signing key in {place}: keep a copy" in err
        assert f"our key        is the trail's ({place})\n" in audit("status", "--url", url)[1]
        assert json.loads(audit("status", "--url", url, "--json")[1])["key_place"] == str(place)

    def test_who_has_no_key_is_not_asked_for_one(self, audit, copy):
        code, out, err = audit("status", "--url", f"sqlite:///{copy}")
        assert (code, "our key        none\n" in out) == (0, True)
        assert "whoever only reads needs none" in err
        assert "AUDIT_KEY" not in err

    def test_without_a_first_event_no_key_is_called_the_trails(self, audit, url):
        AuditTrail(url, lifecycle=False).close()
        code, out, _ = audit("status", "--url", url)
        assert (code, "is the trail's" in out) == (0, False)
        assert "none yet: the first event begins the trail" in out

    def test_it_writes_nothing(self, audit, url, path, events):
        before = path.read_bytes()
        audit("status", "--url", url)
        assert path.read_bytes() == before


class TestVerify:
    def test_consistent_without_anything_kept_elsewhere_is_unanchored(self, audit, url, events):
        code, out, _ = audit("verify", "--url", url)
        assert code == 3
        assert "UNANCHORED" in out
        assert "OK" not in out

    def test_with_a_checkpoint_kept_elsewhere_it_is_ok(self, audit, url, events, tmp_path):
        kept = tmp_path / "kept"
        assert audit("checkpoint", "--url", url, "--out", kept)[0] == 0
        code, out, _ = audit("verify", "--url", url, "--checkpoint", kept, "--key", verifier_key())
        assert (code, out.startswith("OK: 13 events")) == (0, True)

    def test_a_checkpoint_and_a_proof_that_are_written_to_a_file_say_so_in_one_line(self, audit, url, events, tmp_path):
        for words, said in ((("checkpoint",), "the checkpoint"), (("prove", 4), "the proof of event 4")):
            file = tmp_path / words[0]
            code, out, err = audit(*words, "--url", url, "--out", file)
            assert (code, err, len(out.splitlines())) == (0, "", 1)
            assert out.startswith(f"{file}: {said}")
            assert f"of 13 events of {ORIGIN}. " in out
            assert file.read_text()

    def test_what_is_printed_has_nothing_beside_it(self, audit, url, events):
        out = audit("checkpoint", "--url", url)[1]
        assert out.splitlines()[:2] == [ORIGIN, "13"]
        assert json.loads(audit("prove", 4, "--url", url)[1])["index"] == 4

    def test_what_came_after_the_checkpoint_is_said(self, audit, url, events, tmp_path):
        kept = tmp_path / "kept"
        audit("checkpoint", "--url", url, "--out", kept)
        audit("verify", "--url", url)
        code, out, _ = audit("verify", "--url", url, "--checkpoint", kept)
        assert code == 0
        assert "The last event came after" in out

    def test_of_several_checkpoints_the_longest_vouches(self, audit, url, events, tmp_path):
        for name in ("a", "b"):
            audit("checkpoint", "--url", url, "--out", tmp_path / name)
            audit("verify", "--url", url)
        both = ("--checkpoint", tmp_path / "a", "--checkpoint", tmp_path / "b")
        assert json.loads(audit("verify", "--url", url, *both, "--json")[1])["anchored"] == 14

    def test_that_it_was_verified_and_by_whom_is_an_event(self, audit, url, events):
        audit("verify", "--url", url)
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            (noted,) = trail.events(action="trail.verified")
        assert noted.actor_type == "admin"
        assert noted.actor_id.startswith("os:")
        assert noted.details["result"] == "unanchored"

    def test_an_edited_and_a_deleted_event_are_named(self, audit, url, path, events):
        tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 4",
               "DELETE FROM audit_events WHERE sequence = 9")  # fmt: skip
        code, out, _ = audit("verify", "--url", url)
        assert code == 1
        assert "Event 4 (now: GET /patients/{id}, 2026-01-31T12:00:03.000000Z, by eve, id " + events[3].event_id in out
        assert "was changed after it was sealed" in out
        assert "Event 9 is missing" in out
        assert "FAILED." in out.splitlines()

    def test_findings_as_json(self, audit, url, path, events):
        tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 4")
        code, out, _ = audit("verify", "--url", url, "--json")
        found = json.loads(out)
        (finding,) = found["findings"]
        assert (code, found["result"], found["exit_code"]) == (1, "failed", 1)
        assert (finding["kind"], finding["sequence"], finding["event_id"]) == ("edited", 4, events[3].event_id)

    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            ("UPDATE audit_checkpoints SET signature = 'x'", "is not signed with the key"),
            ("UPDATE audit_checkpoints SET root = 'x'", "cannot be read"),
            ("DELETE FROM audit_checkpoints", "no signed checkpoint"),
            ("DELETE FROM audit_events", "Events 0 to 12 are missing"),
            ("UPDATE audit_events SET previous_hash = event_hash WHERE sequence = 4", "does not follow"),
            ("UPDATE audit_events SET details = '{' WHERE sequence = 4", "was changed"),
            ("UPDATE audit_events SET details = CAST(x'ff' AS TEXT) WHERE sequence = 4", "was changed"),
            ("UPDATE audit_events SET details = '{' WHERE sequence = 0", "was changed"),
            ("UPDATE audit_events SET actor_type = x'00' WHERE sequence = 4", "was changed"),
        ],
    )
    def test_other_ways_to_tamper_are_named_in_words(self, audit, path, events, statement, words):
        tamper(path, statement)
        code, out, _ = audit("verify", "--url", f"sqlite:///{path}", "--key", verifier_key())
        assert (code, words in out) == (1, True)

    def test_a_trail_that_was_never_begun_is_not_verified_and_how_to_begin_is_said(self, audit, refused, url, path):
        AuditTrail(url, lifecycle=False).close()
        before = path.read_bytes()
        said = refused("verify", "--url", url)
        assert "nothing to verify yet" in said
        assert "audit init` or the first event begins it" in said
        assert path.read_bytes() == before
        assert audit("verify", "--url", url, "--key", verifier_key())[0] == 1

    def test_hostile_values_do_not_reach_the_terminal(self, audit, url, path, events):
        tamper(path, "UPDATE audit_events SET action = char(27) || '[2J' WHERE sequence = 4")
        code, out, _ = audit("verify", "--url", url)
        assert (code, "\x1b" in out, "\\x1b[2J" in out) == (1, False, True)

    def test_a_trail_cut_off_behind_a_kept_checkpoint(self, audit, url, path, events, tmp_path):
        audit("verify", "--url", url)
        audit("checkpoint", "--url", url, "--out", tmp_path / "kept")
        tamper(
            path, "DELETE FROM audit_events WHERE sequence > 12", "DELETE FROM audit_checkpoints WHERE tree_size > 13"
        )
        code, out, _ = audit("verify", "--url", url, "--checkpoint", tmp_path / "kept")
        assert code == 1
        assert "cut off at 13 events" in out

    def test_a_trail_signed_anew_with_another_key(self, audit, path, events, tmp_path, monkeypatch):
        url = f"sqlite:///{path}"
        audit("checkpoint", "--url", url, "--out", tmp_path / "kept")
        path.unlink()
        monkeypatch.setenv("AUDIT_KEY", THEIRS)
        with AuditTrail(url, origin=ORIGIN, lifecycle=False) as forged:
            seal(forged, [about("42", n) for n in range(12)])
        code, out, _ = audit("verify", "--url", url, "--checkpoint", tmp_path / "kept")
        assert code == 1
        assert "kept elsewhere does not fit" in out
        code, out, _ = audit("verify", "--url", url, "--key", verifier_key())
        assert code == 1
        monkeypatch.setenv("AUDIT_KEY", OURS)
        code, out, err = audit("verify", "--url", url)
        assert code == 2
        assert "not signed with this process's key" in err
        assert "Compare that with the verifier key that you were handed" in err
        assert "do not take it from here" in err

    def test_a_key_that_was_given_is_not_said_to_come_from_the_trail_whatever_was_dropped(
        self, audit, url, path, events
    ):
        for statement in ("DELETE FROM audit_events", "DROP TABLE audit_events", "DROP TABLE audit_checkpoints"):
            tamper(path, statement)
            code, out, _ = audit("verify", "--url", url, "--key", verifier_key())
            assert (code, "taken from the trail itself" in out) == (1, False)
            assert json.loads(audit("verify", "--url", url, "--key", verifier_key(), "--json")[1])["pinned"] is True

    def test_many_findings_are_counted_and_json_has_them_all(self, audit, url, path, events):
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            seal(trail, [event(n) for n in range(200)])
        tamper(path, "UPDATE audit_events SET outcome = 'failure' WHERE sequence > 20")
        code, out, _ = audit("verify", "--url", url)
        assert code == 1
        assert "more of the kind" in out
        assert len(json.loads(audit("verify", "--url", url, "--json")[1])["findings"]) == 192

    def test_the_key_may_be_a_file(self, audit, url, events, tmp_path):
        (tmp_path / "key+1").write_text(verifier_key() + "\n")
        assert audit("verify", "--url", url, "--key", tmp_path / "key+1")[0] == 3

    @pytest.mark.parametrize("key", ["", " "])
    def test_a_pin_that_is_empty_is_refused_and_not_dropped(self, refused, url, events, key):
        assert "key is empty" in refused("verify", "--url", url, "--key", key)

    def test_a_trail_in_memory_is_not_called_tampered(self, refused):
        assert "in memory" in refused("verify", "--url", "memory:")

    @pytest.mark.parametrize("resource", ["", " ", ":42"])
    def test_a_report_about_nothing_is_refused(self, audit, url, events, resource):
        code, out, err = audit("report", "access", resource, "--url", url)
        assert (code, out) == (2, "")
        assert "RESOURCE is empty" in err

    def test_a_key_that_is_none_is_refused(self, refused, url, events, tmp_path):
        assert "name+hash+key" in refused("verify", "--url", url, "--key", "a+b")
        assert "nowhere" in refused("verify", "--url", url, "--key", tmp_path / "nowhere")

    def test_a_checkpoint_that_is_none_is_refused_by_name(self, refused, url, events, tmp_path, monkeypatch):
        (tmp_path / "kept").write_text("no checkpoint")
        assert "kept" in refused("verify", "--url", url, "--checkpoint", tmp_path / "kept")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "v.key").write_text(verifier_key())
        assert " v.key is not what" in refused("verify", "--url", url, "--checkpoint", "v.key")
        (tmp_path / "kept").write_bytes(b"\xff\xfe")
        assert "not a text file" in refused("verify", "--url", url, "--checkpoint", tmp_path / "kept")
        assert "No such file" in refused("verify", "--url", url, "--checkpoint", tmp_path / "nowhere")

    def test_a_changed_checkpoint_is_refused(self, audit, refused, url, events, tmp_path):
        note = audit("checkpoint", "--url", url)[1]
        (tmp_path / "kept").write_text(note.replace("\n13\n", "\n12\n"), encoding="utf-8")
        assert "does not verify" in refused("verify", "--url", url, "--checkpoint", tmp_path / "kept")

    def test_while_another_process_writes_it_does_not_cry_wolf(self, audit, url, events):
        writer = start_writer(url)
        try:
            for _ in range(5):
                assert audit("verify", "--url", url)[0] == 3
        finally:
            writer.stdin.close()
            assert writer.wait(30) == 0

    def test_on_a_file_that_this_user_may_not_write(self, url, path, events):
        assert as_nobody(read_only(path, lambda: main(["verify", "--url", url]))) == 3
        path.parent.chmod(0o755)

    def test_on_a_file_that_this_user_may_not_write_nothing_is_left_beside_it(self, url, path, events):
        run = read_only(path, lambda: main(["verify", "--url", url]))
        path.parent.chmod(0o777)
        assert as_nobody(run) == 3
        assert not path.with_name(f"{path.name}-audit").exists()
        path.parent.chmod(0o755)

    @pytest.mark.skipif(os.geteuid() != 0, reason="root writes what another user may only read")
    @pytest.mark.parametrize(("name", "said"), [("clinic.db", "locked"), ("copy.db", "readonly")])
    def test_a_file_that_somebody_changes_or_died_changing_is_not_read_without_its_journal(
        self, path, events, capfd, name, said
    ):
        run = read_only(path, lambda: main(["verify", "--url", f"sqlite:///{path.parent}/{name}"]))
        with closing(sqlite3.connect(path)) as writer:
            writer.execute("PRAGMA cache_size = 5")  # so that what is not committed is in the file
            writer.execute("CREATE TABLE scan (picture)")
            writer.execute("INSERT INTO scan VALUES (?)", ("x" * 1_000_000,))
            for ending in ("", "-journal"):  # as a power cut would leave it
                (path.parent / f"copy.db{ending}").write_bytes(Path(f"{path}{ending}").read_bytes())
            assert as_nobody(run) == 2
        assert said in capfd.readouterr().err
        path.parent.chmod(0o755)


@pytest.fixture
def copy(path, events, tmp_path, monkeypatch):
    """A copy of the trail with an auditor, who has a home of his own and no signing key."""
    monkeypatch.delenv("AUDIT_KEY")
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "auditor"))
    (tmp_path / "evidence").mkdir()
    copy = tmp_path / "evidence" / "copy.db"
    copy.write_bytes(path.read_bytes())
    return copy


WHY_NOT_RECORDED = {
    None: "this user has no signing key.",
    THEIRS: "the signing key of this user is not its own.",
    "no key at all": "AUDIT_KEY is neither a key (base64 of 32 bytes) nor a file that can be read",
}


class TestAnAuditorsCopy:
    @pytest.mark.parametrize("key", [None, THEIRS, "no key at all"])
    @pytest.mark.parametrize("words", [
        ("verify", "--key", None), ("verify",), ("events",), ("show", "5"), ("prove", "5"),
        ("report", "access", "patient:42"), ("report", "failures"), ("report", "privileged"),
        ("report", "subject", "--actor", "amina"),
    ])  # fmt: skip
    def test_is_not_changed_by_reading_it_and_that_is_said(self, audit, copy, words, key, monkeypatch):
        if key:
            monkeypatch.setenv("AUDIT_KEY", key)
        before = copy.read_bytes()
        _, out, err = audit(*(word or verifier_key() for word in words), "--url", f"sqlite:///{copy}")
        assert copy.read_bytes() == before
        assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]
        assert "waited to be sealed:" not in out
        assert "made with" not in err, "nobody gives an auditor the signing key"
        if words[0] != "verify" or key is None:
            (why,) = re.findall("That the trail was read is not recorded in it: (.*)", out + err)
            assert why.startswith(WHY_NOT_RECORDED[key])

    def test_may_be_made_while_the_file_is_in_use(self, audit, url, path, copy, monkeypatch):
        monkeypatch.setenv("AUDIT_KEY", OURS)
        with closing(sqlite3.connect(path)) as application:
            application.execute("PRAGMA journal_mode = WAL")
            with AuditTrail(url, create=False, lifecycle=False) as trail:
                trail.record("is.last")
                with closing(sqlite3.connect(copy)) as backup:
                    application.backup(backup)
        monkeypatch.delenv("AUDIT_KEY")
        assert json.loads(audit("verify", "--url", f"sqlite:///{copy}", "--json")[1])["size"] == 14

    @pytest.mark.parametrize("key", [None, OURS])
    def test_is_not_begun_anew_where_everything_was_removed(self, audit, copy, key, monkeypatch):
        if key:
            monkeypatch.setenv("AUDIT_KEY", key)
        tamper(copy, "DELETE FROM audit_events", "DELETE FROM audit_checkpoints")
        before = copy.read_bytes()
        assert audit("events", "--url", f"sqlite:///{copy}")[0] == 0
        assert copy.read_bytes() == before

    def test_whoever_has_the_key_records_that_he_read_what_was_tampered_with(self, audit, url, path, events):
        tamper(path, "UPDATE audit_checkpoints SET signature = 'x'")
        assert audit("verify", "--url", url)[0] == 1
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            assert [event.action for event in trail.waiting()] == ["trail.verified"]


def start_writer(url):
    program = (
        "import sys, threading\nfrom audit_core import AuditTrail\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), stop.set())).start()\nstop = threading.Event()\n"
        "with AuditTrail(sys.argv[1], lifecycle=False) as trail:\n"
        "    print('writing', flush=True)\n"
        "    while not stop.is_set(): trail.record('busy.work')\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer.stdout.readline()
    writer.stdout.close()
    return writer


def read_only(path, function):
    """``function`` for somebody who may read the file, and nothing more."""
    with AuditTrail("memory:") as trail:  # imports what the other user may not even read
        for words in (("init",), ("verify",), ("seal",), ("report", "access", "patient"), ("report", "failures"),
                      ("events",), ("show", "0")):  # fmt: skip
            main(list(words), trail=trail)
    with AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail:
        trail.status()
    let_everybody_in(path)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    os.environ.pop("AUDIT_KEY")
    os.environ["AUDIT_STATE_DIR"] = str(path.parent / "nowhere")
    return function


class TestProofs:
    @pytest.fixture
    def proof(self, audit, url, events, tmp_path):
        assert audit("prove", events[4].event_id, "--url", url, "--out", tmp_path / "proof")[0] == 0
        return tmp_path / "proof"

    def test_a_proof_has_record_index_hashes_and_checkpoint(self, audit, url, events):
        code, out, _ = audit("prove", events[4].event_id, "--url", url)
        found = json.loads(out)
        assert (code, found["index"]) == (0, 5)
        assert json.loads(found["record"])["event_id"] == events[4].event_id
        assert all(len(base64.b64decode(digest)) == 32 for digest in found["hashes"])
        assert found["checkpoint"].startswith(f"{ORIGIN}\n13\n")

    def test_it_is_checked_with_the_verifier_key_alone(self, audit, path, proof):
        path.unlink()
        code, out, _ = audit("check-proof", proof, "--key", verifier_key())
        assert (code, out.splitlines()[0]) == (0, f"OK: this record is event 5 of {ORIGIN}, which signed 13 events.")
        assert json.loads(out.partition("\n")[2])["actor_id"] == "amina"
        assert json.loads(audit("check-proof", proof, "--key", verifier_key(), "--json")[1])["tree_size"] == 13

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.update(record=d["record"].replace("amina", "eve")),
            lambda d: d.update(index=d["index"] + 1),
            lambda d: d["hashes"].pop(),
            lambda d: d["hashes"].reverse(),
            lambda d: d.update(checkpoint=d["checkpoint"].replace("\n13\n", "\n14\n")),
            lambda d: d.update(record="\ud800"),
            lambda d: d.update(index=-1),
        ],
    )
    def test_a_changed_proof_fails(self, audit, proof, change):
        document = json.loads(proof.read_text())
        change(document)
        proof.write_text(json.dumps(document))
        code, out, _ = audit("check-proof", proof, "--key", verifier_key())
        assert (code, "FAILED" in out) == (1, True)
        found = json.loads(audit("check-proof", proof, "--key", verifier_key(), "--json")[1])
        assert (found["result"], found["summary"]) == ("failed", out.splitlines()[-1])
        assert out.splitlines()[-1].startswith(("This is not what was proved", "Nothing is proved"))

    def test_another_key_fails(self, audit, proof):
        other = VerifierKey(ORIGIN, LocalSigner(b"t" * 32).public_key)
        code, out, _ = audit("check-proof", proof, "--key", other)
        assert (code, out.splitlines()[-1].startswith("Nothing is proved")) == (1, True)

    def test_the_key_of_another_trail_is_a_question(self, refused, proof):
        other = VerifierKey("example.com/other", LocalSigner(b"t" * 32).public_key)
        said = refused("check-proof", proof, "--key", other)
        assert f"The proof is of the trail {ORIGIN}, and the key that you gave of example.com/other" in said
        assert 0 < said.index("somebody has changed it") < said.index("give the key")

    @pytest.mark.parametrize("text", ["", "[]", "{}", "7", "[" * 100_000,
                                      '{"record": 1, "index": 1, "hashes": [], "checkpoint": ""}',
                                      '{"record": "", "index": true, "hashes": [], "checkpoint": ""}',
                                      '{"record": "", "index": 1, "hashes": ["x"], "checkpoint": ""}'])  # fmt: skip
    def test_what_is_no_proof_is_refused(self, refused, tmp_path, text):
        (tmp_path / "proof").write_text(text)
        assert "audit prove" in refused("check-proof", tmp_path / "proof", "--key", verifier_key())

    def test_the_name_of_a_file_stays_as_it_is_in_what_is_said(self, refused, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for content in (b"{}", b'{"record": 1, "index": 1, "hashes": [], "checkpoint": ""}', b"\xff"):
            (tmp_path / "proof").write_bytes(content)
            assert "The file proof is not " in refused("check-proof", "proof", "--key", verifier_key())

    def test_a_file_that_is_not_there_is_refused(self, refused, tmp_path):
        assert "No such file" in refused("check-proof", tmp_path / "nowhere", "--key", verifier_key())

    def test_an_event_that_is_not_there_is_refused_and_where_to_find_one_is_said(self, refused, url, events):
        for name in ("0190", "99", "x", str(2**63), "\udcff"):
            said = refused("prove", name, "--url", url)
            assert "no sealed event" in said
            assert "audit report" in said

    def test_an_event_is_proved_by_its_sequence_too(self, audit, url, events, proof):
        code, out, _ = audit("prove", "5", "--url", url)
        assert (code, json.loads(out)["record"]) == (0, json.loads(proof.read_text())["record"])

    def test_reports_show_what_to_prove_an_event_by(self, audit, url, events):
        report = ("report", "access", "patient", "--url", url)
        row = list(csv.DictReader(io.StringIO(audit(*report, "--format", "csv")[1])))[3]
        assert audit("prove", row["event_id"], "--url", url)[0] == 0
        assert audit("prove", row["sequence"], "--url", url)[0] == 0
        assert row["sequence"] in audit(*report)[1]

    @pytest.mark.usefixtures("events")
    @pytest.mark.parametrize("words", [("prove", "5"), ("checkpoint",)])
    def test_a_file_that_is_there_is_not_overwritten(self, refused, url, tmp_path, words, monkeypatch):
        (tmp_path / "kept").write_text("kept")
        monkeypatch.chdir(tmp_path)
        said = refused(*words, "--url", url, "--out", "kept")
        assert said == "The file kept is there already, and is not overwritten: give another name with --out.\n"
        assert (tmp_path / "kept").read_text() == "kept"

    def test_a_row_that_is_no_record_is_refused(self, refused, url, path, events):
        tamper(path, "UPDATE audit_events SET details = 'x' WHERE sequence = 5")
        refused("prove", events[4].event_id, "--url", url)

    def test_proving_is_an_event(self, proof, url):
        assert actions(url)[-1] == "trail.read"

    def test_a_checkpoint_is_printed_exactly(self, audit, url, events):
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            assert audit("checkpoint", "--url", url) == (0, trail.chain.checkpoint_note(), "")

    def test_a_trail_without_one_says_so(self, refused, url):
        AuditTrail(url, lifecycle=False).close()
        assert "audit init" in refused("checkpoint", "--url", url)


class TestSeal:
    def test_what_a_dead_process_spilled(self, audit, url, path, events):
        spill = SpillFile(Path(f"{path}-audit"))
        spill.append([event(action="was.spilled")])
        spill.abandon()
        code, out, err = audit("seal", "--url", url)
        assert code == 0
        assert "1 sealed; the trail holds 14 events." in out
        assert "whoever writes an event seals it" in err
        assert "was.spilled" in actions(url)

    def test_what_waits_in_the_outbox(self, audit, url, events):
        with AuditTrail(url, create=False, lifecycle=False) as trail, trail.store.transaction() as connection:
            trail.outboxes[0].put([event(action="did.wait")], connection)
        assert audit("seal", "--url", url)[0] == 0
        assert "did.wait" in actions(url)

    def test_what_a_living_process_spilled_stays_its_own(self, audit, url, path, events):
        spill = SpillFile(Path(f"{path}-audit"))
        spill.append([event(action="was.spilled")])
        code, out, err = audit("seal", "--url", url)
        assert (code, out) == (0, "0 sealed; the trail holds 13 events.\n")
        assert "1 still wait" in err
        spill.abandon()

    def test_another_key_is_refused_with_the_cure(self, refused, url, events, monkeypatch):
        monkeypatch.setenv("AUDIT_KEY", THEIRS)
        assert "set AUDIT_KEY" in refused("seal", "--url", url)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_follow_seals_what_comes_and_ends_cleanly(self, url, path, events, number):
        follower = start("seal", "--follow", "--url", url)
        assert "0 sealed" in follower.stdout.readline()
        spill = SpillFile(Path(f"{path}-audit"))
        spill.append([event(action="came.later")])
        spill.abandon()
        deadline = time.monotonic() + 20
        while not sealed(path, "came.later") and time.monotonic() < deadline:
            time.sleep(0.05)
        follower.send_signal(number)
        _, err = follower.communicate(timeout=20)
        assert follower.returncode == 0
        assert "Traceback" not in err
        assert sealed(path, "came.later")

    def test_who_may_not_write_is_told(self, url, path, events):
        assert as_nobody(read_only(path, lambda: main(["seal", "--url", url]))) == 2
        path.parent.chmod(0o755)


def sealed(path, action) -> bool:
    with closing(sqlite3.connect(path)) as reader:
        return reader.execute("SELECT 1 FROM audit_events WHERE action = ?", (action,)).fetchone() is not None


class TestReport:
    @pytest.mark.parametrize("resource", [("patient:42",), ("patient", "42"), ("patient",)])
    def test_access_as_a_table(self, audit, url, events, resource):
        code, out, _ = audit("report", "access", *resource, "--url", url)
        assert code == 0
        assert out.count("amina") == 12
        assert "HIPAA 164.312(b): partly (12 events; whether reads of 'patient' were audited is not known)" in out

    def test_access_as_csv_keeps_stdout_for_the_rows(self, audit, url, events):
        code, out, err = audit("report", "access", "patient:42", "--url", url, "--format", "csv")
        assert (code, len(list(csv.DictReader(io.StringIO(out))))) == (0, 12)
        assert "PCI DSS" in err

    def test_access_as_json(self, audit, url, events):
        code, out, _ = audit("report", "access", "patient:42", "--url", url, "--format", "json")
        assert (code, len(json.loads(out)["rows"])) == (0, 12)

    def test_privileged_shows_what_administrators_did(self, audit, url, events):
        audit("verify", "--url", url)
        rows = json.loads(audit("report", "privileged", "--url", url, "--format", "json")[1])["rows"]
        assert [row["action"] for row in rows] == ["trail.verified", "trail.read"]

    def test_failures_are_grouped_from_the_fewest_that_are_wanted_on(self, audit, url, events):
        rows = json.loads(audit("report", "failures", "--url", url, "--format", "json")[1])["rows"]
        assert [(row["by"], row["who"], row["failures"]) for row in rows] == [("actor", "amina", 6)]
        assert not json.loads(audit("report", "failures", "--min", "7", "--url", url, "--format", "json")[1])["rows"]

    def test_a_subject_is_told_by_all_its_names(self, audit, url, events):
        words = (
            "report",
            "subject",
            "--actor",
            "amina",
            "--resource",
            "patient:42",
            "--url",
            url,
            "--until",
            "2026-01-31",
        )
        code, out, _ = audit(*words, "--format", "json")
        assert (code, {row["relation"] for row in json.loads(out)["rows"]}) == (0, {"both"})
        code, out, _ = audit(*words, "--format", "html")
        assert (code, out.startswith("<!doctype html>"), "patient 42" in out) == (0, True, False)
        assert "<bdi>patient</bdi> <bdi>42</bdi>" in out
        code, out, err = audit(*words, "--format", "csv")
        assert (code, len(list(csv.DictReader(io.StringIO(out)))) >= 12, "by another name" in err) == (0, True, True)
        assert "by another name" in audit(*words)[1]

    def test_until_means_the_whole_day_and_before_a_time(self, audit, url, events):
        def count(*interval):
            words = ("report", "access", "patient:42", "--url", url, "--format", "json", *interval)
            return len(json.loads(audit(*words)[1])["rows"])

        assert count("--since", "2026-01-31", "--until", "2026-01-31") == 12
        assert count("--until", "2026-01-30") == 0
        assert count("--since", "2026-02-01") == 0
        assert count("--until", "2026-01-31T12:00:05Z") == 5
        assert count("--since", "2026-01-31T13:00:05+01:00") == 7

    @pytest.mark.parametrize("words", [
        ("report", "access"), ("report", "access", "patient", "--since", "yesterday"), ("report", "nonsense"),
        ("report", "failures", "--min", "0"), ("report", "privileged", "--format", "xml"), ("nonsense",),
        ("report", "access", "patient", "--until", "9999-12-31"), ("prove",), ("check-proof", "x"), ("--nonsense",),
        ("show",), ("report", "subject"), ("report", "subject", "--resource", "patient", "--url", "sqlite:///x.db"),
    ])  # fmt: skip
    def test_usage_errors_exit_with_2(self, audit, words):
        code, out, err = audit(*words)
        assert (code, out) == (2, "")
        assert err

    @pytest.mark.parametrize(("words", "said"), [
        (("events", "--outcome", "nonsense"), "'nonsense' is not one of 'success', 'failure', 'denied'."),
        (("report", "privileged", "--format", "xml"), "'xml' is not one of 'table', 'csv', 'json'."),
        (("events", "--limit", "many"), "'many' is no whole number"),
        (("events", "--limit", "0"), "'0' is not 1 or more"),
        (("verify", "--jobs", "65"), "'65' is not 64 or less"),
        (("verify", "--max-age", "long"), "'long' is no number"),
        (("verify", "--max-age", "inf"), "'inf' is not 1e+06 or less"),
    ])  # fmt: skip
    def test_a_value_that_is_wrong_is_named_in_plain_words(self, audit, words, said):
        assert audit(*words)[2].splitlines()[-1] == f"Error: Invalid value for '{words[-2]}': {said}"

    def test_every_list_of_commands_says_what_each_does_to_its_end_and_every_option_is_explained(self):
        def look(command, path):
            below = getattr(command, "commands", {})
            for name, one in below.items():
                room = 80 - 8 - max(map(len, below))
                assert not one.get_short_help_str(room).endswith("..."), [*path, name]
                look(one, [*path, name])
            for parameter in command.params:
                assert parameter.help, [*path, parameter.name]

        look(get_command(app), [])

    def test_a_reader_that_goes_away_is_no_error(self, url, events):
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            seal(trail, [about("42", n) for n in range(3_000)])
        process = start("report", "access", "patient:42", "--format", "csv", "--url", url)
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        process.wait(20)

    def test_a_reader_that_goes_away_does_not_make_a_sound_trail_a_failed_one(self, url, events):
        process = start("verify", "--url", url)
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(20) == 2

    def test_a_key_and_a_checkpoint_that_were_saved_by_windows_are_those_that_were_saved(
        self, audit, url, events, tmp_path
    ):
        (key, kept) = (tmp_path / name for name in ("verifier.key", "kept.checkpoint"))
        key.write_bytes(b"\xef\xbb\xbf" + audit("keygen", "--verifier", "--url", url)[1].encode())
        kept.write_bytes(b"\xef\xbb\xbf" + audit("checkpoint", "--url", url)[1].replace("\n", "\r\n").encode())
        assert audit("verify", "--url", url, "--key", key, "--checkpoint", kept)[0] == 0


class TestEvents:
    @pytest.fixture
    def rows(self, audit, url):
        """The rows of ``audit events`` with these options."""

        def run(*words):
            code, out, _ = audit("events", "--url", url, "--format", "json", *words)
            assert code == 0
            return json.loads(out)["rows"]

        return run

    @pytest.fixture
    def mixed(self, url):
        with AuditTrail(url, origin=ORIGIN, lifecycle=False) as trail:
            return seal(trail, [
                about("42", 0), about("43", 1, outcome="denied"), about("42", 2, actor_id="eve", action="chart.read"),
                about("7", 3, resource_type="invoice", tenant_id="north"),
            ])  # fmt: skip

    def test_the_newest_come_first_and_are_fifty_unless_more_are_wanted(self, rows, url):
        with AuditTrail(url, origin=ORIGIN, lifecycle=False) as trail:
            made = seal(trail, [about("42", n) for n in range(60)])
        wanted = ("--resource", "patient:42")
        newest = [event.event_id for event in reversed(made)]
        assert [row["event_id"] for row in rows(*wanted)] == newest[:50]
        assert [row["event_id"] for row in rows(*wanted, "--limit", "2")] == newest[:2]
        assert [row["event_id"] for row in rows(*wanted, "--limit", "100")] == newest
        assert [row["event_id"] for row in rows(*wanted, "--limit", 10**20)] == newest

    @pytest.mark.parametrize(
        ("words", "places"),
        [
            (["--actor", "eve"], [2]),
            (["--resource", "patient:42"], [2, 0]),
            (["--resource", "patient"], [2, 1, 0]),
            (["--action", "chart.read"], [2]),
            (["--outcome", "denied"], [1]),
            (["--tenant", "north"], [3]),
            (["--since", "2026-01-31T12:00:02Z", "--until", "2026-01-31"], [3, 2]),
            (["--actor", "amina", "--until", "2026-01-31T12:00:01Z"], [0]),
            (["--actor", "amina", "--resource", "patient"], [1, 0]),
            (["--actor", "nobody"], []),
        ],
    )
    def test_only_those_that_match_all_that_is_given(self, rows, mixed, words, places):
        assert [row["event_id"] for row in rows(*words)] == [mixed[place].event_id for place in places]

    def test_what_waits_is_shown_too_and_says_so(self, audit, url, path, events):
        SpillFile(Path(f"{path}-audit")).append([event(action="did.wait")])
        code, out, _ = audit("events", "--url", url, "--action", "did.wait", "--format", "csv")
        (row,) = csv.DictReader(io.StringIO(out))
        assert (code, row["action"], row["sequence"]) == (0, "did.wait", "")
        (line,) = [line for line in audit("events", "--url", url)[1].splitlines() if "did.wait" in line]
        assert line.rstrip().endswith("waiting")

    def test_a_table_has_the_columns_of_the_reports(self, audit, url, mixed):
        code, out, _ = audit("events", "--url", url, "--actor", "eve")
        assert code == 0
        for part in ("The newest events, at most 50", "resource", "sequence", "chart.read", "patient:42", "Rows: 1"):
            assert part in out

    def test_csv_keeps_stdout_for_the_rows(self, audit, url, mixed):
        code, out, err = audit("events", "--url", url, "--resource", "patient", "--format", "csv")
        assert (code, len(list(csv.DictReader(io.StringIO(out))))) == (0, 3)
        assert "Read from 5 sealed events" in err

    def test_that_it_was_read_is_an_event_and_not_a_row_of_its_own(self, rows, url, mixed):
        assert [row["action"] for row in rows("--limit", "1", "--action", "trail.read")] == []
        assert [row["action"] for row in rows("--limit", "1")] == ["trail.read"], "the one before"
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            second, first = trail.events(action="trail.read")
        assert first.details == {"report": "events", "action": "trail.read", "limit": 1, "since": None, "until": None}
        assert (second.actor_type, second.actor_id[:3]) == ("admin", "os:")

    @pytest.mark.parametrize("resource", ["", " ", ":42"])
    def test_an_empty_resource_is_refused(self, audit, url, events, resource):
        code, out, err = audit("events", "--resource", resource, "--url", url)
        assert (code, out, "--resource is empty" in err) == (2, "", True)

    def test_hostile_values_do_not_reach_the_terminal(self, audit, url, path, events):
        tamper(path, "UPDATE audit_events SET action = char(27) || '[2J' WHERE sequence = 4")
        code, out, _ = audit("events", "--url", url)
        assert (code, "\x1b" in out, "\\x1b[2J" in out) == (0, False, True)

    @pytest.mark.parametrize("words", [["events"], ["show", "5"]])
    def test_who_may_not_write_reads_all_the_same(self, url, path, events, words):
        assert as_nobody(read_only(path, lambda: main([*words, "--url", url]))) == 0
        path.parent.chmod(0o755)

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [("--limit=0", "--limit"), ("--outcome=lost", "'denied'"), ("--since=yesterday", "ISO 8601")],
    )
    def test_a_value_that_none_can_have_is_refused_with_those_that_can(self, audit, url, events, wrong, said):
        code, out, err = audit("events", wrong, "--url", url)
        assert (code, out, said in err) == (2, "", True)


class TestShow:
    def test_a_sealed_event_in_full_by_its_id_and_by_its_sequence(self, audit, url, events):
        code, out, _ = audit("show", events[4].event_id, "--url", url)
        shown = json.loads(out)
        assert (code, shown["sealed"], shown["sequence"], shown["actor_id"]) == (0, True, 5, "amina")
        assert (shown["timestamp"], shown["details"]) == ("2026-01-31T12:00:04.000000Z", {})
        assert shown["event_hash"] != shown["previous_hash"]
        assert audit("show", "5", "--url", url)[1] == out

    def test_one_that_waits_says_that_it_is_not_sealed(self, audit, url, path, events):
        waits = event(action="did.wait", details={"text": "\x1b[2J"})
        SpillFile(Path(f"{path}-audit")).append([waits])
        code, out, _ = audit("show", waits.event_id, "--url", url)
        shown = json.loads(out)
        assert (code, shown["sealed"], shown["sequence"], shown["action"]) == (0, False, None, "did.wait")
        assert ("\x1b" in out, shown["details"]) == (False, {"text": "\x1b[2J"})

    def test_one_that_is_not_there_is_refused_and_where_to_find_one_is_said(self, refused, url, events):
        for name in ("0190", "99", "x", str(2**63), "\udcff"):
            assert "`audit events` shows sequences" in refused("show", name, "--url", url)

    @pytest.mark.parametrize("change", ["details = '{'", "timestamp = 'noon'", "details = CAST(x'ff' AS TEXT)"])
    def test_one_that_was_tampered_with_beyond_reading_is_refused(self, refused, url, path, events, change):
        tamper(path, f"UPDATE audit_events SET {change} WHERE sequence = 5")
        assert "audit verify" in refused("show", "5", "--url", url)

    def test_what_was_put_in_the_place_of_text_is_shown_as_what_it_is(self, audit, url, path, events):
        tamper(path, "UPDATE audit_events SET actor_type = x'00' WHERE sequence = 5")
        assert json.loads(audit("show", "5", "--url", url)[1])["actor_type"] == "b'\\x00'"

    def test_that_it_was_shown_is_an_event(self, audit, url, events):
        audit("show", "5", "--url", url)
        with AuditTrail(url, create=False, lifecycle=False) as trail:
            newest = next(trail.events())
        assert (newest.action, newest.details) == ("trail.read", {"event": "5"})


class TestKeygen:
    def test_prints_a_key_as_audit_key_takes_it(self, audit, url, monkeypatch):
        code, out, err = audit("keygen")
        assert (code, len(base64.b64decode(out))) == (0, 32)
        assert "AUDIT_KEY" in err
        monkeypatch.setenv("AUDIT_KEY", out.strip())
        assert audit("init", "--url", url)[0] == 0

    def test_no_two_are_the_same(self, audit):
        assert audit("keygen")[1] != audit("keygen")[1]

    def test_the_verifier_key_of_the_present_one(self, audit, url, events):
        assert audit("keygen", "--verifier", "--url", url)[1].strip() == verifier_key()
        assert audit("keygen", "--verifier", "--origin", ORIGIN)[1].strip() == verifier_key()

    def test_without_a_key_there_is_no_verifier_key(self, refused, monkeypatch):
        monkeypatch.delenv("AUDIT_KEY")
        assert "audit keygen" in refused("keygen", "--verifier", "--origin", ORIGIN)


READING = [("status",), ("verify",), ("prove", "x"), ("checkpoint",), ("seal",), ("report", "access", "patient:42"),
           ("report", "privileged"), ("report", "failures"), ("report", "subject", "--actor", "x"), ("events",),
           ("show", "x"), ("keygen", "--verifier")]  # fmt: skip


class TestOneSentenceWithTheCure:
    @pytest.mark.parametrize("words", [*READING, ("init",)])
    def test_without_a_url_it_is_asked_for(self, refused, words):
        assert "--url" in refused(*words)

    @pytest.mark.parametrize("words", READING)
    def test_a_database_that_is_not_there_is_not_made(self, refused, tmp_path, words):
        assert "audit init" in refused(*words, "--url", f"sqlite:///{tmp_path}/missing.db")
        assert not (tmp_path / "missing.db").exists()

    @pytest.mark.parametrize("words", READING)
    def test_a_database_without_the_tables(self, refused, path, url, words):
        sqlite3.connect(path).execute("CREATE TABLE patients (id)").connection.close()
        before = path.read_bytes()
        assert "audit init" in refused(*words, "--url", url)
        assert path.read_bytes() == before

    @pytest.mark.parametrize("words", [*READING, ("init",)])
    def test_a_file_that_is_no_database(self, refused, path, url, words):
        path.write_text("no database " * 100)
        assert "is it a SQLite database?" in refused(*words, "--url", url)

    @pytest.mark.parametrize("words", [*READING, ("init",)])
    def test_a_url_of_nothing_we_know(self, refused, words):
        assert "sqlite:///" in refused(*words, "--url", "mysql://clinic")

    def test_a_password_in_the_url_is_not_shown(self, refused):
        assert "hunter2" not in refused("status", "--url", "mysql://clinic:hunter2@db/x")

    def test_a_key_that_is_none(self, refused, url, events, monkeypatch):
        monkeypatch.setenv("AUDIT_KEY", "/no/such/key")
        assert "AUDIT_KEY" in refused("seal", "--url", url)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
    @pytest.mark.parametrize("words", READING[:-1])
    def test_a_file_that_this_user_may_not_read_is_said(self, url, path, events, words):
        run = read_only(path, lambda: main([*words, "--url", url]))
        path.chmod(0o600)
        assert as_nobody(run) == 2
        path.parent.chmod(0o755)

    @pytest.mark.parametrize("missing", ["typer", "rich"])
    def test_a_missing_extra(self, missing):
        program = f"import sys; sys.modules[{missing!r}] = None; from audit_core.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", program, "status"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stderr == f'The command line needs {missing}: pip install "audit-core[cli]".\n'


class TestWhereTheTrailIs:
    def test_the_url_may_come_from_the_environment(self, audit, url, events, monkeypatch):
        monkeypatch.setenv("AUDIT_URL", url)
        assert audit("status")[0] == 0

    def test_or_before_the_command(self, audit, url, events):
        assert audit("--url", url, "status")[0] == 0

    def test_what_is_said_after_the_command_goes_first(self, audit, url, events, monkeypatch):
        monkeypatch.setenv("AUDIT_URL", "sqlite:////nowhere.db")
        assert audit("--url", "sqlite:////elsewhere.db", "status", "--url", url)[0] == 0

    @pytest.mark.parametrize("words", [("verify", "--json"), ("report", "privileged"), ("init", "--sql")])
    def test_what_is_typed_before_the_command_goes_before_the_environment(self, audit, url, events, monkeypatch, words):
        """To judge another trail than the one that was asked for would be the worst of answers."""
        right = audit(*words, "--url", url)
        monkeypatch.setenv("AUDIT_URL", "sqlite:////nowhere.db")
        assert audit("--url", url, *words)[0] == right[0]
        monkeypatch.setenv("AUDIT_URL", "postgresql://localhost/other")
        if words[-1] == "--sql":
            assert audit("--url", url, *words)[1] == right[1]

    def test_a_given_trail_needs_no_url_and_stays_open(self, audit):
        with AuditTrail("memory:") as trail:
            assert audit("init", trail=trail)[0] == 0
            event_id = trail.record("a.b", resource="patient:42").event_id
            trail.flush()
            for words in (
                ("status",),
                ("prove", event_id),
                ("report", "access", "patient:42"),
                ("seal",),
                ("events",),
                ("show", "0"),
            ):
                assert audit(*words, trail=trail)[0] == 0
            assert audit("verify", trail=trail)[0] == 3
            assert trail.record("still.open")

    @pytest.mark.usefixtures("events")
    @pytest.mark.parametrize("words", [
        ("verify",), ("status",), ("events",), ("report", "privileged"), ("checkpoint",), ("init", "--sql"),
    ])  # fmt: skip
    def test_a_given_trail_is_not_judged_in_the_place_of_another(self, refused, url, tmp_path, words, monkeypatch):
        with AuditTrail(f"sqlite:///{tmp_path}/project.db") as trail:
            for asked in ((*words, "--url", url), ("--url", url, *words)):
                assert "use `audit --url URL`" in refused(*asked, trail=trail)
            monkeypatch.setenv("AUDIT_URL", url)
            assert "AUDIT_URL names another one" in refused(*words, trail=trail)

    def test_nor_is_it_checked_in_the_place_of_another(self, audit, refused, url, monkeypatch):
        for asked in (("check", "--url", url), ("--url", url, "check"), ("--outbox", url, "check")):
            assert "use `audit --url URL`" in refused(*asked, gaps=list)
        monkeypatch.setenv("AUDIT_URL", url)
        assert audit("check", gaps=list)[0] == 0
        assert "AUDIT_URL" not in audit("check", "--help", gaps=list)[1]

    def test_nor_are_its_outboxes_exchanged(self, refused, url, events):
        with AuditTrail(url) as trail:
            assert "--outbox names another" in refused("--outbox", "sqlite:///other.db", "status", trail=trail)

    def test_a_given_trail_may_be_named_by_its_own_url(self, audit, url, path, monkeypatch):
        monkeypatch.chdir(path.parent)
        with AuditTrail(url) as trail:
            assert audit("status", "--url", f"sqlite:///{path.name}", trail=trail)[0] == 0

    @pytest.mark.parametrize("words", [(), ("verify",), ("report", "access")])
    def test_help_offers_another_trail_only_where_none_is_given(self, audit, words):
        with AuditTrail("memory:") as trail:
            shown = audit(*words, "--help", trail=trail)[1]
        assert ("AUDIT_URL" in shown, "--outbox" in shown) == (False, False)
        assert "AUDIT_URL" in audit(*words, "--help")[1]

    def test_further_outboxes_are_drained(self, audit, url, events, tmp_path):
        other = f"sqlite:///{tmp_path}/other.db"
        with AuditTrail(other, lifecycle=False) as trail, trail.store.transaction() as connection:
            trail.outboxes[0].put([event(action="from.elsewhere")], connection)
        assert json.loads(audit("--outbox", other, "status", "--url", url, "--json")[1])["waiting"] == 1
        assert audit("--outbox", other, "seal", "--url", url)[0] == 0
        assert "from.elsewhere" in actions(url)

    def test_an_outbox_that_is_not_there_is_not_made(self, refused, url, events, tmp_path):
        missing = tmp_path / "missing.db"
        assert "missing.db" in refused("--outbox", f"sqlite:///{missing}", "status", "--url", url)
        assert not missing.exists()


class TestInAProcessOfItsOwn:
    def test_it_is_a_module(self, url, events):
        process = start("verify", "--url", url, "--json")
        out, err = process.communicate(timeout=30)
        assert (process.returncode, json.loads(out)["result"], err) == (3, "unanchored", "")

    def test_without_a_terminal_nothing_is_coloured(self, url, path, events):
        tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 4")
        out, err = start("verify", "--url", url).communicate(timeout=30)
        assert "\x1b" not in out + err

    @pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
    def test_on_a_terminal_colour_unless_it_is_not_wanted(self, url, events, no_color, coloured):
        said = on_a_terminal("verify", "--url", url, NO_COLOR=no_color, TERM="xterm-256color")
        assert "UNANCHORED" in said
        assert ("\x1b[1;33m" in said) is coloured

    def test_keys_and_notes_are_utf_8_in_any_locale(self, url, events):
        out, _ = start("checkpoint", "--url", url, PYTHONIOENCODING="ascii").communicate(timeout=30)
        assert f"\n— {ORIGIN} " in out

    @pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
    def test_a_closed_stream_does_not_make_a_sound_trail_failed(self, url, events, closed):
        command = shlex.join([sys.executable, "-m", "audit_core.cli", "verify", "--url", url])
        done = subprocess.run(["sh", "-c", f"{command} {closed}"], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 3

    def test_an_error_of_ours_does_not_make_a_sound_trail_failed(self, url, events, monkeypatch, capsys):
        def fall(*_, **__):
            raise RuntimeError("a bug")

        monkeypatch.setattr("audit_core.trail.AuditTrail.verify", fall)
        assert main(["verify", "--url", url]) == 2
        assert "a bug" in capsys.readouterr().err

    def test_ctrl_c_ends_it_without_a_traceback(self, url, events, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("audit_core.trail.AuditTrail.status", interrupt)
        assert main(["status", "--url", url]) == 130


def on_a_terminal(*words, **environment) -> str:
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "audit_core.cli", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux says so when the last process has closed it
            break
        if not part:
            break
        said += part
    os.close(master)
    process.wait(30)
    return said.decode()


def test_main_never_exits_the_process(audit):
    assert audit("--help")[0] == 0
    assert audit()[0] in {0, 2}
    assert generate_key() != generate_key()


def test_the_version_is_printed(audit):
    assert audit("--version") == (0, f"audit-core {version('audit-core')}\n", "")


def test_it_works_in_a_thread(url, events):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["seal", "--url", url])))
    thread.start()
    thread.join(30)
    assert codes == [0]
