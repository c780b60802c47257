"""`audit key` and its files: whatever moment it is killed in, the trail has one key, and the command is run again."""

import json
import os
from pathlib import Path

import pytest

from audit_core import AuditTrail
from audit_core.chain.statements import rotate
from audit_core.cli import main
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner, generate_key
from audit_core.process.threads import wait_until
from tests import warm
from tests.attacks.attacker import AT
from tests.postgres.server import new_database

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


@pytest.fixture
def url(path, state):
    """A trail that has begun."""
    url = f"sqlite:///{path}"
    record(url)
    return url


def record(url):
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("chart.read")
        trail.flush()
        return str(trail.chain.key)


def verify(url, key=None):
    with AuditTrail(url, lifecycle=False) as trail:
        return trail.verify(VerifierKey.parse(key) if key else None)


def rotations(url):
    with AuditTrail(url, lifecycle=False) as trail:
        return [row[AT["action"]] for row in trail.store.rows()].count("key.rotated")


def test_a_rotation_puts_the_new_key_in_place_and_both_keys_check_the_trail(url, state, audit):
    old = record(url)
    code, out, err = audit("key", "rotate")
    new = out.removeprefix("verifier key  ").strip()
    assert (code, new != old) == (0, True)
    assert "Hand the new verifier key to the auditor" in err
    names = sorted(one.name for one in state.glob("signing.key*"))
    assert (len(names), names[0], ".next" in "".join(names)) == (2, "signing.key", False)
    assert all(one.stat().st_mode & 0o077 == 0 for one in state.glob("signing.key*"))
    assert record(url) == new
    for key in (old, new, None):
        assert verify(url, key).result is Result.UNANCHORED
    status = json.loads(audit("status", "--json")[1])
    assert (status["key"], status["key_is_ours"], status["trouble"]) == (new, True, None)
    assert audit("keygen", "--verifier")[1].strip() == new


KILLED = """
import os, signal, sys
import audit_core.key_files, audit_core.cli.keys as keys
from audit_core.chain import AuditChain
from audit_core.chain.statements import rotate
from audit_core.cli import main
from audit_core.stores.sqlite import SqliteStore

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

where = sys.argv[1]
if where == "before the event":
    AuditChain.state = die
elif where == "before the commit":
    append = SqliteStore.append
    def appended(self, *args):
        append(self, *args)
        die()
    SqliteStore.append = appended
elif where == "before the key is in place":
    keys.put_in_place = die
main(["key", "rotate", "--url", sys.argv[2]])
"""


def kill_a_rotation(url, moment):
    done = warm.run(["-c", KILLED, moment, url], ("tests.all_commands", "audit_core.stores.sqlite"), cwd=ROOT)
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize(
    ("moment", "done"),
    [
        ("before the event", 0),
        ("before the commit", 0),
        ("before the key is in place", 1),
    ],
)
def test_a_rotation_that_was_killed_leaves_one_key_and_is_finished_by_running_it_again(url, state, audit, moment, done):
    old = record(url)
    kill_a_rotation(url, moment)
    assert rotations(url) == done
    code, out, _ = audit("key", "rotate")
    new = out.removeprefix("verifier key  ").strip()
    assert (code, new != old, rotations(url)) == (0, True, 1)
    assert not (state / "signing.key.next").exists()
    assert record(url) == new
    assert verify(url, old).result is Result.UNANCHORED


def test_whoever_seals_next_finishes_a_rotation_whose_event_is_committed(url, state, caplog):
    kill_a_rotation(url, "before the key is in place")
    old = (state / "signing.key").read_bytes()
    record(url)
    assert (state / "signing.key").read_bytes() != old
    assert not (state / "signing.key.next").exists()
    assert [one.read_bytes() for one in state.glob("signing.key.*")] == [old]
    assert "is the new one; the one before lies in" in caplog.text


def test_a_rotation_that_was_not_finished_is_told_and_seals_on_with_the_old_key(url, state, audit):
    old = record(url)
    kill_a_rotation(url, "before the event")
    code, _, err = audit("status")
    assert (code, "was begun and not finished" in err) == (0, True)
    assert record(url) == old
    assert audit("key", "rotate")[0] == 0
    assert "not finished" not in audit("status")[2]


def test_a_running_process_picks_up_the_new_key_from_its_file(url, state, audit):
    with AuditTrail(url) as trail:
        trail.record("chart.read")
        trail.flush()
        code, out, _ = audit("key", "rotate")
        assert code == 0
        trail.record("chart.read")
        trail.flush()
        assert trail.status()["trouble"] is None
        assert f"verifier key  {trail.chain.key}\n" == out
    assert verify(url).result is Result.UNANCHORED


def test_a_running_process_on_postgres_picks_it_up_too(state, capsys):
    url = new_database()
    with AuditTrail(url) as trail:
        trail.record("chart.read")
        trail.flush()
        assert main(["key", "rotate", "--url", url]) == 0
        trail.record("chart.read")
        trail.flush()
        assert trail.status()["trouble"] is None
        assert len(trail.chain.keyring.keys) == 2
        assert trail.verify().result is Result.UNANCHORED


def test_the_doctor_tells_of_a_rotation_that_was_not_finished(state, capsys):
    url = new_database()
    assert main(["init", "--url", url, "--roles"]) == 0
    (state / "signing.key.next").write_text(generate_key())
    capsys.readouterr()
    main(["doctor", "--url", url])
    assert "note  a rotation was begun and not finished" in capsys.readouterr().out


def test_another_host_with_the_old_key_stops_and_loses_nothing(url, state, tmp_path, monkeypatch, audit):
    monkeypatch.setenv("AUDIT_KEY", (state / "signing.key").read_text().strip())
    with AuditTrail(url, lifecycle=False) as host:
        monkeypatch.delenv("AUDIT_KEY")
        host.record("chart.read")
        host.flush()
        monkeypatch.setenv("AUDIT_KEY", (state / "signing.key").read_text().strip())
        host.record("chart.read")
        host.flush()
        assert main(["key", "rotate", "--url", url, "--new", str(tmp_path / "new.key")]) == 0
        host.record("chart.read")
        assert "was replaced by event 4 (`audit key rotate`): give it the new one" in host.status()["trouble"]
        assert len(list(host.waiting())) == 1
    monkeypatch.setenv("AUDIT_KEY", str(tmp_path / "new.key"))
    record(url)
    with AuditTrail(url, lifecycle=False) as host:
        assert list(host.waiting()) == []
        assert host.verify().result is Result.UNANCHORED


def test_another_trail_of_the_same_user_goes_on_with_the_key_that_it_has(url, state, tmp_path, audit):
    other = f"sqlite:///{tmp_path}/other.db"
    before = record(other)
    assert audit("key", "rotate")[0] == 0
    assert record(other) == before
    assert verify(other, before).result is Result.UNANCHORED
    assert main(["key", "rotate", "--url", other]) == 0
    for each in (url, other):
        record(each)
        assert verify(each).result is Result.UNANCHORED
        assert rotations(each) == 1


def test_the_status_names_the_file_in_which_the_key_of_another_trail_was_found(url, state, tmp_path, audit, capsys):
    other = f"sqlite:///{tmp_path}/other.db"
    old = record(other)
    err = audit("key", "rotate")[2]
    (earlier,) = (one for one in state.glob("signing.key.*"))
    assert main(["status", "--json", "--url", other]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["key"], status["key_is_ours"], status["key_place"]) == (old, True, str(earlier))
    assert json.loads(audit("status", "--json")[1])["key_place"] == str(state / "signing.key")
    assert f"The key before, {verifier(url, old)}, lies in {earlier}" in err


def verifier(url, other):
    """The verifier key that a key of another trail has in this one."""
    with AuditTrail(url, lifecycle=False) as trail:
        return VerifierKey(str(trail.chain.origin), VerifierKey.parse(other).public_key)


def test_a_key_that_is_in_the_environment_is_replaced_by_one_in_a_file(url, state, tmp_path, monkeypatch, audit):
    monkeypatch.setenv("AUDIT_KEY", (state / "signing.key").read_text().strip())
    code, _, err = audit("key", "rotate")
    assert (code, "with --new" in err) == (2, True)
    code, _, err = audit("key", "rotate", "--new", tmp_path / "new.key")
    assert (code, f"Set AUDIT_KEY to {tmp_path}/new.key now" in err) == (0, True)
    assert audit("key", "rotate", "--new", tmp_path / "new.key")[0] == 0, "again, as if it had been interrupted"
    assert rotations(url) == 1
    monkeypatch.setenv("AUDIT_KEY", str(tmp_path / "new.key"))
    record(url)
    assert verify(url).result is Result.UNANCHORED


def test_a_key_that_was_lost_is_replaced_and_auditors_are_told_what_that_means(url, state, audit, tmp_path):
    old = record(url)
    code, _, err = audit("key", "rotate", "--lost")
    assert (code, "is here, and not lost" in err) == (2, True)
    (state / "signing.key").unlink()
    code, out, _ = audit("key", "rotate")
    assert code == 2, "without the key only --lost will do"
    assert not (state / "signing.key").exists()
    code, out, _ = audit("key", "rotate", "--lost")
    new = out.removeprefix("verifier key  ").strip()
    assert (code, record(url)) == (0, new)
    code, out, _ = audit("verify", "--key", old)
    assert code == 1
    assert "is signed with a key that the one before did not name" in out
    assert "ask the operator, and pin the new key" in out
    assert "goes on under a key that yours does not lead to" in out
    code, out, _ = audit("verify", "--key", new)
    assert (code, "A key was lost" in out) == (3, True)


def test_a_stolen_key_is_revoked_and_each_verdict_says_what_nobody_vouches_for(url, state, audit, tmp_path):
    old = record(url)
    folder = f"file://{tmp_path}/anchor"
    assert audit("anchor", "--anchor", folder)[0] == 0
    words = ["key", "revoke", old, "--since", "2026-01-31T10:00Z", "--reason", "laptop stolen"]
    code, _, err = audit(*words)
    assert (code, "audit key rotate` first" in err) == (2, True)
    assert audit("key", "rotate")[0] == 0
    code, out, _ = audit(*words)
    assert (code, "is revoked" in out) == (0, True)
    code, out, _ = audit("verify", "--anchor", folder)
    assert code == 0
    assert "Warning: Nobody vouches for some events from 0 on" in out
    assert "laptop stolen" in out
    assert "only as good as the word of whoever had it" in out


@pytest.mark.parametrize("reason", ["x" * 70_000, "caf\udce9 \0"], ids=["too long", "no UTF-8"])
def test_a_reason_is_cut_and_cleaned_as_every_text_is_before_it_is_signed(url, state, audit, reason):
    old = record(url)
    assert audit("key", "rotate")[0] == 0
    assert audit("key", "revoke", old, "--since", "2026-01-31T10:00Z", "--reason", reason)[0] == 0
    (warning,) = verify(url).warnings
    assert warning.kind == "key.revoked"
    assert len(warning.got) < 1000


def test_a_backup_from_before_a_rotation_goes_on_with_the_key_beside_and_takes_the_new_one_again(
    url, path, state, audit, tmp_path
):
    backup, folder = path.read_bytes(), f"file://{tmp_path}/anchor"
    assert audit("key", "rotate")[0] == 0
    new = record(url)
    assert audit("anchor", "--anchor", folder)[0] == 0
    path.write_bytes(backup)
    with AuditTrail(url, anchors=[folder]) as trail:
        trail.record("chart.read")
        assert wait_until(lambda: "acknowledge-restore" in str(trail.chain.objection()), 20)
    words = ["--anchor", folder, "--reason", "disk failure"]
    assert audit("acknowledge-restore", *words)[0] == 0
    record(url)
    assert audit("key", "rotate", "--new", state / "signing.key")[0] == 0
    assert record(url) == new
    code, out, _ = audit("verify", "--anchor", folder, "--key", new)
    assert (code, "A backup was put back" in out) == (3, True), out
    code, _, err = audit("export", "--bundle", tmp_path / "after.zip", "--anchor", folder)
    assert (code, main(["check-bundle", str(tmp_path / "after.zip"), "--key", new])) == (0, 0), err


def test_a_signer_of_ones_own_is_replaced_by_the_programs_own_call(path, state):
    first, second = LocalSigner(os.urandom(32)), LocalSigner(os.urandom(32))
    with AuditTrail(f"sqlite:///{path}", signer=first) as trail:
        trail.record("chart.read")
        key = trail.rotate_key(second)
        trail.record("chart.read")
        trail.flush()
        assert (trail.chain.key, key.public_key) == (key, second.public_key)
        with pytest.raises(ConfigurationError, match="is, or was, a key of this trail"):
            trail.rotate_key(first)
    with AuditTrail(f"sqlite:///{path}", signer=first) as trail:
        trail.record("chart.read")
        assert "was replaced by event" in trail.status()["trouble"]
    with AuditTrail(f"sqlite:///{path}", signer=second) as trail:
        trail.record("chart.read")
        trail.flush()
        assert trail.verify().result is Result.UNANCHORED


def test_a_proof_from_after_a_rotation_is_checked_with_the_key_from_before_it(url, state, audit, tmp_path):
    old = record(url)
    assert audit("key", "rotate")[0] == 0
    new, file, bare = record(url), tmp_path / "proof.json", tmp_path / "bare.json"
    assert audit("prove", "1", "--out", file)[0] == 0
    proof = json.loads(file.read_text())
    bare.write_text(json.dumps({name: value for name, value in proof.items() if name != "rotations"}))
    given = ((file, old), (file, new), (bare, new), (bare, old))
    assert [main(["check-proof", str(one), "--key", key]) for one, key in given] == [0, 0, 0, 1]


def test_right_after_a_rotation_proofs_bundles_and_checkpoints_are_for_whoever_has_the_new_key(
    url, state, audit, tmp_path
):
    old = record(url)
    new = audit("key", "rotate")[1].removeprefix("verifier key  ").strip()
    proof, bundle = tmp_path / "proof.json", tmp_path / "bundle.zip"
    assert audit("prove", "1", "--out", proof)[0] == 0
    assert audit("export", "--bundle", bundle)[0] == 0
    for key in (old, new):
        assert main(["check-proof", str(proof), "--key", key]) == 0
        assert main(["check-bundle", str(bundle), "--key", key]) == 0


def test_a_proof_from_before_a_rotation_is_a_question_for_whoever_has_the_new_key(url, state, audit, tmp_path, capsys):
    record(url)
    new = LocalSigner(os.urandom(32))
    with AuditTrail(url, lifecycle=False) as trail, trail.store.transaction(patient=True) as connection:
        key = rotate(trail.chain, new, trail.event("key.rotated"), connection)
    assert audit("prove", "1", "--out", tmp_path / "proof.json")[0] == 0
    assert main(["check-proof", str(tmp_path / "proof.json"), "--key", str(key)]) == 2
    assert "was signed before the key that you gave came to sign" in capsys.readouterr().err


def test_a_rotation_says_who_made_it(url, state, audit):
    audit("key", "rotate")
    with AuditTrail(url, lifecycle=False) as trail:
        (event,) = trail.events(action="key.rotated")
        assert (event.actor_id[:3], event.actor_type, event.resource_id) == ("os:", "admin", trail.chain.origin)
        assert set(event.details["says"]) == {"old", "new"}


def test_a_new_key_is_no_key_that_the_trail_had(url, state, tmp_path, audit):
    (tmp_path / "new.key").write_text((state / "signing.key").read_text())
    audit("key", "rotate")
    code, _, err = audit("key", "rotate", "--new", tmp_path / "new.key")
    assert (code, "is, or was, a key of this trail" in err) == (2, True)
    (tmp_path / "other.key").write_text(generate_key())
    assert audit("key", "rotate", "--new", tmp_path / "other.key")[0] == 0
