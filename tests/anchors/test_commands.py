"""Anchors on the command line."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.cli import main
from tests.anchors.servers import Witness, serving
from tests.attacks.attacker import put_back, steal
from tests.reports.trails import ORIGIN, OURS, about, seal


@pytest.fixture
def path(tmp_path, state):
    path = tmp_path / "clinic.db"
    with AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=OURS, lifecycle=False) as trail:
        seal(trail, [about("42", n) for n in range(5)])
    return path


@pytest.fixture
def anchor(tmp_path):
    return f"file://{tmp_path}/other"


def test_a_trail_is_anchored_once_and_then_verified_by_what_the_anchor_holds(audit, anchor, tmp_path):
    assert audit("verify", "--anchor", anchor)[0] == 3
    code, out, _ = audit("anchor", "--anchor", anchor)
    assert (code, out) == (0, f"6 events are anchored: the folder {tmp_path}/other.\n")
    code, out, _ = audit("verify", "--anchor", anchor)
    assert (code, "vouches for 6" in out) == (0, True)


def test_the_trail_of_an_application_is_anchored_where_its_command_says(path, anchor, tmp_path, capsys):
    (tmp_path / "own").mkdir()
    with AuditTrail(f"sqlite:///{path}", anchors=[f"file://{tmp_path}/own"], lifecycle=False) as trail:
        assert main(["anchor", "--anchor", anchor], trail=trail) == 0
        assert main(["anchor"], trail=trail) == 0
    assert re.findall("the folder .*/(.*)[.]", capsys.readouterr().out) == ["other", "own"]


def test_the_anchors_may_stand_in_the_environment(audit, anchor, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_ANCHORS", f"{anchor} sqlite:///{tmp_path}/second.db")
    assert audit("anchor")[0] == 0
    assert audit("verify")[0] == 0
    code, out, _ = audit("status")
    assert (code, len(re.findall(r"^anchor +.*: 6 events, for 0:00:0", out, re.MULTILINE))) == (0, 2)
    held = json.loads(audit("status", "--json")[1])["anchors"]
    assert [(one["size"], one["trouble"]) for one in held] == [(6, None)] * 2


def test_what_is_no_checkpoint_hides_none_from_the_status(audit, anchor, tmp_path):
    audit("anchor", "--anchor", anchor)
    (tmp_path / "other" / f"{'9' * 20}-{'a' * 16}.checkpoint").write_text("nonsense")
    assert "other: 6 events" in audit("status", "--anchor", anchor)[1]


def test_an_anchor_that_holds_something_else_in_its_place_has_not_taken_a_checkpoint(audit, anchor, tmp_path):
    audit("anchor", "--anchor", anchor)
    (kept,) = (tmp_path / "other").iterdir()
    kept.chmod(0o600)
    kept.write_text("torn")
    code, out, err = audit("anchor", "--anchor", anchor)
    assert (code, f"holds something else as {kept.name}" in out + err) == (2, True)


def test_a_cut_off_trail_is_failed_in_a_sentence_that_names_the_anchor(audit, anchor, path, tmp_path):
    audit("anchor", "--anchor", anchor)
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
        loot = steal(trail.store)
        del loot.rows[3:]
        loot.resign(ORIGIN, OURS)
        loot.heads[0] = loot.heads[0]._replace(tree_size=3)
        loot.resign(ORIGIN, OURS)
        put_back(trail.store, loot)
    code, out, _ = audit("verify", "--anchor", anchor)
    assert code == 1
    assert f"cut off at 3 events: expected the 6 events of a known checkpoint that the folder {tmp_path}/other" in out


def test_an_anchor_that_is_down_is_told_and_the_trail_is_not_ok(audit, tmp_path):
    code, out, _ = audit("verify", "--anchor", f"file://{tmp_path}/none")
    assert code == 3
    assert f"Warning: The folder {tmp_path}/none could not be asked: There is no folder" in out
    code, out, err = audit("anchor", "--anchor", "postgresql://127.0.0.1:1/none")
    assert (code, out) == (2, "")
    assert "takes no checkpoint" in err
    code, out, _ = audit("status", "--anchor", f"file://{tmp_path}/none")
    assert (code, "There is no folder" in out) == (0, True)


def test_a_witness_that_lies_keeps_no_command_from_sealing(path, tmp_path):
    witness = Witness(str(VerifierKey(ORIGIN, OURS.public_key)))
    witness.size = 99
    key = witness.vkey.replace("+", "%2B")
    with serving(witness.answer) as service:
        words = ("--anchor", f"witness+{service.url}?key={key}&receipts={tmp_path}/receipts")
        for command, code in (("verify", 1), ("seal", 0)):
            with AuditTrail(f"sqlite:///{path}", signer=OURS, lifecycle=False) as trail:
                assert main([command, *words], trail=trail) == code


def test_a_trail_that_was_stopped_is_failed_with_max_age(audit, anchor):
    audit("anchor", "--anchor", anchor)
    assert audit("verify", "--anchor", anchor, "--max-age", "1")[0] == 0
    code, out, _ = audit("verify", "--anchor", anchor, "--max-age", "0")
    assert (code, "was stopped, or does not reach its anchors" in out) == (1, True)


def test_a_trail_whose_table_is_gone_is_failed_with_max_age_too(audit, anchor, path):
    audit("anchor", "--anchor", anchor)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE audit_events")
    assert audit("verify", "--anchor", anchor)[0] == audit("verify", "--anchor", anchor, "--max-age", "1")[0] == 1


def test_a_copy_is_verified_as_of_when_it_was_made(audit, anchor, path):
    audit("anchor", "--anchor", anchor)
    before, made = path.read_bytes(), datetime.now(UTC).isoformat()
    with AuditTrail(f"sqlite:///{path}", signer=OURS, lifecycle=False) as trail:
        seal(trail, [about("42", 9)])
    audit("anchor", "--anchor", anchor)
    path.write_bytes(before)
    assert audit("verify", "--anchor", anchor)[0] == 1
    assert audit("verify", "--anchor", anchor, "--as-of", made)[0] == 0


@pytest.mark.parametrize(
    "words", [("anchor",), ("verify", "--anchor", "ftp://x"), ("anchor", "--anchor", "s3://b?x=1")]
)
def test_what_is_missing_or_wrong_is_one_sentence(audit, words):
    code, out, err = audit(*words)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
