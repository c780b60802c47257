"""Bundles of a trail whose key was replaced, or lost: every checkpoint by the key of its size, and who may vouch."""

import io
import json
from importlib import resources

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.canonical import encode, encode_record
from audit_core.chain.statements import Lost, acknowledge, revoke, rotate
from audit_core.cli.bundles import limits
from audit_core.cli.bundles import verdict as said_of
from audit_core.evidence.checked import Verdict
from audit_core.evidence.page import write_page
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import plan_inclusion, subtree_root
from audit_core.integrity.note import encode_base64
from audit_core.keys import LocalSigner
from tests.evidence.bundles import check, files_of, joined, lines, packed, reader, select, write
from tests.reports.trails import NOON, ORIGIN, OURS, THEIRS, about, event, seal

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


def forged_by_the_thief_of_the_first_key(rotated_trail):
    """A bundle that ends where the first key's reign does: the second signed what was before it, and not this tree."""
    with reader(rotated_trail[0]) as trail:
        records = [encode_record(row[:-1], ORIGIN) for row in trail.store.rows(0, 5)]
    lie = json.loads(records[2]) | {"actor_id": "amina", "action": "drug.steal"}
    records[2] = encode(lie)
    leaves = [leaf_hash(record) for record in records]
    head = Checkpoint(ORIGIN, 5, subtree_root(leaves))
    plans = {place: plan_inclusion(place, 5) for place in (2, 4)}
    nodes = {span: subtree_root(leaves[slice(*span)]) for plan in plans.values() for span in plan}
    about_it = {"format": 1, "origin": ORIGIN, "tree_size": 5, "selection": {"actor_id": "amina"}, "events": 1}
    keys = [{"from": 1, "key": str(FIRST), "event": None}, {"from": 6, "key": str(SECOND), "event": 4}]
    files = {
        "bundle.json": json.dumps(about_it | {"besides": [4]}), "checkpoint.txt": head.note(head.sign(SIGNERS[0])),
        "keys.jsonl": joined(map(json.dumps, keys)).decode(), "consistency.jsonl": "",
    }  # fmt: skip
    page = b"".join(write_page(files, nodes, [records[place] for place in plans]))
    proofs = [
        json.dumps({"index": place, "hashes": [encode_base64(nodes[span]) for span in plan]})
        for place, plan in plans.items()
    ]
    return {name: text.encode() for name, text in files.items()} | {
        "README.txt": resources.files("audit_core.evidence").joinpath("README.txt").read_bytes(),
        "records.jsonl": joined(records[place].decode() for place in plans), "proofs.jsonl": joined(proofs),
        "evidence.html": page,
    }  # fmt: skip


def test_that_a_key_was_stolen_or_a_backup_put_back_is_told_with_whatever_was_asked_for(tmp_path, opened):
    path, _ = make(tmp_path)
    with trail_at(path, 2) as trail:
        with trail.store.transaction(patient=True) as connection:
            revoke(trail.chain, FIRST, event(40, "key.revoked"), connection, since=NOON, reason="laptop stolen")
        with trail.store.transaction(patient=True) as connection:
            lost = Lost([(99, "")], 12, 12, [])
            acknowledge(trail.chain, lost, iter([event(41, "trail.restored")]), connection, reason="disk failure")
    bundle = write(path, tmp_path / "bundle", select(resource_id="2"))
    checked = check(bundle, FIRST)
    assert (checked.verdict, checked.besides) == (Verdict.OK, 4), checked.faults
    page = opened(files_of(bundle)["evidence.html"], str(FIRST))
    assert page.verdict == "ok", page.text
    for text in ("\n".join(limits(checked)), page.whole):
        assert f"Event 12 says that the key {FIRST} may have been in other hands" in text
        assert "Event 13 says that a backup lacks 87 events from sequence 12 on (disk failure)." in text
        assert "tells of no other stolen key or restored backup" in text


NONSENSE = (
    {}, {"says": {}}, {"says": {}, "signatures": "x"}, {"says": None, "signatures": None},
    {"says": [], "signatures": [[]]},
    {"says": {"key": 5, "lost": "x", "archive": {}}, "signatures": [None, 5, "", "AAAA", "!"]},
)  # fmt: skip


@pytest.mark.parametrize("selection", [select(), select(40, "blue heron")], ids=["whole", "sample"])
def test_what_only_looks_like_a_statement_makes_no_bundle_a_changed_one(tmp_path, opened, selection):
    kinds = ("key.rotated", "key.revoked", "trail.restored", "trail.archived", "trail.purged")
    looks = {"resource_type": "trail", "resource_id": ORIGIN}
    with trail_at(tmp_path / "trail.db", 0) as trail:
        seal(trail, [event(n, kind, details=says, **looks) for n, kind in enumerate(kinds) for says in NONSENSE])
        bundle = write(trail, tmp_path / "bundle", selection)
    assert check(bundle, FIRST).verdict is Verdict.OK
    page = opened(files_of(bundle)["evidence.html"], str(FIRST))
    assert page.verdict == "ok", page.text


def test_that_nothing_of_the_kind_was_left_out_is_claimed_of_the_whole_trail_alone(tmp_path, opened):
    path, _ = make(tmp_path)
    for name, selection, is_said in (("part", select(resource_id="2"), True), ("whole", select(), False)):
        bundle = write(path, tmp_path / name, selection)
        page = opened(files_of(bundle)["evidence.html"], str(FIRST))
        for text in ("\n".join(limits(check(bundle, FIRST))), page.whole):
            assert ("tells of no stolen key or restored backup" in text) is is_said


def test_whoever_has_pinned_a_later_key_is_not_deceived_by_the_thief_of_an_earlier_one(rotated_trail):
    forged = packed(forged_by_the_thief_of_the_first_key(rotated_trail), show=False)
    for key, verdict in ((FIRST, Verdict.OK), (SECOND, Verdict.UNTRUSTED), (STRANGER, Verdict.FAILED)):
        checked = check(forged, key)
        assert checked.verdict is verdict, (key, checked.faults)
    text = " ".join([said_of(check(forged, SECOND))[0], *limits(check(forged, SECOND))])
    assert "signed before the key that you gave came to sign" in text
    assert f"an earlier key, {FIRST}: whoever stole that could have made all of it" in text


class TestThePage:
    def test_is_not_ok_with_a_key_that_came_after_the_one_that_signed(self, rotated_trail, opened):
        page = opened(forged_by_the_thief_of_the_first_key(rotated_trail)["evidence.html"], str(SECOND))
        assert page.verdict == "untrusted", page.text
        assert "signed before the key that you gave came to sign" in page.text
        page.give("key", str(FIRST))
        assert page.verdict == "ok", page.text

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
