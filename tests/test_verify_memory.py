"""`audit verify --state`, `--follow`, and who is told when it fails."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.cli.alarm import Alarm
from audit_core.cli.memory import usual_place
from audit_core.integrity.verify import Finding
from audit_core.process.threads import wait_until
from tests.anchors.servers import serving
from tests.reports.trails import ORIGIN, OURS, about, seal, tamper

EDIT = "UPDATE audit_events SET actor_id = 'nobody' WHERE sequence = 3"


@pytest.fixture
def path(tmp_path, state):
    path = tmp_path / "clinic.db"
    with AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=OURS, lifecycle=False) as trail:
        seal(trail, [about("42", n) for n in range(5)])
    return path


def grow(path):
    with AuditTrail(f"sqlite:///{path}", signer=OURS, lifecycle=False) as trail:
        seal(trail, [about("42", 9)])


def test_the_second_verification_goes_on_from_the_first_and_says_so(audit, path, tmp_path):
    kept = tmp_path / "verified.json"
    assert audit("verify", "--state", kept)[0] == 3
    assert kept.stat().st_mode & 0o077 == 0
    grow(path)
    code, out, _ = audit("verify", "--state", kept)
    assert code == 0
    assert "vouches for 6" in out
    assert "The 6 events that were verified before were not looked at again" in out
    found = json.loads(audit("verify", "--state", kept, "--json")[1])
    assert (found["start"], found["size"]) == (7, 7)
    code, out, _ = audit("verify", "--state", kept, "--full")
    assert (code, "not looked at again" in out) == (0, False)


def test_a_backup_that_was_put_back_is_found_and_what_is_remembered_stays(audit, path, tmp_path):
    kept, backup = tmp_path / "verified.json", path.read_bytes()
    grow(path)
    audit("verify", "--state", kept)
    before = kept.read_bytes()
    path.write_bytes(backup)
    code, out, _ = audit("verify", "--state", kept)
    assert code == 1
    assert "a known checkpoint that whoever verified it before keeps" in out
    assert kept.read_bytes() == before


def test_a_file_that_is_not_ours_is_refused_with_the_cure(audit, tmp_path):
    kept = tmp_path / "verified.json"
    for text in ("", "{}", "\x00", '{"checkpoint": 5}', "[" * 100_000):
        kept.write_text(text)
        code, out, err = audit("verify", "--state", kept)
        assert (code, out) == (2, "")
        assert "remove it, to begin with all events" in err


def test_a_file_whose_checkpoint_nobody_has_signed_is_refused_and_stays_as_it_is(audit, tmp_path):
    kept = tmp_path / "verified.json"
    assert audit("verify", "--state", kept)[0] == 3
    said = json.loads(kept.read_text())
    text, signed = said["checkpoint"].rsplit("\n\n", 1)
    name, signature = signed.rsplit(" ", 1)
    for line in (f"{name} {signature[:8]}{'A' * 80}{signature[88:]}", "\u2014 someone AAAAAAAAAAAAAAAAAAAA\n"):
        kept.write_text(changed := json.dumps({**said, "checkpoint": f"{text}\n\n{line}"}))
        code, out, err = audit("verify", "--state", kept)
        assert (code, out, kept.read_text()) == (2, "", changed)
        assert "somebody has changed it. Remove its file, to begin with all events" in err


def writes(place):
    return f"{sys.executable} -c \"import sys; open({str(place)!r}, 'a').write(sys.stdin.read() + chr(10))\""


def test_a_failure_runs_a_command_and_posts_to_an_address_and_success_does_neither(audit, path, tmp_path):
    place, posted = tmp_path / "told", []

    def answer(_, body):
        posted.append(json.loads(body))
        return 204, b""

    with serving(answer) as server:
        words = ("verify", "--on-failure", writes(place), "--webhook", f"{server.url}/alarm")
        assert audit(*words)[0] == 3
        assert (place.exists(), posted) == (False, [])
        tamper(path, EDIT)
        assert audit(*words)[0] == 1
    (told,) = map(json.loads, place.read_text().splitlines())
    assert told == posted[0]
    assert (told["result"], [one["sequence"] for one in told["findings"]]) == ("failed", [3])


def test_a_trail_that_cannot_be_verified_is_told_too(audit, path, tmp_path):
    place = tmp_path / "told"
    path.write_bytes(b"no database at all" * 100)
    assert audit("verify", "--on-failure", writes(place))[0] == 2
    assert json.loads(place.read_text())["result"] == "unknown"


@pytest.mark.parametrize("how", [("--on-failure", "/no/such/program"), ("--webhook", "http://127.0.0.1:1/")])
def test_that_nobody_could_be_told_is_said_and_changes_no_verdict(audit, path, how):
    tamper(path, EDIT)
    code, _, err = audit("verify", *how)
    assert code == 1
    assert how[0] in err


def test_of_a_webhook_that_is_down_only_the_host_is_told(audit, path):
    tamper(path, EDIT)
    err = audit("verify", "--webhook", "http://127.0.0.1:1/services/T0SECRET")[2]
    assert "http://127.0.0.1:1 does not answer" in err
    assert "T0SECRET" not in err + audit("verify", "--webhook", "http://ada:T0SECRET@127.0.0.1:1/")[2]


def test_whoever_could_not_be_told_is_told_the_next_time_and_then_no_more():
    states, posted = iter([503, 204]), []

    def answer(_, body):
        posted.append(json.loads(body)["result"])
        return next(states), b""

    with serving(answer) as server:
        alarm = Alarm(None, f"{server.url}/alarm")
        for minute in range(4):
            finding = Finding("silent", None, f"something anchored after 10:0{minute}", "none")
            alarm.ring({"result": "failed", "findings": [asdict(finding)]})
    assert posted == ["failed", "failed"]


def test_following_goes_on_and_rings_whatever_goes_wrong(tmp_path, path, monkeypatch):
    told, rounds = tmp_path / "told", []

    def verify(*_, **__):
        rounds.append(1)
        if len(rounds) > 1:
            signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("an error that nobody has thought of")

    monkeypatch.setattr(AuditTrail, "verify", verify)
    words = ("verify", "--url", f"sqlite:///{path}", "--follow", "--every", "0.1", "--on-failure", writes(told))
    assert main([*words]) == 2
    assert len(rounds) == 2
    (line,) = told.read_text().splitlines()
    assert "that nobody has thought of" in json.loads(line)["reason"]


def test_an_address_that_is_none_is_refused(audit):
    code, out, err = audit("verify", "--webhook", "mailto:ada@example.com")
    assert (code, out) == (2, "")
    assert "--webhook is an http or https address" in err


def test_following_verifies_again_and_again_and_tells_of_a_failure_once(path, tmp_path):
    told = tmp_path / "told"
    words = ["verify", "--url", f"sqlite:///{path}", "--follow", "--every", "0.2", "--on-failure", writes(told)]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "audit_core.cli", *words], cwd=Path(__file__).parent.parent, env=os.environ,
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def said(text):
        return (tmp_path / "out").read_text().count(text)

    try:
        assert wait_until(lambda: said("UNANCHORED") == 1 and said("OK:") >= 1, 60)
        backup = path.read_bytes()
        grow(path)
        assert wait_until(lambda: said("vouches for 7") >= 1, 60)
        path.write_bytes(backup)
        assert wait_until(lambda: said("FAILED.") >= 3, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
    finally:
        process.kill()
    assert len(told.read_text().splitlines()) == 1


def test_what_is_remembered_of_two_files_of_one_name_lies_apart(tmp_path, state, monkeypatch):
    places = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        places |= {usual_place("sqlite:///clinic.db"), usual_place(f"sqlite:///{tmp_path}/{folder}/clinic.db")}
    assert len(places) == 2
