"""Tampering is answered with FAILED, exit code 1 and findings; what may be a mistake of the caller with a sentence."""

import json
import sqlite3
from contextlib import closing

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.cli import main
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.keys import LocalSigner
from tests.attacks.conftest import OURS
from tests.reports.trails import ORIGIN, about, as_nobody, let_everybody_in, seal, tamper

THEIRS = b"t" * 32
OUR_KEY, THEIR_KEY = (str(VerifierKey(ORIGIN, LocalSigner(seed).public_key)) for seed in (OURS, THEIRS))


def rewrite(path, origin=ORIGIN):
    """Everything anew, with a key of his own."""
    path.unlink()
    with AuditTrail(f"sqlite:///{path}", origin=origin, signer=LocalSigner(THEIRS), lifecycle=False) as forged:
        seal(forged, [about("42", n) for n in range(12)])


def found_kinds(out):
    return {finding["kind"] for finding in json.loads(out)["findings"]}


@pytest.mark.parametrize("origin", [ORIGIN, "example.com/other"])
def test_a_trail_rewritten_with_another_key_fails_where_a_checkpoint_was_kept_elsewhere(audit, path, kept, origin):
    rewrite(path, origin)
    code, out, _ = audit("verify", "--json", "--checkpoint", kept)
    assert (code, found_kinds(out)) == (1, {"known"})


def test_another_trail_in_its_place_is_no_mistake_of_whoever_has_kept_a_checkpoint(audit, path, kept):
    rewrite(path, "example.com/other")
    assert audit("verify", "--key", OUR_KEY)[0] == 2, "he may have named another database"
    code, out, _ = audit("verify", "--key", OUR_KEY, "--checkpoint", kept)
    assert (code, "FAILED." in out.splitlines()) == (1, True)


def test_a_trail_rewritten_with_another_key_is_no_sound_one_without_a_checkpoint(audit, path):
    rewrite(path)
    code, out, err = audit("verify")
    assert (code, out) == (2, "")
    assert "not signed with this process's key" in err
    assert THEIR_KEY in err


def test_a_checkpoint_of_another_trail_of_ours_is_a_mistake_and_no_failure(audit, path, tmp_path):
    other = f"sqlite:///{tmp_path}/other.db"
    assert main(["init", "--url", other, "--origin", "example.com/other"]) == 0
    assert main(["checkpoint", "--url", other, "--out", str(tmp_path / "kept")]) == 0
    code, out, err = audit("verify", "--checkpoint", tmp_path / "kept")
    assert (code, out) == (2, "")
    assert "example.com/other" in err


def test_whoever_may_only_read_gets_the_same_answers(audit, path, kept):
    main(["verify", "--url", f"sqlite:///{path}"])  # imports what the other user may not even read
    rewrite(path)
    answers = [audit("verify")[0], audit("verify", "--checkpoint", kept)[0]]
    let_everybody_in(path)
    path.chmod(0o444)
    url = f"sqlite:///{path}"
    assert as_nobody(lambda: main(["verify", "--url", url])) == answers[0] == 2
    assert as_nobody(lambda: main(["verify", "--url", url, "--checkpoint", str(kept)])) == answers[1] == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ORIGIN, "example.com/other"),  # origin and key
        (f'"origin":"{ORIGIN}"', '"origin":"a b"'),
        (f'"origin":"{ORIGIN}"', '"origin":5'),
        (OUR_KEY, THEIR_KEY),
        (OUR_KEY, "no key"),
        (f'"key":"{OUR_KEY}"', '"key":null'),
        ('"nonce":"', '"nonce":"0'),
    ],
)
def test_a_first_record_that_was_changed_fails_whatever_it_names_now(audit, path, kept, old, new):
    tamper(path, f"UPDATE audit_events SET details = replace(details, '{old}', '{new}') WHERE sequence = 0")
    for more in ((), ("--checkpoint", kept), ("--key", OUR_KEY), ("--key", OUR_KEY, "--checkpoint", kept)):
        code, out, _ = audit("verify", "--json", *more)
        assert code == 1
        assert found_kinds(out) & {"edited", "key"}


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE audit_events SET details = replace(details, '{ORIGIN}', 'example.com/other') WHERE sequence = 0",
        "UPDATE audit_events SET details = '{}' WHERE sequence = 0",
        "UPDATE audit_events SET details = x'00' WHERE sequence = 0",
        "UPDATE audit_events SET source = 'x' WHERE sequence = 0",
        "UPDATE audit_events SET source = CAST(x'ff80' AS TEXT) WHERE sequence = 0",
        "DELETE FROM audit_events WHERE sequence = 0",
    ],
)
def test_sealing_calls_a_changed_first_record_by_its_name_and_not_a_wrong_key(audit, path, statement):
    tamper(path, statement)
    with AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail:
        with pytest.raises(IntegrityError, match="audit verify"), trail.store.transaction() as connection:
            trail.chain.append([about("42")], connection)
        assert trail.record("was.kept").action == "was.kept"
    code, out, err = audit("status")
    assert code == 0
    assert "set AUDIT_KEY" not in out + err
    assert "audit verify" in err


def test_a_newest_checkpoint_that_was_replaced_is_called_by_its_name_and_not_a_wrong_key(path):
    tamper(path, "UPDATE audit_checkpoints SET signature = (SELECT signature FROM audit_checkpoints LIMIT 1)")
    with (
        AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail,
        pytest.raises(IntegrityError, match="not signed with the trail's key"),
        trail.store.transaction() as connection,
    ):
        trail.chain.append([about("42")], connection)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_checkpoints SET frontier = 5",
        "UPDATE audit_checkpoints SET frontier = hex(zeroblob(48))",
        "UPDATE audit_checkpoints SET root = x'00'",
        "UPDATE audit_checkpoints SET signature = x'00'",
        "UPDATE audit_events SET event_hash = x'00' WHERE sequence = 12",
        "UPDATE audit_events SET event_hash = 5.5 WHERE sequence = 11",
        "DELETE FROM audit_events WHERE sequence > 0",
    ],
)
def test_nothing_is_sealed_on_top_of_nonsense_and_no_event_is_lost(path, statement):
    tamper(path, statement)
    with AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail:
        with pytest.raises(IntegrityError, match="audit verify"), trail.store.transaction() as connection:
            trail.chain.append([about("42")], connection)
        trail.record("was.kept")
        assert "was.kept" in [event.action for event in trail.waiting()]


def test_another_key_is_still_a_wrong_key(path):
    with AuditTrail(f"sqlite:///{path}", signer=LocalSigner(THEIRS), create=False, lifecycle=False) as trail:
        with pytest.raises(ConfigurationError, match="AUDIT_KEY"), trail.store.transaction() as connection:
            trail.chain.append([about("42")], connection)
        with pytest.raises(ConfigurationError, match="not signed with this process's key"):
            trail.verify()


def test_a_forged_checkpoint_of_more_than_there_is_keeps_no_proof_waiting(audit, path):
    row = "9223372036854775807, 99, root, signature, NULL, sealed_at"
    tamper(path, f"INSERT INTO audit_checkpoints SELECT {row} FROM audit_checkpoints LIMIT 1")
    assert audit("prove", "5")[0] == 2


@pytest.mark.parametrize("word", ["/", "/\0", "/srv/a\0b.db", "/\ud800/x.db", "/..", "//"])
def test_a_url_that_is_no_file_is_one_sentence(word, capsys, path):
    assert main(["status", "--url", f"sqlite:///{word}"]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.strip().splitlines())) == ("", 1)


def test_no_reading_command_makes_a_key(audit, path, tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIT_KEY")
    state = tmp_path / "nobody"
    monkeypatch.setenv("AUDIT_STATE_DIR", str(state))
    first = audit("verify")[0]
    for words in (("status",), ("report", "access", "patient"), ("prove", "5"), ("checkpoint",), ("seal",)):
        audit(*words)
    assert (first, audit("verify")[0]) == (3, 3)
    assert not state.exists()


def test_an_event_of_a_process_without_a_key_waits(audit, path, tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIT_KEY")
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "nobody"))
    with AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False) as trail:
        trail.record("did.wait")
        assert [event.action for event in trail.waiting()] == ["did.wait"]
    assert not (tmp_path / "nobody" / "signing.key").exists()
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("SELECT max(tree_size) FROM audit_checkpoints").fetchone() == (13,)
