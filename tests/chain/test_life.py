"""The life of a key, and a restored backup: what each statement changes, and whose it has to be."""

from dataclasses import replace
from datetime import timedelta
from itertools import count, pairwise

import pytest

from audit_core.chain import AuditChain
from audit_core.chain.known import Answer, Kept
from audit_core.chain.seen import Seen
from audit_core.chain.statements import acknowledge, find_lost, revoke, rotate
from audit_core.draft import draft_of
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.keyring import Keyring, rotation
from audit_core.integrity.note import VerifierKey, format_note, open_note
from audit_core.integrity.statement import STATEMENTS, Statement
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.stores.memory import MemoryStore
from audit_core.testing import ORIGIN, make_event, seal
from audit_core.testing.making import NOON
from tests.attacks.attacker import AT, put_back, steal
from tests.attacks.scenes import STORES, empty_store

SIGNERS = [LocalSigner(letter * 32) for letter in (b"k", b"n", b"m", b"t")]
FIRST, SECOND, THIRD, THIEFS = KEYS = [VerifierKey(ORIGIN, signer.public_key) for signer in SIGNERS]
KINDS = pytest.mark.parametrize("chain", STORES, indirect=True)


@pytest.fixture
def chain(request, tmp_path):
    """13 events under checkpoints of 4, 8, 9 and 13, on every store; else in memory."""
    kind = getattr(request, "param", "memory")
    with empty_store(kind, tmp_path) as store:
        chain = made_by(0, store)
        for batch in (3, 4, 1, 4):
            seal(chain, [make_event(n, actor_id="42") for n in range(batch)])
        yield chain


def made_by(number, store):
    """The chain in a process that has this key."""
    return AuditChain(store, lambda: SIGNERS[number], ORIGIN)


def turn(chain, number, *, lost=False):
    """Rotate, and the chain in a process with the new key."""
    with chain.store.transaction(patient=True) as connection:
        rotate(chain, SIGNERS[number], make_event(20), connection, lost=lost)
    return made_by(number, chain.store)


def grow(chain, count=3):
    seal(chain, [make_event(30 + n, actor_id="42") for n in range(count)])
    return chain


def events_for_ever():
    return (make_event(40) for _ in count())


def answer(*notes, kept_at=None, where="the folder"):
    return Answer(where, [Kept(note, kept_at, is_attested=kept_at is not None) for note in notes])


def kinds(found):
    return [finding.kind for finding in found.findings]


def warned(found):
    return [finding.kind for finding in found.warnings]


# --- Rotation


@KINDS
def test_after_two_rotations_whoever_has_pinned_any_of_the_keys_finds_the_trail_sound(chain):
    notes = [chain.checkpoint_note()]
    for number in (1, 2):
        chain = turn(chain, number)
        notes.append(chain.checkpoint_note())
        notes.append(grow(chain).checkpoint_note())
    for key in (FIRST, SECOND, THIRD):
        found = chain.verify(key, notes)
        assert (found.result, found.findings, found.warnings, found.anchored) == (Result.OK, (), (), 21)
    assert kinds(chain.verify(THIEFS, notes))[:1] != []
    assert chain.key == THIRD
    assert open_note(notes[-1], THIRD)
    assert open_note(notes[1], FIRST), "the old key signs the checkpoint of the rotation"


def test_a_process_that_still_has_the_old_key_seals_nothing_more_from_the_very_rotation_on(chain):
    other = made_by(0, chain.store)
    grow(other)
    new = turn(other, 1)
    for _ in range(2):
        for old in (chain, other, made_by(0, chain.store)):
            with pytest.raises(ConfigurationError, match=r"was replaced by event 16 \(`audit key rotate`\)"):
                grow(old)
        grow(new)
    with pytest.raises(ConfigurationError, match="is not the trail's"):
        grow(made_by(3, chain.store))


def test_a_key_that_never_signed_for_itself_is_not_followed(chain):
    says = rotation(FIRST, SECOND, lost=False)
    with chain.store.transaction() as connection:
        chain.state("key.rotated", says, make_event(20), connection)  # signed by the old key alone
    found = chain.verify(FIRST)
    assert (kinds(found), warned(found), chain.key) == ([], ["statement"], FIRST)
    with pytest.raises(ConfigurationError, match="is not the trail's"):
        grow(made_by(1, chain.store))
    grow(made_by(0, chain.store))


@pytest.mark.parametrize("signers", [[SIGNERS[1]], [SIGNERS[1], SIGNERS[3]], []])
def test_a_rotation_that_the_old_key_has_not_signed_is_not_followed(chain, signers):
    superuser_says(chain, "key.rotated", rotation(FIRST, SECOND, lost=False), signers)
    chain = grow(made_by(0, chain.store))
    found = chain.verify(FIRST)
    assert (kinds(found), warned(found), chain.key) == ([], ["statement"], FIRST)


def test_a_rotation_that_only_an_index_tells_of_makes_no_key_the_trails(chain, monkeypatch):
    backup = steal(chain.store)
    turn(chain, 1)
    ghost = chain.store.row(13)
    put_back(chain.store, backup)
    monkeypatch.setattr(chain.store, "select", lambda query: iter([ghost] if query.action == "key.rotated" else []))
    assert kinds(made_by(0, chain.store).verify(SECOND)) == ["key"]


def superuser_says(chain, kind, says, signers):
    """As whoever can write every table, and has a key of his own; the chain's own process is made to seal it."""
    edge = chain.store.extent().events
    said = Statement(ORIGIN, kind, edge, chain.store.row(edge - 1)[-1], says).sign(signers)
    event = make_event(40, action=kind, resource_type="trail", resource_id=ORIGIN, details=said)
    chain._speaks_for_us = lambda row: False
    seal(chain, [event])


def test_nothing_is_sealed_over_a_rotation_whose_checkpoint_was_forged(chain):
    new = turn(chain, 1)
    loot = steal(new.store)
    loot.heads[-1] = loot.heads[-1]._replace(signature=loot.heads[0].signature)
    put_back(new.store, loot)
    with pytest.raises(IntegrityError, match="is not signed with the trail's key"):
        grow(made_by(1, new.store))


def test_what_was_seen_is_gone_on_from_only_under_the_first_key_that_it_began_with(chain):
    new = grow(turn(chain, 1))
    seen = new.verify(FIRST).seen
    loot = steal(new.store)
    loot.edit(0, details=loot.rows[0][AT["details"]].replace(str(FIRST), str(THIEFS)))
    put_back(new.store, loot)
    assert "edited" in kinds(new.verify(None, seen=seen))


def test_a_key_is_never_taken_twice(chain):
    new = turn(chain, 1)
    for number in (0, 1):
        with pytest.raises(ConfigurationError, match="is, or was, a key of this trail"):
            turn(new, number)


def test_verification_goes_on_over_a_rotation_from_what_was_seen_before_and_after_it(chain):
    before = chain.verify(FIRST).seen
    new = grow(turn(chain, 1))
    for pinned in (FIRST, SECOND):
        found = new.verify(pinned, seen=before)
        assert (found.result, found.start, found.findings) == (Result.OK, 13, ())
        after = Seen.parse(found.seen.to_json())
        assert after == found.seen == new.verify(pinned).seen
        grow(new)
        again = new.verify(pinned, seen=after)
        assert (again.result, again.findings, again.start > 13) == (Result.OK, (), True)
        assert new.verify(pinned, seen=after, whole=True).result is Result.OK
    assert kinds(new.verify(THIEFS, seen=after))


def test_a_checkpoint_signed_by_a_retired_key_is_a_finding(chain):
    new = grow(turn(chain, 1))
    loot = steal(new.store)
    loot.resign(ORIGIN, SIGNERS[0])  # the thief of the old key signs all of it
    put_back(new.store, loot)
    found = new.verify(FIRST)
    assert (found.result, set(kinds(found))) == (Result.FAILED, {"checkpoint.signature"})
    assert [finding.sequence for finding in found.findings] == [17]


def test_what_an_anchor_keeps_must_be_signed_by_the_key_of_its_time(chain):
    old = chain.checkpoint_note()
    new = grow(turn(chain, 1))
    newest = new.checkpoint_note()
    text = open_note(newest, SECOND)
    by_the_old_key = format_note(text, [(ORIGIN, sign(text, 0))])
    assert new.verify(FIRST, anchored=[answer(old, newest)]).result is Result.OK
    found = new.verify(FIRST, anchored=[answer(old, by_the_old_key)])
    assert (kinds(found), found.findings[0].got) == (["known"], f"one signed by {SECOND}")
    seen = grow(new).verify(FIRST).seen
    assert new.verify(FIRST, seen=seen, anchored=[answer(old, newest)]).start == 20
    assert kinds(new.verify(FIRST, seen=seen, anchored=[answer(by_the_old_key)])) == ["known"]


def sign(text, number):
    from audit_core.integrity.note import sign_text

    return sign_text(text, ORIGIN, SIGNERS[number])


def test_a_statement_holds_at_its_own_place_alone(chain):
    new = turn(chain, 1)
    row = new.store.row(13)
    copied = make_event(
        50, action=row[AT["action"]], resource_type="trail", resource_id=ORIGIN, details=dict(details(row))
    )
    seal(grow(new), [copied])
    found = new.verify(FIRST)
    assert (found.result, warned(found)) == (Result.UNANCHORED, ["statement"])
    fork = MemoryStore()
    seal(made_by(0, fork), [make_event(n, actor_id="43") for n in range(12)])
    loot = steal(fork)
    loot.rows.append(list(row))
    loot.relink(ORIGIN)
    loot.heads.append(new.store.head()._replace(first_sequence=13, tree_size=14))
    loot.resign(ORIGIN, SIGNERS[0])
    put_back(fork, loot)
    assert made_by(0, fork).key == FIRST, "another history of the same length, and the same rotation"


def details(row):
    from audit_core.canonical import decode

    return decode(row[AT["details"]])


def test_a_statement_is_never_read_as_a_checkpoint():
    from audit_core.integrity.checkpoint import Checkpoint

    text = Statement(ORIGIN, "key.rotated", 5, "0" * 64, {"old": "a", "new": "b"}).text()
    with pytest.raises(IntegrityError):
        Checkpoint.parse(text)
    with pytest.raises(IntegrityError):
        Checkpoint(text.split("\n")[0], 5, b"0" * 32)


@pytest.mark.parametrize("lost", [False, True])
def test_who_puts_a_statement_into_the_outbox_is_not_followed_even_if_it_would_hold_there(chain, lost):
    edge = chain.store.row(12)
    says = rotation(FIRST, THIEFS, lost=lost)
    signers = [SIGNERS[3]] if lost else [SIGNERS[0], SIGNERS[3]]  # the application's own process may hold the key
    said = Statement(ORIGIN, "key.rotated", 13, edge[-1], says).sign(signers)
    event = make_event(action="key.rotated", resource_type="trail", resource_id=ORIGIN, details=said)
    with chain.store.transaction() as connection:
        chain.append_drafts([draft_of(event)], connection)
    assert (chain.key, chain.store.row(13)[AT["action"]]) == (FIRST, "outbox.unreadable")
    assert kinds(grow(chain).verify(FIRST)) == []


def test_an_applications_own_keys_are_rotated_without_a_word_of_ours(chain):
    seal(chain, [make_event(action="key.rotated", resource_type="api_key", resource_id="7", details={"says": {}})])
    assert chain.verify(FIRST).warnings == ()


# --- A key that was lost


def test_a_lost_key_is_replaced_and_only_whoever_pins_the_new_one_finds_it_sound(chain):
    old = chain.checkpoint_note()
    new = turn(made_by(1, chain.store), 1, lost=True)
    assert open_note(new.checkpoint_note(), SECOND), "the old one can sign no checkpoint"
    with pytest.raises(ConfigurationError, match="was replaced by event 13"):
        grow(chain)
    grow(new)
    found = new.verify(FIRST, [old])
    assert (found.result, kinds(found), found.findings[0].sequence) == (Result.FAILED, ["key.lost"], 13)
    assert new.verify(FIRST, seen=chain_seen(new)).result is Result.FAILED
    for pinned in (SECOND, None):
        found = new.verify(pinned, [old])
        assert (found.result, warned(found)) == (Result.OK, ["key.lost"])


def chain_seen(chain):
    return chain.verify(SECOND).seen


# --- A key that was stolen


def stolen(chain, since, *, key=FIRST):
    with chain.store.transaction() as connection:
        revoke(chain, key, make_event(60), connection, since=since, reason="laptop")


def test_what_was_anchored_before_the_theft_is_safe_and_what_the_stolen_key_signed_after_it_is_warned_of(chain):
    early = chain.checkpoint_note()
    grow(chain)
    late = chain.checkpoint_note()
    new = grow(turn(chain, 1))
    stolen(new, NOON)
    grow(new)
    answers = [answer(early, kept_at=NOON - timedelta(hours=1)), answer(late, kept_at=NOON + timedelta(hours=1))]
    found = new.verify(SECOND, anchored=answers)
    assert (found.result, warned(found)) == (Result.OK, ["key.revoked"])
    (warning,) = found.warnings
    assert (warning.sequence, "events 13 to 16" in warning.expected) == (13, True)
    (warning,) = new.verify(SECOND, anchored=answers[1:]).warnings
    assert warning.sequence == 0, "nothing was anchored before"
    undated = answer(early)
    assert new.verify(SECOND, anchored=[undated]).warnings[0].sequence == 0, "nobody says since when it is there"


def test_what_the_key_before_the_stolen_one_has_signed_is_safe_for_whoever_has_pinned_that(chain):
    last = grow(turn(grow(turn(chain, 1)), 2))
    stolen(last, NOON, key=SECOND)
    assert last.verify(FIRST).warnings[0].sequence == 14
    assert last.verify(SECOND).warnings[0].sequence == 0, "the thief could have written all of it anew"
    seen = last.verify(FIRST).seen
    grow(last)
    assert warned(last.verify(FIRST, seen=seen)) == ["key.revoked"], "it is said each time"


def test_a_key_is_revoked_by_the_present_one_and_only_if_it_was_one(chain):
    with pytest.raises(ConfigurationError, match="rotate` first"):
        stolen(chain, NOON)
    with pytest.raises(ConfigurationError, match="never had the key"):
        stolen(chain, NOON, key=THIEFS)
    new = turn(chain, 1)
    with pytest.raises(ConfigurationError, match="was replaced"):
        stolen(chain, NOON)
    says = {"key": str(FIRST), "since": "2026-01-01T12:00:00.000000Z", "reason": "to make trouble"}
    superuser_says(grow(new), "key.revoked", says, [SIGNERS[0]])
    assert warned(new.verify(SECOND)) == ["statement"], "the key itself is not the one that revokes it"
    for _ in range(2):  # whoever says it twice is heard once
        stolen(new, NOON)
        assert warned(new.verify(SECOND)) == ["statement", "key.revoked"]


def test_of_many_keys_none_is_compared_with_each_other(monkeypatch):
    signers = [LocalSigner(bytes([number]) * 32) for number in range(100)]
    ring, compared = Keyring.begin(VerifierKey(ORIGIN, signers[0].public_key)), []
    monkeypatch.setattr(VerifierKey, "__eq__", lambda one, other: compared.append(1) or str(one) == str(other))
    for place, (old, new) in enumerate(pairwise(signers), 1):
        says = rotation(*(VerifierKey(ORIGIN, one.public_key) for one in (old, new)), lost=False)
        for kind, said in (("key.rotated", says), ("key.revoked", SAYS | {"key": says["old"]})):
            statement = Statement(ORIGIN, kind, 2 * place, "0" * 64, said)
            assert ring.follow(replace(statement, signatures=tuple(statement.sign([old, new])["signatures"])))
    assert (len(ring.keys), len(ring.revocations)) == (100, 99)
    assert len(compared) < 1_000


# --- What only looks like a statement

NONSENSE = (None, True, 5, "", "x", [], [5], [[1]], [[1, 2, 3]], {}, {"/details": 5}, {"details": [[0, 0]]})
SAYS = {
    "old": str(FIRST), "new": str(SECOND), "key": str(FIRST), "since": "2026-01-01T12:00:00.000000Z", "reason": "why",
    "abandoned": [[9, ""]], "lost_from": 2, "lost": 7, "same": 2, "keys": [], "archive": 3, "month": "2026-01",
    "events": 1, "first": 1, "last": 1, "bytes": 9, "hashes": "0" * 64, "object": "name", "sha256": "0" * 64,
    "place": "file:///", "kind": "actor", "name": "ada", "hold": 3, "erased": {"/details": [[0, 0]]},
    "basis": "why", "approved_by": "ada",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(STATEMENTS))
def test_whatever_a_statement_says_it_ends_no_verification(kind):
    for name in SAYS:
        rest = {one: value for one, value in SAYS.items() if one != name}
        for says in (rest, *({**rest, name: value} for value in NONSENSE)):
            statement = Statement(ORIGIN, kind, 5, "0" * 64, says)
            assert not Keyring.begin(FIRST).follow(statement)
            signatures = tuple(statement.sign(SIGNERS[:2])["signatures"])
            assert Keyring.begin(FIRST).follow(replace(statement, signatures=signatures)) in {True, False}


def test_an_event_of_somebody_who_may_only_record_stops_neither_verification_nor_anchors(chain):
    for says in ({"key": 5}, {"erased": [], "basis": 1}):
        details = {"says": says, "signatures": []}
        action = "key.revoked" if "key" in says else "trail.erased"
        seal(chain, [make_event(action=action, resource_type="trail", resource_id=ORIGIN, details=details)])
    note = grow(chain).checkpoint_note()
    found = chain.verify(FIRST, [note])
    assert (found.result, warned(found)) == (Result.OK, ["statement", "statement"])


# --- A backup that was put back


@pytest.fixture
def restored(request, tmp_path):
    """A chain of 13 events, of which 20 were anchored: the notes of 13, 16 and 20."""
    with empty_store(getattr(request, "param", "memory"), tmp_path) as store:
        chain = made_by(0, store)
        seal(chain, [make_event(n) for n in range(12)])
        backup, notes = steal(store), [chain.checkpoint_note()]
        notes += [grow(chain, more).checkpoint_note() for more in (3, 4)]
        put_back(store, backup)
        yield made_by(0, store), notes


def say_restored(chain, answers, reason="disk failure", held=(), *, replaced=False):
    lost = find_lost(chain, answers, held, replaced=replaced)
    with chain.store.transaction(patient=True) as connection:
        acknowledge(chain, lost, events_for_ever(), connection, reason=reason, held=held)
    return lost


@pytest.mark.parametrize("restored", STORES, indirect=True)
def test_an_acknowledged_backup_is_sound_with_a_warning_which_events_were_lost(restored):
    chain, notes = restored
    answers = [answer(*notes)]
    assert set(kinds(chain.verify(FIRST, anchored=answers))) == {"truncated"}
    lost = say_restored(chain, answers)
    assert (lost.first, lost.events, [size for size, _ in lost.trees]) == (13, 7, [16, 20])
    for _ in range(2):
        found = chain.verify(FIRST, anchored=answers)
        assert (found.result, found.findings, warned(found), found.anchored) == (Result.OK, (), ["restored"], 13)
        (warning,) = found.warnings
        assert (warning.sequence, "7 events from sequence 13 on" in warning.expected) == (13, True)
        grow(chain, 20)
    newest = chain.checkpoint_note()
    found = chain.verify(FIRST, anchored=[answer(*notes, newest)])
    assert (found.result, found.anchored) == (Result.OK, chain.store.extent().events)
    assert find_lost(chain, [answer(*notes, newest)]).trees == []


def test_the_verifiers_memory_of_the_lost_events_accepts_the_backup_once_it_is_acknowledged(restored):
    chain, _ = restored
    ahead = made_by(0, MemoryStore())
    put_back(ahead.store, steal(chain.store))
    grow(ahead)
    seen = ahead.verify(FIRST).seen
    assert kinds(chain.verify(FIRST, seen=seen)) == ["truncated"]
    say_restored(chain, [answer(seen.note)])
    found = chain.verify(FIRST, seen=seen)
    assert (found.result, warned(found), found.start) == (Result.UNANCHORED, ["restored"], 0)
    grow(chain)
    again = chain.verify(FIRST, seen=found.seen)
    assert (again.result, warned(again), again.start) == (Result.OK, ["restored"], 14)


def test_a_backup_that_was_sealed_on_before_anybody_saw_is_acknowledged_as_a_fork(restored):
    chain, notes = restored
    grow(chain, 9)
    answers = [answer(*notes)]
    assert set(kinds(chain.verify(FIRST, anchored=answers))) == {"known"}
    lost = say_restored(chain, answers)
    assert (lost.first, lost.events) == (13, 7)
    found = chain.verify(FIRST, anchored=answers)
    assert (found.result, warned(found)) == (Result.OK, ["restored"])


def test_a_backup_whose_key_was_replaced_before_anybody_saw_is_acknowledged_with_the_new_one(restored):
    chain, notes = restored
    chain, answers = grow(turn(chain, 1)), [answer(*notes)]
    assert set(kinds(chain.verify(SECOND, anchored=answers))) == {"known"}
    assert find_lost(chain, answers).trees == [], "the thief of the old key could stop the sealer by such trees"
    lost = say_restored(chain, answers, replaced=True)
    assert (lost.first, lost.events, lost.keys, [size for size, _ in lost.trees]) == (13, 7, [], [16, 20])
    for key in (FIRST, SECOND):
        found = chain.verify(key, anchored=answers)
        assert (found.result, found.findings, warned(found), found.anchored) == (Result.OK, (), ["restored"], 13)
    assert find_lost(chain, answers, replaced=True).trees == []


def test_the_thief_of_an_earlier_key_stops_no_sealer(chain):
    forger = made_by(0, MemoryStore())
    forged = grow(forger, 5).checkpoint_note()
    new = turn(chain, 1)
    assert find_lost(new, [answer(forged)]).trees == []
    assert [size for size, _ in find_lost(new, [answer(forged)], replaced=True).trees] == [6]


def test_only_the_trees_that_are_named_are_abandoned(restored):
    chain, notes = restored
    say_restored(chain, [answer(*notes[:2])])
    found = chain.verify(FIRST, anchored=[answer(*notes)])
    assert (kinds(found), warned(found)) == (["truncated"], ["restored"])
    grow(chain, 9)
    newest = chain.checkpoint_note()
    loot = steal(chain.store)
    loot.edit(15, actor_id="43")
    loot.relink(ORIGIN)
    loot.resign(ORIGIN, SIGNERS[0])
    put_back(chain.store, loot)
    assert "known" in kinds(chain.verify(FIRST, anchored=[answer(newest)])), "what came after it is anchored anew"


def test_a_superuser_without_the_key_cannot_explain_away_what_is_anchored(restored):
    chain, notes = restored
    (tree,) = find_lost(chain, [answer(notes[2])]).trees
    says = {"abandoned": [list(tree)], "lost_from": 13, "lost": 7, "same": 13, "reason": "disk failure"}
    said = Statement(ORIGIN, "trail.restored", 13, chain.store.row(12)[-1], says).sign([SIGNERS[3]])
    event = make_event(action="trail.restored", resource_type="trail", resource_id=ORIGIN, details=said)
    seal(chain, [event])
    found = chain.verify(FIRST, anchored=[answer(*notes)])
    assert (set(kinds(found)), warned(found)) == ({"truncated"}, ["statement"])


@pytest.fixture
def older(restored):
    """The same, from before a rotation; its notes, and one that the new key has signed."""
    chain, notes = restored
    backup = steal(chain.store)
    new = grow(turn(chain, 1))
    notes = [notes[0], new.checkpoint_note()]
    put_back(chain.store, backup)
    return made_by(0, chain.store), notes


def test_a_backup_from_before_a_rotation_is_acknowledged_by_both_keys(older):
    chain, notes = older
    answers = [answer(*notes)]
    assert set(kinds(chain.verify(FIRST, anchored=answers))) == {"known"}
    lost = say_restored(chain, answers, held=SIGNERS[:2])
    assert (lost.events, lost.keys) == (4, [SECOND])
    for _ in range(2):
        found = chain.verify(FIRST, anchored=answers)
        assert (found.result, warned(found)) == (Result.OK, ["restored"])
        grow(chain, 9)
    again = grow(turn(chain, 1))
    for key in (FIRST, SECOND):
        assert again.verify(key, anchored=answers).result is Result.OK


def test_the_thief_of_an_old_key_cannot_excuse_what_the_new_one_has_signed(older):
    chain, notes = older
    tree = notes[1].split("\n")[1:3]
    says = {"abandoned": [[int(tree[0]), tree[1]]], "lost_from": 13, "lost": 4, "same": 13, "reason": "disk failure"}
    for more in ({}, {"keys": [str(SECOND)]}):
        with chain.store.transaction() as connection:
            chain.state("trail.restored", says | more, make_event(40), connection)
        assert set(kinds(chain.verify(FIRST, anchored=[answer(*notes)]))) == {"known"}


def test_a_statement_that_only_an_index_tells_of_excuses_nothing(restored, monkeypatch):
    chain, notes = restored
    say_restored(chain, [answer(*notes)])
    ghost = chain.store.row(13)
    loot = steal(chain.store)
    loot.rows.pop()
    loot.heads.pop()
    put_back(chain.store, loot)
    monkeypatch.setattr(chain.store, "select", lambda query: iter([ghost] if query.action == "trail.restored" else []))
    found = chain.verify(FIRST, anchored=[answer(*notes)])
    assert (found.result, set(kinds(found))) == (Result.FAILED, {"truncated"})


def test_what_is_sealed_after_a_restored_backup_did_not_happen_before_what_was_anchored(restored):
    chain, notes = restored
    answers = [answer(notes[2], kept_at=NOON + timedelta(days=9999))]
    say_restored(chain, answers)
    grow(chain)
    assert "clock" in kinds(chain.verify(FIRST, anchored=answers))


def test_a_year_of_lost_checkpoints_takes_several_statements_and_one_warning(restored):
    chain, notes = restored
    trees = [(20 + number, "A" * 43 + "=") for number in range(1000)]
    lost = find_lost(chain, [answer(notes[2])])._replace(trees=trees)
    with chain.store.transaction() as connection:
        acknowledge(chain, lost, events_for_ever(), connection, reason="disk failure")
    assert [chain.store.row(n)[AT["action"]] for n in (13, 14, 15)] == ["trail.restored"] * 3
    assert warned(chain.verify(FIRST)) == ["restored"]
    assert chain.keyring.abandons_size(700)


# --- Proofs


def old_with(proof, old):
    """The proof from before the rotations, with the records of those."""
    return replace(old, rotations=proof.rotations)


def test_a_proof_is_checked_with_the_key_of_its_time_or_one_that_leads_to_it(chain):
    old = chain.prove(5)
    new = grow(turn(grow(turn(chain, 1)), 2))
    proof = new.prove(5)
    for key in (FIRST, SECOND, THIRD):
        assert proof.check(key).size == 21
    old.check(FIRST)
    with pytest.raises(ConfigurationError, match="signed before the key that you gave came to sign"):
        old_with(proof, old).check(SECOND)
    for wrong in (THIEFS, VerifierKey("example.com/other", SIGNERS[0].public_key)):
        with pytest.raises(IntegrityError):
            proof.check(wrong)
    with pytest.raises(IntegrityError):
        replace(proof, rotations=proof.rotations[1:]).check(FIRST)
    with pytest.raises(IntegrityError):
        replace(proof, rotations=tuple(one.replace("rotated", "revoked") for one in proof.rotations)).check(FIRST)


def test_a_proof_under_a_key_that_replaced_a_lost_one_is_not_checked_with_that(chain):
    proof = turn(made_by(1, chain.store), 1, lost=True).prove(5)
    proof.check(SECOND)
    with pytest.raises(IntegrityError):
        proof.check(FIRST)
