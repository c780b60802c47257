"""Each attack by its name, made by whoever may write to a bucket with Object Lock, with the key and without.

Locks hold: he can put later versions and delete markers over objects, and objects where there are none. Whoever has the
disks of the server can do more: that one makes the attacks in test_attacks.py and test_protection.py.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from audit_core.anchors import ask_all
from audit_core.anchors.opening import open_anchor
from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Result
from audit_core.stores.memory import MemoryStore
from audit_core.stores.s3_objects import key_of
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.attacks.attacker import AT, as_object, put_over_in_s3, steal
from tests.attacks.scenes import empty_store
from tests.attacks.test_protection import (
    ATTACKS,
    KEY,
    OURS,
    THIEFS,
    Scene,
    cut_off,
    delete,
    edit,
    empty,
    fork,
    move_in,
    put_backup_back,
    repeat,
    rewrite,
    rewrite_with_the_key,
)

NAMED = [function for functions in ATTACKS.values() for function in functions]
# The others may add to the end, as the sealer does: then what the page says of them is all that there is to say.
CHANGING = {edit, delete, move_in, cut_off, rewrite, put_backup_back, fork, empty, rewrite_with_the_key, repeat}


@pytest.fixture
def scene(tmp_path):
    with empty_store("s3", tmp_path) as store:
        store.put_back = put_over_in_s3
        chain = make_chain(store)
        for batch in (3, 4, 1, 4):
            seal(chain, [make_event(n, actor_id="42") for n in range(batch)])
        scene = Scene(chain, open_anchor(f"sqlite:///{tmp_path}/anchors.db"))
        scene.keep()
        yield scene


def is_written_over(store):
    return any(len(versions) > 1 for versions in store._bucket.objects(store._prefix))


@pytest.mark.parametrize("attack", NAMED)
def test_an_attack_on_what_is_locked_changes_nothing_that_is_read_and_is_found_without_any_key(scene, attack):
    before = list(scene.chain.store.rows())
    with suppress(ConfigurationError):  # what is locked names a newer key, so that he cannot go on with an older one
        attack(scene)
    assert list(scene.chain.store.rows())[: len(before)] == before
    if not is_written_over(scene.chain.store):
        assert attack not in CHANGING
        return
    for key, known in ((None, []), (KEY, []), (KEY, [scene.kept])):
        assert scene.chain.verify(key, known).result is Result.FAILED
    assert scene.chain.verify(KEY, anchored=ask_all([scene.anchor], scene.chain)).result is Result.FAILED


# --- At the next place, where there is nothing that a lock keeps


def kinds(found):
    return {(finding.kind, finding.sequence) for finding in found.findings}


def put_next(scene, change=lambda loot: None, signer=None):
    """One more event, as the sealer would put it, changed before it is."""
    loot = steal(scene.chain.store)
    loot.rows.append([*loot.rows[-1]])
    loot.edit(-1, sequence=13, previous_hash=loot.rows[-2][AT["event_hash"]], event_id=make_event().event_id)
    loot.heads.append(loot.heads[-1]._replace(tree_size=14, first_sequence=13))
    change(loot)
    before = loot.rows[:13]
    loot.relink(ORIGIN)
    loot.resign(ORIGIN, signer)
    loot.rows[:13], loot.heads[:4] = before, steal(scene.chain.store).heads
    put_next_object(scene.chain.store, loot)


def put_next_object(store, loot):
    store._bucket.put_new(f"{store._prefix}{key_of(13)}", as_object(loot.rows[13:], loot.heads[4], ORIGIN))


def test_an_event_that_is_put_at_the_next_place_without_the_key_is_found(scene):
    put_next(scene, signer=THIEFS)
    assert kinds(scene.chain.verify(KEY)) == {("checkpoint.signature", 14)}


def test_the_same_event_twice_with_the_key_is_found(scene):
    put_next(scene, lambda loot: loot.edit(-1, event_id=loot.rows[5][AT["event_id"]]), OURS)
    assert kinds(scene.chain.verify(KEY)) == {("duplicate", 13)}


def test_a_clock_that_was_turned_back_with_the_key_is_a_warning(scene):
    def turn_back(loot):
        loot.edit(-1, timestamp="2020-01-01T00:00:00.000000Z")
        loot.heads[-1] = loot.heads[-1]._replace(sealed_at="2020-01-01T00:00:00.000000Z")

    put_next(scene, turn_back, OURS)
    found = scene.chain.verify(KEY)
    assert (found.findings, [warning.kind for warning in found.warnings]) == ((), ["clock"])


def test_an_event_from_another_chain_at_the_next_place_is_found(scene):
    other = AuditChain(MemoryStore(), lambda: OURS, "example.com/other")
    seal(other, [make_event(n) for n in range(13)])
    loot = steal(scene.chain.store)
    loot.rows.append(list(other.store.row(13)))
    loot.heads.append(loot.heads[-1]._replace(tree_size=14, first_sequence=13))
    put_next_object(scene.chain.store, loot)
    assert ("edited", 13) in kinds(scene.chain.verify(KEY))


def test_what_is_put_there_with_the_key_is_a_lie_like_any_other_and_is_not_found(scene):
    put_next(scene, signer=OURS)
    assert scene.chain.verify(KEY, [scene.kept]).result is Result.OK
