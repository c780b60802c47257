"""What a reader is told of an attack: few sentences, in words, and the same findings one by one in JSON."""

import base64
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.canonical import encode_record
from audit_core.chain.verification import Verification
from audit_core.cli import words
from audit_core.cli.findings import Grouped
from audit_core.cli.summary import summary
from audit_core.cli.words import describe
from audit_core.identity import new_event_id
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.verify import Finding, Result
from audit_core.keys import LocalSigner
from audit_core.rows import STORED_COLUMNS
from tests.attacks.attacker import without_guards
from tests.attacks.conftest import OURS
from tests.reports.trails import ORIGIN, about, seal, tamper

THEIRS = b"t" * 32
KEY = str(VerifierKey(ORIGIN, LocalSigner(OURS).public_key))


@pytest.fixture
def path(path):
    """With a checkpoint for each of twenty more events, so that there are 33 under 22 checkpoints."""
    extend(path, OURS)
    return path


def extend(path, seed, origin=ORIGIN):
    with AuditTrail(f"sqlite:///{path}", origin=origin, signer=LocalSigner(seed), lifecycle=False) as trail:
        for n in range(20):
            seal(trail, [about("42", n)])


@pytest.fixture
def said(audit, path):
    """Verify with the key: every line, and how many findings JSON has."""

    def run(*more, key=KEY):
        code, out, _ = audit("verify", "--key", key, *more)
        assert code == 1
        found = json.loads(audit("verify", "--json", "--key", key, *more)[1])
        assert "FAILED." in out.splitlines()
        assert found["summary"] in out.splitlines()
        return out.splitlines(), found

    return run


def exchange(path, *, hashes_stay):
    """Events 3 and 4, with their hashes or without."""
    moves = ["sequence = -9 WHERE sequence = 3", "sequence = 3 WHERE sequence = 4", "sequence = 4 WHERE sequence = -9"]
    tamper(path, "CREATE TABLE old AS SELECT sequence, previous_hash, event_hash FROM audit_events")
    tamper(path, *(f"UPDATE audit_events SET {move}" for move in moves))
    if hashes_stay:
        for column in ("previous_hash", "event_hash"):
            old = f"(SELECT {column} FROM old WHERE old.sequence = audit_events.sequence)"
            tamper(path, f"UPDATE audit_events SET {column} = {old} WHERE sequence IN (3, 4)")
    tamper(path, "DROP TABLE old")


@pytest.mark.parametrize("hashes_stay", [False, True])
def test_two_exchanged_events_are_said_to_be_exchanged(said, path, hashes_stay):
    exchange(path, hashes_stay=hashes_stay)
    lines, found = said()
    assert "Events 3 and 4 were exchanged: each stands in the other's place." in lines
    assert [line for line in lines if "was changed" in line or "does not follow" in line] == []
    assert found["summary"] == "This trail is not what was recorded: 2 events exchanged (3 and 4)."
    assert {3, 4} <= {one["sequence"] for one in found["findings"] if one["kind"] == "edited"}


def test_two_changed_events_are_not_said_to_be_exchanged(said, path):
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence IN (3, 4)")
    lines, found = said()
    assert found["summary"] == "This trail is not what was recorded: 2 events changed (3 and 4)."
    assert not any("exchanged" in line for line in lines)


def test_an_end_that_was_cut_off_is_one_gap(said, path):
    tamper(path, "DELETE FROM audit_events WHERE sequence > 15")
    lines, found = said()
    assert [line for line in lines if "missing" in line] == [
        "Events 16 to 32 are missing: they were removed.", "  What was never recorded cannot be found missing."
    ]  # fmt: skip
    assert len(found["findings"]) == 17
    assert found["findings"][0]["text"] == "Event 16 is missing: it was removed."
    assert found["summary"] == "This trail is not what was recorded: 17 events removed (16 to 32)."


def test_gaps_apart_from_each_other_stay_apart(said, path):
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 3")
    tamper(path, "DELETE FROM audit_events WHERE sequence IN (8, 9, 10, 15, 16, 20)")
    lines, found = said()
    assert [line.partition(":")[0] for line in lines if "missing:" in line] == [
        "Events 8 to 10 are missing", "Events 15 and 16 are missing", "Event 20 is missing"
    ]  # fmt: skip
    assert found["summary"].endswith("1 event changed (3), 6 events removed (8 to 10, 15 and 16, 20).")


def test_a_trail_signed_anew_is_one_sentence_and_no_list_of_signatures(said, path):
    path.unlink()
    extend(path, THEIRS)
    lines, found = said()
    assert f"None of the 20 checkpoints is signed with the key {KEY}: all were signed anew with another key." in lines
    assert len("\n".join(lines)) < 1_000
    assert sum(one["kind"] == "checkpoint.signature" for one in found["findings"]) == 20
    assert found["summary"] == "This trail is not what was recorded: signed anew with another key."


def test_some_checkpoints_that_were_signed_by_somebody_else_are_counted(said, path):
    tamper(path, "UPDATE audit_checkpoints SET signature = replace(signature, 'a', 'b') WHERE tree_size > 30")
    lines, _ = said()
    assert [line for line in lines if "checkpoints are not signed" in line] == [
        f"3 of 22 checkpoints are not signed with the key {KEY}, the first of them that of 31 events."
    ]


def test_no_sentence_has_a_hash_and_json_has_them_all(said, path, kept):
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 3",
           "UPDATE audit_events SET previous_hash = event_hash WHERE sequence = 9",
           "UPDATE audit_events SET event_hash = previous_hash WHERE sequence = 20",
           "UPDATE audit_checkpoints SET frontier = x'00'")  # fmt: skip
    lines, found = said("--checkpoint", kept)
    told = [*lines, *(one["text"] for one in found["findings"])]
    assert not [line for line in told if re.search("[0-9a-f]{64}|[A-Za-z0-9+/]{43}=", line.replace(KEY, ""))]
    assert {"checkpoint.root", "checkpoint.frontier"} <= {one["kind"] for one in found["findings"]}
    assert all(re.fullmatch("[0-9a-f]{64}", one["expected"]) for one in found["findings"] if one["kind"] == "edited")


def test_an_event_is_named_with_who_did_it_as_it_stands_there_now(said, path):
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 3",
           "UPDATE audit_events SET details = '{' WHERE sequence = 5")  # fmt: skip
    lines, _ = said()
    event = r"\(now: GET /patients/\{id\}, 2026-01-31T12:00:0[0-9.]+Z, by eve, id [0-9a-f-]{36}\)"
    assert re.fullmatch(f"Event 3 {event} was changed after it was sealed.", lines[0])
    assert "by amina" in lines[1]


def test_checkpoints_over_changed_events_are_not_told_once_more(said, path):
    exchange(path, hashes_stay=False)
    lines, found = said()
    assert not any("signed over other events" in line for line in lines)
    assert "checkpoint.root" in {one["kind"] for one in found["findings"]}


def write_anew(path, seed, patient="7"):
    path.unlink()
    with AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=LocalSigner(seed), lifecycle=False) as trail:
        for n in range(40):
            seal(trail, [about(patient, n)])


def test_a_trail_written_anew_with_its_own_key_is_said_to_be(said, path, kept):
    write_anew(path, OURS)
    lines, found = said("--checkpoint", kept)
    assert lines[0] == (
        "The checkpoint of 33 events that was kept elsewhere does not fit: it was taken of other events than these."
    )
    assert found["summary"] == (
        "This trail is not what was recorded: it was written anew with its own key since your checkpoint of 33 events."
    )


def test_a_checkpoint_that_was_signed_over_other_events_is_told_where_no_event_was_changed(said, path, kept):
    with closing(sqlite3.connect(path)) as reader:
        query = "SELECT root, signature FROM audit_checkpoints WHERE tree_size = 20"
        root, signature = reader.execute(query).fetchone()
    write_anew(path, OURS)
    tamper(path, f"UPDATE audit_checkpoints SET root = '{root}', signature = '{signature}' WHERE tree_size = 20")
    lines, found = said("--checkpoint", kept)
    assert lines[0] == "The checkpoint of 20 events was signed over other events than these."
    assert "checkpoint.root" in {one["kind"] for one in found["findings"]}
    assert found["summary"].endswith("recorded: checkpoints of other events."), "nobody says that they were signed anew"


def test_a_trail_signed_anew_is_told_by_a_checkpoint_without_the_key(audit, path, kept, monkeypatch):
    write_anew(path, THEIRS, "42")
    monkeypatch.setenv("AUDIT_KEY", base64.b64encode(THEIRS).decode())
    code, out, _ = audit("verify", "--checkpoint", kept)
    assert code == 1
    assert "the trail was signed anew with another key since, and is now one signed by example.com/clinic+" in out
    assert "This trail is not what was recorded: it was signed anew with another key since." in out.splitlines()


def test_a_kept_checkpoint_that_cannot_be_compared_is_not_said_to_lack_leaves(said, path, kept):
    exchange(path, hashes_stay=False)
    lines, _ = said("--checkpoint", kept)
    (line,) = [line for line in lines if "kept elsewhere" in line]
    assert line.endswith("says nothing more: events that it covers were changed or removed.")


def test_a_key_of_another_trail_is_a_question_with_its_answer(audit, path):
    other = str(VerifierKey("example.com/other", LocalSigner(OURS).public_key))
    code, out, err = audit("verify", "--key", other)
    assert (code, out) == (2, "")
    assert f"This trail is {ORIGIN}, and the key that you gave is of the trail example.com/other" in err
    said = " ".join(err.split())
    cures = [
        said.index(words) for words in ("somebody has put another trail", "--checkpoint or --anchor", "give the key")
    ]
    assert cures == sorted(cures), "what suits whoever has put it there comes last"


def test_a_first_event_that_names_another_trail_now_is_no_mistake_of_the_auditors(said, path):
    """Its own hash is made new; the rest of the trail is as it was."""
    with closing(sqlite3.connect(path)) as attacker, attacker, without_guards(attacker):
        attacker.execute(
            "UPDATE audit_events SET details = replace(details, ?, 'x/other') WHERE sequence = 0", (ORIGIN,)
        )
        columns = ", ".join(STORED_COLUMNS)
        row = attacker.execute(f"SELECT {columns} FROM audit_events WHERE sequence = 0").fetchone()
        digest = leaf_hash(encode_record(row[:-1], "x/other")).hex()
        attacker.execute("UPDATE audit_events SET event_hash = ? WHERE sequence = 0", (digest,))
    lines, found = said(key=str(VerifierKey(ORIGIN, LocalSigner(OURS).public_key)))
    assert "or you gave the key of another trail" in lines[0]
    assert "do not belong together" in found["summary"]


@pytest.mark.parametrize("hashes", ["stay", "are made new"])
def test_an_event_that_was_put_in_at_the_end_is_not_called_changed(said, path, hashes):
    with closing(sqlite3.connect(path)) as attacker, attacker, without_guards(attacker):
        columns = ", ".join(STORED_COLUMNS)
        row = list(attacker.execute(f"SELECT {columns} FROM audit_events ORDER BY sequence DESC LIMIT 1").fetchone())
        place = dict(zip(STORED_COLUMNS, range(len(row)), strict=True))
        last, row[place["previous_hash"]] = row[place["sequence"]], row[place["event_hash"]]
        row[place["sequence"]], row[place["event_id"]] = last + 1, new_event_id()
        if hashes == "are made new":
            row[place["event_hash"]] = leaf_hash(encode_record(row[:-1], ORIGIN)).hex()
        attacker.execute(f"INSERT INTO audit_events ({columns}) VALUES ({', '.join('?' * len(row))})", row)
    lines, found = said()
    assert "changed after it was sealed" not in "".join(lines)
    assert any(word in found["summary"] for word in ("put in at the end", "stands after the last checkpoint"))
    assert "event changed" not in found["summary"]


@pytest.mark.parametrize("size", [0, 30])
def test_an_event_that_was_changed_is_called_so_though_its_checkpoints_were_removed(said, path, size):
    tamper(path, f"DELETE FROM audit_checkpoints WHERE tree_size > {size}", "UPDATE audit_events SET outcome = 'x' "
           "WHERE sequence = 31")  # fmt: skip
    lines, found = said()
    assert "1 event changed (31)" in found["summary"]
    assert any("was changed after it was sealed" in line for line in lines)
    assert ("the last 3 events stand after the last checkpoint" if size else "checkpoints removed") in found["summary"]


def test_the_verdict_says_which_trail_that_was_and_that_its_key_was_replaced(audit, path):
    assert f"The trail is {ORIGIN}, and its key {ORIGIN}+" in audit("verify")[1]
    new = LocalSigner(b"n" * 32)
    with AuditTrail(f"sqlite:///{path}", signer=LocalSigner(OURS), lifecycle=False) as trail:
        key = trail.rotate_key(new)
        number = next(trail.events(action="key.rotated")).sequence
    _, out, _ = audit("verify", "--key", key)
    assert f"The trail is {ORIGIN}. Its key was replaced once, by event {number}, and now is {key}." in out
    assert json.loads(audit("verify", "--key", key, "--json")[1])["keys"][-1] == str(key)
    wrong = VerifierKey(ORIGIN, LocalSigner(THEIRS).public_key)
    assert f"It was checked as the trail {ORIGIN}, with the key {wrong}." in audit("verify", "--key", wrong)[1]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (("DELETE FROM audit_events", "DELETE FROM audit_checkpoints"), "There is nothing to verify"),
        (("DELETE FROM audit_events",), "Events 0 to 32 are missing"),
        (("DROP TABLE audit_events",), "table audit_events is missing."),
    ],
)
def test_what_was_emptied_or_dropped_is_one_sentence(said, path, statements, expected):
    tamper(path, *statements)
    lines, found = said()
    assert expected in lines[0]
    assert lines[1] == "FAILED."
    assert "None" not in "".join(lines)
    assert not any(one["got"] == "None" for one in found["findings"])


@pytest.mark.parametrize("tables", [["audit_events"], ["audit_events", "audit_checkpoints"]])
def test_a_trail_that_was_emptied_is_told_in_the_same_words_with_and_without_its_checkpoints(said, path, tables):
    tamper(path, *(f"DELETE FROM {table}" for table in tables))
    assert said()[1]["summary"] == "This trail is not what was recorded: everything removed."


def test_another_table_that_was_dropped_too_is_said_too(said, path):
    tamper(path, "DROP TABLE audit_events", "DROP TABLE audit_checkpoints")
    lines, _ = said()
    gone = [line.partition("makes them: ")[2] for line in lines if "are not as `audit init` makes them" in line]
    assert gone == ["table audit_events is missing.", "table audit_checkpoints is missing."]


def test_triggers_that_were_dropped_are_one_sentence(audit, path):
    with closing(sqlite3.connect(path)) as attacker, attacker:
        names = [name for (name,) in attacker.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            attacker.execute(f"DROP TRIGGER {name}")
    _, out, _ = audit("verify", "--key", KEY)
    first, *rest = out.splitlines()
    assert first.startswith(f"{len(names)} triggers that refuse changes are missing: ")
    assert all(name in first for name in names)
    assert rest[0] == "FAILED."


def test_a_trigger_that_was_added_is_not_said_to_have_changed_an_event(said, path):
    tamper(path, "CREATE TRIGGER evil AFTER INSERT ON audit_events BEGIN DELETE FROM audit_outbox; END")
    assert said()[1]["summary"].startswith("The events are what was recorded, but ")


@pytest.mark.parametrize(
    ("statement", "end"),
    [
        ("DELETE FROM audit_checkpoints", "checkpoints removed."),
        ("DELETE FROM audit_checkpoints WHERE tree_size > 31", "the last 2 events stand after the last checkpoint."),
        ("DELETE FROM audit_checkpoints WHERE tree_size > 32", "the last event stands after the last checkpoint."),
        ("UPDATE audit_checkpoints SET root = 'x' WHERE tree_size = 20", "checkpoints changed."),
        ("UPDATE audit_checkpoints SET signature = 'x' WHERE tree_size = 20", "checkpoints changed."),
        ("UPDATE audit_events SET previous_hash = event_hash WHERE sequence = 9",
         ": 1 event changed (9)."),
    ],
)  # fmt: skip
def test_one_sentence_says_what_it_comes_to(said, path, statement, end):
    tamper(path, statement)
    assert said()[1]["summary"].endswith(end)


def test_a_sound_trail_has_no_such_sentence(audit):
    assert json.loads(audit("verify", "--json", "--key", KEY)[1])["summary"] is None


@pytest.mark.parametrize("cut", [4, 8, 20, 43])
def test_a_key_that_was_cut_off_is_to_be_copied_again(audit, cut):
    code, out, err = audit("verify", "--key", KEY[:-cut])
    assert (code, out) == (2, "")
    assert "copy the key again" in err


def test_a_private_key_in_the_place_of_the_verifier_key_is_told_and_not_repeated(audit, tmp_path):
    private = base64.b64encode(b"\xfb\xef" + OURS[2:]).decode()
    assert "+" in private
    (tmp_path / "file").write_text(private)
    for given in (private, tmp_path / "file", base64.b64encode(OURS).decode()):
        code, out, err = audit("verify", "--key", given)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "private key" in err
        assert private[5:] not in err


def test_a_key_that_is_no_file_either_is_one_sentence(audit):
    code, _, err = audit("verify", "--key", "nofile")
    assert code == 2
    assert "--key nofile is neither a verifier key nor a file that can be read." in err


WARNINGS = {
    "anchor.left", "anchor.undated", "anchor.unreachable", "anchor.unreadable", "key.revoked", "private.unreadable",
    "restored", "statement",
}  # fmt: skip
VARIANTS = {"clock.anchor", "edited.unsigned", "object.strange"}
GROUPED = {"checkpoint.signature", "missing"}


@pytest.mark.parametrize("kind", sorted(words._WORDS.keys() - WARNINGS - VARIANTS - GROUPED))
def test_whatever_is_found_alone_comes_to_a_sentence(kind):
    finding = Finding(kind, 3, "a checkpoint of 9 events", "another")
    assert summary(Verification(Result.FAILED, (finding,), ORIGIN, 9), Grouped(others=[finding]))


def test_a_clock_that_differs_from_an_anchors_may_be_either_of_them():
    finding = Finding("clock", 5, "no earlier than noon", "eleven", where="the database /storage")
    text, _ = describe(finding, None)
    assert "turned back before the checkpoint of 5 events, or that of the database /storage is wrong" in text
    found = Verification(Result.FAILED, (finding,), ORIGIN, 9)
    assert "that of the anchor" in summary(found, Grouped(others=[finding]))


def test_an_object_that_is_none_of_the_trails_has_no_place_in_what_is_said():
    finding = Finding("object", None, "each object once, locked", "another one, readme")
    text, _ = describe(finding, None)
    assert text == (
        "In the bucket lies what is none of the trail's objects: expected each object once, locked, got another one, "
        "readme."
    )
    found = Verification(Result.FAILED, (finding,), ORIGIN, 5)
    plainly = summary(found, Grouped(others=[finding]))
    assert plainly == (
        "The events are what was recorded, but their bucket was tampered with: objects put in, written over, "
        "marked as deleted or without a lock."
    )


def test_a_checkpoint_of_another_key_in_an_anchor_may_be_of_whoever_writes_there():
    expected, got = "a trail signed by the key of the checkpoint", f"one signed by {KEY}"
    finding = Finding("known", 5, expected, got, where="the folder /storage")
    plainly = summary(Verification(Result.FAILED, (finding,), ORIGIN, 9), Grouped(others=[finding]))
    assert plainly == (
        "This trail was signed anew with another key since, or somebody has put what is none of its checkpoints into "
        "the folder /storage."
    )
    mine = replace(finding, where="")
    plainly = summary(Verification(Result.FAILED, (finding, mine), ORIGIN, 9), Grouped(others=[finding, mine]))
    assert plainly == "This trail is not what was recorded: it was signed anew with another key since."
