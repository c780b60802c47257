"""Each line of what must be detected, by its name, and each of what is said not to be."""

import base64
import sqlite3

import pytest

from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain, make_event, seal
from tests.attacks.attacker import AT, put_back, steal
from tests.attacks.scenes import STORES, empty_store
from tests.reports.trails import tamper

LOG = "example.com/test"
KEY = VerifierKey(LOG, LocalSigner(b"k" * 32).public_key)
THIEF = LocalSigner(b"t" * 32)
PRISTINE = 13  # log.created and twelve events, under checkpoints of 4, 8, 9 and 13


def build(store):
    if not store.is_created():
        store.create()
    chain = make_chain(store)
    for batch in (3, 4, 1, 4):
        seal(
            chain,
            [
                make_event(
                    n,
                    actor_id="42",
                    actor_type="user",
                    resource_type="patient",
                    resource_id=str(n),
                    details={"changes": {"name": {"old": "Ada", "new": "Eve"}}},
                    ip_address="192.0.2.7",
                    user_agent="curl/8",
                    request_id="r-1",
                    session_id="s-1",
                    tenant_id="north",
                    source="clinic",
                    on_behalf_of="7",
                )
                for n in range(batch)
            ],
        )
    return chain


@pytest.fixture(params=STORES)
def chain(request, tmp_path):
    with empty_store(request.param, tmp_path) as store:
        yield build(store)


def kinds(verification):
    return {(finding.kind, finding.sequence) for finding in verification.findings}


def changed(loot, place, **columns):
    loot.edit(place, **columns)
    return loot


def attack(chain, change):
    loot = steal(chain.store)
    change(loot)
    put_back(chain.store, loot)
    return chain.verify(KEY)


def test_an_untouched_chain_has_no_finding_and_is_not_called_ok_without_an_anchor(chain):
    found = chain.verify(KEY)
    assert found.findings == found.warnings == ()
    assert found.result is Result.UNANCHORED
    assert found.size == PRISTINE


def test_a_checkpoint_kept_elsewhere_makes_it_ok_and_still_does_after_growth(chain):
    note = chain.checkpoint_note()
    assert chain.verify(KEY, [note]).result is Result.OK
    seal(chain, [make_event()])
    assert chain.verify(KEY, [note]).result is Result.OK
    assert chain.verify(KEY, [note]).anchored == PRISTINE


EDITS = {
    "action": "update!",
    "actor_id": "43",
    "actor_type": "admin",
    "details": '{"changes":{"name":{"new":"Eve","old":"Bob"}}}',
    "event_id": "00000000-0000-7000-8000-000000000000",
    "ip_address": "192.0.2.8",
    "on_behalf_of": None,
    "outcome": "denied",
    "private": "0",
    "request_id": "r-2",
    "resource_id": "9",
    "resource_type": "note",
    "session_id": None,
    "source": "",
    "tenant_id": "south",
    "timestamp": "2020-01-01T00:00:00.000000Z",
    "user_agent": "curl/9",
}


@pytest.mark.parametrize("column", EDITS)
def test_an_edit_of_any_field_of_a_sealed_event_is_found_and_named(chain, column):
    found = attack(chain, lambda loot: loot.edit(5, **{column: EDITS[column]}))
    assert found.result is Result.FAILED
    assert kinds(found) == {("edited", 5)}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("outcome", b"success"),
        ("details", b"{}"),
        ("details", '{ "changes":{"name":{"new":"Eve","old":"Ada"}}}'),
        ("tenant_id", b"north"),
    ],
)
def test_a_value_that_only_looks_the_same_is_an_edit(chain, column, value):
    if chain.store.name == "postgresql":
        pytest.skip("it has a type for each column, which knows no two forms: see test_postgres.py")
    if chain.store.name == "s3":
        pytest.skip("a line of JSON has no bytes, and what it says is compared, not its spaces")
    assert ("edited", 5) in kinds(attack(chain, lambda loot: loot.edit(5, **{column: value})))


def test_moving_text_from_one_field_into_its_neighbour_is_an_edit(chain):
    found = attack(chain, lambda loot: loot.edit(5, request_id='r-1","resource_id":"1', resource_id=None))
    assert ("edited", 5) in kinds(found)


def test_a_deletion_in_the_middle_is_found_and_named(chain):
    found = attack(chain, lambda loot: loot.rows.pop(5))
    assert kinds(found) == {("missing", 5)}


def test_a_deletion_of_several_is_found_and_named_as_one_range(chain):
    found = attack(chain, lambda loot: loot.rows.__delitem__(slice(5, 8)))
    assert kinds(found) == {("missing", 5)}
    assert found.findings[0].expected == "events 5 to 7"


def test_a_deletion_with_new_sequences_after_it_is_found(chain):
    def close_the_gap(loot):
        loot.rows.pop(5)
        for sequence, row in enumerate(loot.rows):
            row[AT["sequence"]] = sequence

    assert ("edited", 5) in kinds(attack(chain, close_the_gap))


def test_an_event_inserted_in_the_middle_is_found(chain):
    def insert(loot):
        forged = list(loot.rows[5])
        forged[AT["event_id"]] = "00000000-0000-7000-8000-000000000000"
        loot.rows.insert(6, forged)
        for sequence, row in enumerate(loot.rows):
            row[AT["sequence"]] = sequence

    found = attack(chain, insert)
    assert ("edited", 6) in kinds(found)
    assert found.result is Result.FAILED


def test_two_events_that_change_places_are_found(chain):
    def swap(loot):
        loot.rows[5], loot.rows[6] = loot.rows[6], loot.rows[5]
        loot.edit(5, sequence=5)
        loot.edit(6, sequence=6)

    assert {("edited", 5), ("edited", 6)} <= kinds(attack(chain, swap))


def test_an_event_from_another_chain_is_found(chain, tmp_path):
    other = AuditChain(MemoryStore(), lambda: LocalSigner(b"k" * 32), "example.com/other")
    seal(other, [make_event(n) for n in range(8)])
    foreign = list(next(other.store.rows(5)))
    assert ("edited", 5) in kinds(attack(chain, lambda loot: loot.rows.__setitem__(5, foreign)))


def test_an_edit_with_its_own_hash_made_new_breaks_the_next_link(chain):
    def edit(loot):
        loot.edit(5, actor_id="43")
        before = [list(row) for row in loot.rows]
        loot.relink(LOG)
        new_hash = loot.rows[5][AT["event_hash"]]
        loot.rows[:] = before
        loot.edit(5, event_hash=new_hash)

    found = attack(chain, edit)
    assert ("unlinked", 6) in kinds(found)


def test_rewriting_everything_with_new_hashes_is_found_by_the_signatures(chain):
    def rewrite(loot):
        loot.edit(5, actor_id="43")
        loot.relink(LOG)
        loot.resign(LOG)

    found = attack(chain, rewrite)
    assert {kind for kind, _ in kinds(found)} == {"checkpoint.signature"}


def test_rewriting_only_what_lies_under_one_checkpoint_is_found_by_its_root(chain):
    def rewrite(loot):
        loot.edit(5, actor_id="43")
        loot.relink(LOG)

    found = attack(chain, rewrite)
    assert ("checkpoint.root", 8) in kinds(found)


def test_rewriting_everything_with_a_key_of_his_own_is_found_by_whoever_has_the_right_key(chain):
    def rewrite(loot):
        loot.edit(0, details=loot.rows[0][AT["details"]].replace(str(KEY), str(VerifierKey(LOG, THIEF.public_key))))
        loot.edit(5, actor_id="43")
        loot.relink(LOG)
        loot.resign(LOG, THIEF)

    found = attack(chain, rewrite)
    assert ("key", 0) in kinds(found)
    assert found.result is Result.FAILED
    # Without a key from outside, the trail is taken at its own word: nothing is found, and it is not called ok.
    assert chain.verify().result is Result.UNANCHORED


def test_with_the_signing_key_everything_can_be_rewritten_and_only_what_was_kept_elsewhere_shows_it(chain):
    note = chain.checkpoint_note()

    def rewrite(loot):
        loot.edit(5, actor_id="43")
        loot.relink(LOG)
        loot.resign(LOG, LocalSigner(b"k" * 32))

    assert attack(chain, rewrite).result is Result.UNANCHORED
    assert kinds(chain.verify(KEY, [note])) == {("known", PRISTINE)}


def cut_off_the_tail(loot):
    del loot.rows[9:]
    loot.heads.pop()


def test_a_cut_tail_with_its_checkpoints_is_not_found_without_an_anchor_and_is_with_one(chain):
    note = chain.checkpoint_note()
    assert attack(chain, cut_off_the_tail).result is Result.UNANCHORED
    found = chain.verify(KEY, [note])
    assert found.result is Result.FAILED
    assert {kind for kind, _ in kinds(found)} == {"truncated"}


def test_a_tail_cut_off_under_its_checkpoints_is_found(chain):
    found = attack(chain, lambda loot: loot.rows.__delitem__(slice(9, None)))
    assert ("missing", 9) in kinds(found)


def test_an_old_backup_is_not_found_without_an_anchor_and_is_with_one(chain):
    backup = steal(chain.store)
    seal(chain, [make_event(99)])
    note = chain.checkpoint_note()
    put_back(chain.store, backup)
    assert chain.verify(KEY).result is Result.UNANCHORED
    assert chain.verify(KEY, [note]).result is Result.FAILED


def test_two_signed_histories_are_proof_of_it_for_whoever_has_seen_both(chain):
    backup = steal(chain.store)
    seal(chain, [make_event(1, actor_id="told to the auditor")])
    note = chain.checkpoint_note()
    put_back(chain.store, backup)
    forked = make_chain(chain.store)
    seal(forked, [make_event(1, actor_id="told to the court")])
    assert forked.verify(KEY).result is Result.UNANCHORED
    assert kinds(forked.verify(KEY, [note])) == {("known", PRISTINE + 1)}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_deleted_checkpoint_is_found(chain, which):
    found = attack(chain, lambda loot: loot.heads.pop(which))
    assert "checkpoint.missing" in {kind for kind, _ in kinds(found)}


def test_a_deleted_last_checkpoint_leaves_events_unsigned(chain):
    assert kinds(attack(chain, lambda loot: loot.heads.pop())) == {("unsigned", 9)}


def test_deleting_all_checkpoints_is_found(chain):
    assert kinds(attack(chain, lambda loot: loot.heads.clear())) == {("unsigned", 0)}


def test_a_replaced_checkpoint_is_found(chain):
    def replace(loot):
        loot.heads[1] = loot.heads[1]._replace(root=loot.heads[0].root, signature=loot.heads[0].signature)

    assert ("checkpoint.signature", 8) in kinds(attack(chain, replace))


def test_emptying_everything_is_found(chain):
    found = attack(chain, lambda loot: (loot.rows.clear(), loot.heads.clear()))
    assert found.result is Result.FAILED
    assert "empty" in {kind for kind, _ in kinds(found)}


def test_the_same_event_twice_is_found(chain):
    def repeat(loot):
        loot.rows.append(list(loot.rows[5]))
        loot.edit(PRISTINE, sequence=PRISTINE)
        loot.relink(LOG)

    assert ("duplicate", PRISTINE) in kinds(attack(chain, repeat))


EARLIER = "2020-01-01T00:00:00.000000Z"


def test_a_clock_turned_back_between_checkpoints_is_a_warning_and_no_failure(chain):
    def turn_back(loot):
        loot.edit(8, timestamp=EARLIER)
        loot.relink(LOG)
        loot.resign(LOG, LocalSigner(b"k" * 32))
        loot.heads[2] = loot.heads[2]._replace(sealed_at=EARLIER)

    found = attack(chain, turn_back)
    assert found.result is Result.UNANCHORED
    assert [finding.kind for finding in found.warnings] == ["clock"]


def test_a_time_that_nobody_signed_warns_of_nothing(chain):
    found = attack(chain, lambda loot: loot.heads.__setitem__(1, loot.heads[1]._replace(sealed_at=EARLIER)))
    assert (found.findings, found.warnings) == ((), ())


def test_an_event_that_is_sealed_late_warns_of_nothing(chain):
    seal(chain, [make_event(-1)])
    assert chain.verify(KEY).warnings == ()


def test_a_wrong_key_never_passes(chain):
    found = chain.verify(VerifierKey(LOG, THIEF.public_key))
    assert found.result is Result.FAILED
    assert ("key", 0) in kinds(found)


def test_a_wrong_key_does_not_pass_on_an_empty_trail(tmp_path):
    chain = make_chain(MemoryStore())
    assert chain.verify(VerifierKey(LOG, THIEF.public_key)).result is Result.FAILED
    with pytest.raises(ConfigurationError, match="nothing to verify"):
        chain.verify()


def test_an_emptied_trail_is_found_by_whoever_holds_its_key_or_a_checkpoint_and_is_never_ok(chain):
    note = chain.checkpoint_note()
    attack(chain, lambda loot: (loot.rows.clear(), loot.heads.clear()))
    assert chain.verify(KEY).result is Result.FAILED
    assert chain.verify(known=[note], own=LocalSigner(b"k" * 32)).result is Result.FAILED
    with pytest.raises(ConfigurationError, match="If it had events, they were removed"):
        chain.verify(own=LocalSigner(b"k" * 32))


def test_a_trail_whose_events_are_gone_and_whose_checkpoints_stay_is_found(chain):
    loot = steal(chain.store)
    loot.rows.clear()
    put_back(chain.store, loot)
    assert chain.verify().result is Result.FAILED


def test_a_key_of_another_origin_never_passes(chain):
    other = VerifierKey("example.com/other", LocalSigner(b"k" * 32).public_key)
    with pytest.raises(ConfigurationError, match=r"the key that you gave is of the trail example\.com/other"):
        chain.verify(other)
    put_back(chain.store, changed(steal(chain.store), 5, actor_id="43"))
    assert ("origin", 0) in kinds(chain.verify(other)), (
        "a trail that is not sound by itself is no mistake of the auditor's"
    )


def test_a_known_checkpoint_of_another_key_is_a_finding(chain):
    note = chain.checkpoint_note()
    found = chain.verify(VerifierKey(LOG, THIEF.public_key), [note])
    assert ("known", PRISTINE) in kinds(found)


def test_a_known_checkpoint_that_was_changed_is_refused(chain):
    with pytest.raises(IntegrityError, match="does not verify"):
        chain.verify(KEY, [chain.checkpoint_note().replace("\n13\n", "\n12\n")])


def test_a_known_checkpoint_of_another_trail_is_refused_only_if_nothing_else_is_wrong(chain):
    other = AuditChain(MemoryStore(), lambda: LocalSigner(b"k" * 32), "example.com/other")
    seal(other, [make_event()])
    with pytest.raises(IntegrityError, match=r"example\.com/other"):
        chain.verify(KEY, [other.checkpoint_note()])
    put_back(chain.store, changed(steal(chain.store), 5, actor_id="43"))
    assert kinds(chain.verify(KEY, [other.checkpoint_note()])) == {("edited", 5)}


def test_every_finding_is_reported_and_not_only_the_first(chain):
    def vandalise(loot):
        loot.edit(2, actor_id="43")
        loot.edit(11, outcome="denied")
        loot.rows.pop(6)

    assert {("edited", 2), ("missing", 6), ("edited", 11)} <= kinds(attack(chain, vandalise))


def test_after_a_gap_the_tree_is_taken_up_again_from_a_signed_frontier(tmp_path):
    store = MemoryStore()
    store.create()
    chain = make_chain(store)
    for _ in range(6):
        seal(chain, [make_event(n) for n in range(100)])

    def vandalise(loot):
        del loot.rows[50:60]
        loot.heads[4] = loot.heads[4]._replace(root=loot.heads[0].root)

    found = attack(chain, vandalise)
    assert kinds(found) == {("missing", 50), ("checkpoint.signature", 501)}


def test_every_bit_of_a_stored_checkpoint_counts():
    chain = build(MemoryStore())
    pristine = chain.store.heads[1]
    for name in ("root", "signature"):
        raw = base64.b64decode(getattr(pristine, name))
        for bit in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[bit // 8] ^= 1 << bit % 8
            chain.store.heads[1] = pristine._replace(**{name: base64.b64encode(flipped).decode()})
            assert chain.verify(KEY).result is Result.FAILED, (name, bit)


def test_every_character_of_a_sealed_record_counts():
    chain = build(MemoryStore())
    pristine = chain.store.events[5]
    for column, value in enumerate(pristine):
        text = str(value)
        for place in range(len(text)):
            other = text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :]
            row = list(pristine)
            row[column] = int(other) if isinstance(value, int) else other
            chain.store.events[5] = tuple(row)
            assert chain.verify(KEY).result is Result.FAILED, (column, place)


class TestSqliteFile:
    @pytest.fixture
    def path(self, tmp_path):
        chain = build(SqliteStore(SqliteDatabase(tmp_path / "trail.db")))
        chain.store.close()
        return tmp_path / "trail.db"

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_events SET actor_id = '43' WHERE sequence = 5",
            "DELETE FROM audit_events WHERE sequence = 5",
            "REPLACE INTO audit_events SELECT * FROM audit_events WHERE sequence = 5",
            "UPDATE audit_checkpoints SET sealed_at = ''",
            "DELETE FROM audit_checkpoints",
            "REPLACE INTO audit_checkpoints SELECT * FROM audit_checkpoints",
        ],
    )
    def test_the_triggers_refuse_what_is_not_an_append(self, path, statement):
        connection = sqlite3.connect(path)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
        connection.close()

    def test_text_that_is_not_utf8_is_a_finding_and_no_crash(self, path):
        tamper(path, "UPDATE audit_events SET actor_id = CAST(x'ff80' AS TEXT) WHERE sequence = 5")
        chain = make_chain(SqliteStore(SqliteDatabase(path)))
        assert kinds(chain.verify(KEY)) == {("edited", 5)}
        chain.store.close()


def test_an_event_below_the_first_sequence_is_found(chain):
    def slip_in(loot):
        forged = list(loot.rows[5])
        forged[AT["sequence"]], forged[AT["event_id"]] = -1, "00000000-0000-7000-8000-000000000000"
        loot.rows.insert(0, forged)

    assert ("misplaced", -1) in kinds(attack(chain, slip_in))


def test_a_checkpoint_of_less_than_nothing_is_found(chain):
    found = attack(chain, lambda loot: loot.heads.insert(0, loot.heads[0]._replace(tree_size=-5, first_sequence=99)))
    assert found.result is Result.FAILED
