"""Bundles of a trail whose key was replaced, or lost: every checkpoint by the key of its size, and who may vouch."""

import io
import json

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.chain.statements import rotate
from audit_core.evidence.checked import Verdict
from audit_core.keys import LocalSigner
from tests.evidence.bundles import check, files_of, joined, lines, packed, select, write
from tests.reports.trails import ORIGIN, OURS, THEIRS, about, event, seal

SIGNERS = [OURS, LocalSigner(b"2" * 32), LocalSigner(b"3" * 32)]
FIRST, SECOND, THIRD = (VerifierKey(ORIGIN, signer.public_key) for signer in SIGNERS)
STRANGER = VerifierKey(ORIGIN, THEIRS.public_key)


def trail_at(path, number):
    return AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=SIGNERS[number], lifecycle=False)


def make(folder, *, lost=False):
    """A trail of three keys, and a checkpoint that each of them signed."""
    path, notes = folder / "trail.db", []
    for number in range(3):
        with trail_at(path, number) as trail:
            seal(trail, [about(str(number), 10 * number + second) for second in range(3)])
            notes.append(trail.chain.checkpoint_note())
            if number < 2:
                with trail.store.transaction(patient=True) as connection:
                    made = event(10 * number + 5, "key.rotated")
                    rotate(trail.chain, SIGNERS[number + 1], made, connection, lost=lost and number == 1)
    return path, notes


@pytest.fixture(scope="module")
def rotated_trail(tmp_path_factory):
    return make(tmp_path_factory.mktemp("rotated"))


@pytest.fixture(scope="module")
def rotated(rotated_trail):
    path, notes = rotated_trail
    return write(path, path.with_name("bundle"), select(resource_id="2"), checkpoints=notes[:2])


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lost")
    path, notes = make(folder, lost=True)
    return write(path, folder / "bundle", select(resource_id="2"), checkpoints=notes[:2])


def test_each_key_has_its_range_and_the_event_that_named_it(rotated):
    assert [json.loads(line) for line in lines(files_of(rotated)["keys.jsonl"])] == [
        {"from": 1, "key": str(FIRST), "event": None},
        {"from": 6, "key": str(SECOND), "event": 4},
        {"from": 10, "key": str(THIRD), "event": 8},
    ]
    assert json.loads(files_of(rotated)["bundle.json"])["besides"] == [4, 8]


@pytest.mark.parametrize("key", [FIRST, SECOND, THIRD])
def test_any_of_them_vouches_for_those_that_it_has_named(rotated, key):
    checked = check(rotated, key)
    assert (checked.verdict, checked.replaced) == (Verdict.OK, key != THIRD), checked.faults
    assert [size for size, _, _ in checked.kept] == [4, 8]


def test_without_one_or_with_another_it_is_not_ok(rotated):
    assert check(rotated).verdict is Verdict.UNTRUSTED
    assert check(rotated, STRANGER).verdict is Verdict.FAILED


def test_a_key_before_one_that_was_lost_vouches_for_nothing_after_it(lost):
    assert [check(lost, key).verdict for key in (FIRST, SECOND, THIRD)] == [Verdict.FAILED, Verdict.FAILED, Verdict.OK]


def _keys(change):
    def changed(files):
        entries = [json.loads(line) for line in lines(files["keys.jsonl"])]
        change(entries)
        files["keys.jsonl"] = joined(map(json.dumps, entries))

    return changed


def test_a_sample_is_what_was_drawn_and_the_events_that_named_keys_stand_beside_it(rotated_trail, tmp_path, opened):
    path = write(rotated_trail[0], tmp_path / "bundle", select(3, "monday"))
    checked = check(path, FIRST)
    assert (checked.verdict, checked.events) == (Verdict.OK, 3), checked.faults
    assert checked.besides > 0
    page = opened(files_of(path)["evidence.html"], str(FIRST))
    assert page.verdict == "ok", page.text


ATTACKS = {
    "a rotation left out": _keys(lambda entries: entries.pop(1)),
    "the last key left out": _keys(lambda entries: entries.pop()),
    "a key that nothing names": _keys(lambda entries: entries[2].update(key=str(STRANGER))),
    "a key in between that nothing names": _keys(lambda entries: entries[1].update(key=str(STRANGER))),
    "another event that is to have named it": _keys(lambda entries: entries[2].update(event=4)),
    "an event that is not there": _keys(lambda entries: entries[2].update(event=5)),
    "no event": _keys(lambda entries: entries[2].update(event=None)),
    "a key that signs from earlier on": _keys(lambda entries: entries[2].update({"from": 9})),
    "a key that signs from later on": _keys(lambda entries: entries[1].update({"from": 8})),
    "an event that named the first": _keys(lambda entries: entries[0].update(event=0)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_keys_that_are_not_those_of_the_trail_are_found(rotated, attack):
    files = files_of(rotated)
    ATTACKS[attack](files)
    checked = check(packed(files), THIRD, FIRST)
    assert checked.verdict is Verdict.FAILED
    assert any(fault.where in {"keys.jsonl", "checkpoint.txt"} for fault in checked.faults), checked.faults


class TestThePage:
    @pytest.mark.parametrize("key", [FIRST, SECOND, THIRD])
    def test_says_ok_with_any_of_them(self, rotated, opened, key):
        page = opened(files_of(rotated)["evidence.html"], str(key))
        assert page.verdict == "ok", page.text
        assert "The key was replaced 2 times" in page.whole

    def test_takes_none_from_before_one_that_was_lost(self, lost, opened):
        page = opened(files_of(lost)["evidence.html"], str(SECOND))
        assert page.verdict == "failed"
        page.give("key", str(THIRD))
        assert page.verdict == "ok", page.text

    @pytest.mark.parametrize("attack", ["a key that nothing names", "a key that signs from later on", "no event"])
    def test_finds_keys_that_are_not_those_of_the_trail(self, rotated, opened, attack):
        files = files_of(rotated)
        ATTACKS[attack](files)
        page = files_of(io.BytesIO(packed(files)))["evidence.html"]
        assert opened(page, str(THIRD)).verdict == "failed"
