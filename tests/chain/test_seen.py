"""The verifier's own memory: he goes on from what he has seen, and notices when the trail is another one."""

import json

import pytest

from audit_core.anchors import ask_all
from audit_core.anchors.anchoring import keep_now
from audit_core.anchors.opening import open_anchor
from audit_core.chain.seen import Seen
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.stores.memory import MemoryStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.attacks.attacker import put_back, steal
from tests.attacks.scenes import STORES, empty_store

OURS = LocalSigner(b"k" * 32)
KEY = VerifierKey(ORIGIN, OURS.public_key)


@pytest.fixture(params=STORES)
def chain(request, tmp_path):
    """13 events under checkpoints of 4, 8, 9 and 13."""
    with empty_store(request.param, tmp_path) as store:
        chain = make_chain(store)
        for batch in (3, 4, 1, 4):
            seal(chain, [make_event(n, actor_id="42") for n in range(batch)])
        yield chain


@pytest.fixture
def in_memory():
    chain = make_chain(MemoryStore())
    for batch in (3, 4, 1, 4):
        seal(chain, [make_event(n, actor_id="42") for n in range(batch)])
    return chain


def change(chain, change):
    loot = steal(chain.store)
    change(loot)
    put_back(chain.store, loot)


def rewrite(loot):
    loot.edit(5, actor_id="43")
    loot.relink(ORIGIN)
    loot.resign(ORIGIN, OURS)


def kinds(found):
    return {finding.kind for finding in found.findings}


def test_verification_goes_on_from_what_was_seen_and_vouches_for_that(chain):
    first = chain.verify(KEY)
    assert (first.result, first.start) == (Result.UNANCHORED, 0)
    again = chain.verify(KEY, seen=first.seen)
    assert (again.result, again.start, again.anchored, again.seen) == (Result.OK, 13, 13, first.seen)
    seal(make_chain(chain.store), [make_event(n) for n in range(300)])
    grown = chain.verify(KEY, seen=again.seen)
    assert (grown.result, grown.start, grown.size, grown.findings) == (Result.OK, 13, 313, ())
    whole = chain.verify(KEY, seen=again.seen, whole=True)
    assert (whole.result, whole.start, whole.anchored) == (Result.OK, 0, 13)
    assert grown.seen == whole.seen == chain.verify(KEY).seen, "the same, wherever it began"


def test_what_was_rewritten_with_the_key_or_cut_off_since_is_found_without_an_anchor(chain):
    seen = chain.verify(KEY).seen
    backup = steal(chain.store)
    change(chain, rewrite)
    assert chain.verify(KEY).result is Result.UNANCHORED
    assert kinds(chain.verify(KEY, seen=seen)) == kinds(chain.verify(KEY, seen=seen, whole=True)) == {"known"}
    put_back(chain.store, backup)
    change(chain, lambda loot: (loot.rows.__delitem__(slice(9, None)), loot.heads.pop()))
    assert kinds(chain.verify(KEY, seen=seen)) == {"truncated"}
    change(chain, lambda loot: (loot.rows.clear(), loot.heads.clear()))
    assert chain.verify(None, seen=seen).result is Result.FAILED


def test_what_was_tampered_with_after_what_was_seen_is_found(in_memory):
    seen = in_memory.verify(KEY).seen
    seal(in_memory, [make_event(n) for n in range(5)])
    change(in_memory, lambda loot: loot.edit(15, actor_id="43"))
    assert {(one.kind, one.sequence) for one in in_memory.verify(KEY, seen=seen).findings} == {("edited", 15)}
    change(in_memory, lambda loot: loot.rows.pop(13))
    assert "missing" in kinds(in_memory.verify(KEY, seen=seen))


def test_what_was_tampered_with_before_is_found_by_the_whole_verification_alone(in_memory):
    seen = in_memory.verify(KEY).seen
    seal(in_memory, [make_event()])
    change(in_memory, lambda loot: loot.edit(5, actor_id="43"))
    assert in_memory.verify(KEY, seen=seen).result is Result.OK, "the page says so"
    assert kinds(in_memory.verify(KEY, seen=seen, whole=True)) == {"edited"}


def test_a_failure_is_not_gone_on_from(in_memory):
    change(in_memory, lambda loot: loot.edit(5, actor_id="43"))
    assert in_memory.verify(KEY).seen is None


def test_another_history_from_before_what_was_seen_is_found(in_memory):
    backup = steal(in_memory.store)
    seal(in_memory, [make_event(1)])
    seen = in_memory.verify(KEY).seen
    put_back(in_memory.store, backup)
    seal(make_chain(in_memory.store), [make_event(n) for n in range(9)])
    assert kinds(in_memory.verify(KEY, seen=seen)) == {"known"}


def test_what_an_anchor_kept_of_less_is_compared_by_a_consistency_proof(in_memory, tmp_path):
    anchor = open_anchor(f"file://{tmp_path}/other")
    list(keep_now(in_memory, [anchor]))
    seal(in_memory, [make_event(n) for n in range(9)])
    seen = in_memory.verify(KEY).seen
    found = in_memory.verify(KEY, seen=seen, anchored=ask_all([anchor], in_memory))
    assert (found.result, found.start) == (Result.OK, 22)
    forked = make_chain(MemoryStore())
    seal(forked, [make_event(n) for n in range(12)])
    list(keep_now(forked, [anchor]))
    found = in_memory.verify(KEY, seen=seen, anchored=ask_all([anchor], in_memory))
    assert kinds(found) == {"known"}


def test_what_an_anchor_kept_that_did_not_answer_before_is_compared_with_all_of_it(in_memory, tmp_path):
    anchor = open_anchor(f"file://{tmp_path}/other")
    forked = make_chain(MemoryStore())
    seal(forked, [make_event(n) for n in range(9)])
    list(keep_now(forked, [anchor]))
    list(keep_now(in_memory, [anchor]))  # the largest fits
    seal(in_memory, [make_event(n) for n in range(9)])
    seen = in_memory.verify(KEY).seen
    found = in_memory.verify(KEY, seen=seen, anchored=ask_all([anchor], in_memory))
    assert [(one.kind, one.sequence, one.where) for one in found.findings] == [("known", 10, anchor.name)]
    assert found.seen is None


def test_every_checkpoint_that_is_given_is_compared_and_not_the_largest_alone(in_memory):
    forked = make_chain(MemoryStore())
    seal(forked, [make_event(n) for n in range(9)])
    given = [forked.checkpoint_note(), in_memory.checkpoint_note()]
    seal(in_memory, [make_event(n) for n in range(9)])
    seen = in_memory.verify(KEY).seen
    assert kinds(in_memory.verify(KEY, given, seen=seen)) == {"known"}


def test_what_an_anchor_kept_is_compared_once_and_again_when_something_was_added_below(
    in_memory, tmp_path, monkeypatch
):
    proven = []
    monkeypatch.setattr("audit_core.chain.walking.check_consistency", lambda *_: proven.append(1))
    anchor, seen = open_anchor(f"file://{tmp_path}/other"), None
    for _ in range(3):
        seal(in_memory, [make_event()])
        list(keep_now(in_memory, [anchor]))
        seal(in_memory, [make_event()])
        seen = in_memory.verify(KEY, seen=seen, anchored=ask_all([anchor], in_memory)).seen
        seen = Seen.parse(seen.to_json())
    assert proven == []
    monkeypatch.undo()
    forked = make_chain(MemoryStore())
    seal(forked, [make_event(n) for n in range(9)])
    list(keep_now(forked, [anchor]))
    assert kinds(in_memory.verify(KEY, seen=seen, anchored=ask_all([anchor], in_memory))) == {"known"}


def test_what_was_seen_of_another_trail_is_a_question(in_memory):
    other = make_chain(MemoryStore())
    other._wanted_origin = "example.com/other"
    seal(other, [make_event()])
    with pytest.raises(IntegrityError, match="that whoever verified it before keeps is of the trail example"):
        in_memory.verify(KEY, seen=other.verify().seen)


def test_what_was_seen_is_read_back_as_it_was_and_nothing_else_is(in_memory):
    seen = in_memory.verify(KEY).seen
    assert Seen.parse(seen.to_json()) == seen
    found = json.loads(seen.to_json())
    for wrong in ({}, [], found | {"frontier": "AAAA"}, found | {"checkpoint": "x"}, found | {"compared": 5}):
        with pytest.raises(ConfigurationError):
            Seen.parse(json.dumps(wrong))
    with pytest.raises(ConfigurationError, match="not that of its checkpoint"):
        Seen.parse(json.dumps(found | {"frontier": "A" * len(found["frontier"])}))
