"""Values that are kept outside of the records: what is done to them is found, and what was erased stays erased."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import count

import pytest

from audit_core.chain import AuditChain
from audit_core.chain.erasing import RANGES_AT_ONCE, Subject, erase
from audit_core.chain.values import fill
from audit_core.draft import draft_of
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.statement import ABOUT
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.private import KeptValue, make_salts
from audit_core.query import EventQuery
from audit_core.retention.holds import add, lift
from audit_core.rows import from_row
from audit_core.stores.memory import MemoryStore
from audit_core.stores.postgres import PostgresStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.attacks.attacker import put_back, steal, superuser, without_guards
from tests.attacks.scenes import TABLES, empty_store

KEY = VerifierKey(ORIGIN, LocalSigner(b"k" * 32).public_key)
WHO = {"basis": "GDPR Art. 17(1)(b)", "approved_by": "privacy officer"}
OLD, NEW, IP, USER_AGENT = "/details/changes/email/old", "/details/changes/email/new", "/ip_address", "/user_agent"


def told(number, actor="7", patient="1"):
    """Who changed whose address to which."""
    fields = {
        "ip_address": f"192.0.2.{number}",
        "user_agent": "Secret Agent",
        "details": {"changes": {"email": {"old": "same@secret.example", "new": f"{number}@secret.example"}}},
    }
    salts = make_salts(fields, lambda name: name == "email")
    return make_event(number, actor_id=actor, resource_type="patient", resource_id=patient, salts=salts, **fields)


def grow(chain):
    """Events 1 to 4, 8 and 9 have values, of which 3 is about another patient; 5 to 7 have none."""
    seal(chain, [told(n, actor=str(n), patient="2" if n == 3 else "1") for n in range(1, 5)])
    seal(chain, [*(make_event(n) for n in range(3)), told(8, actor="8"), told(9, actor="9")])
    return chain


@pytest.fixture(params=TABLES)
def chain(request, tmp_path):
    with empty_store(request.param, tmp_path) as store:
        yield grow(make_chain(store))


def write(store, gone=(), there=()):
    """As a superuser: remove values by their places, then add some."""
    if isinstance(store, MemoryStore):
        for place in gone:
            del store.values.rows[place]
        store.values.rows.update({(value[0], value[1]): KeptValue(*value) for value in there})
        return
    place = superuser(store) if isinstance(store, PostgresStore) else store.database.transaction(5)
    table, mark = ("audit.audit_private", "%s") if isinstance(store, PostgresStore) else ("audit_private", "?")
    with place as connection:
        for sequence, name in gone:
            connection.execute(f"DELETE FROM {table} WHERE sequence = {mark} AND name = {mark}", (sequence, name))
        for value in there:
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join([mark] * 4)})", tuple(value))


def value(chain, sequence, name):
    return next(one for one in chain.store.values.of([sequence]) if one.name == name)


def exchange(chain, one, other):
    a, b = value(chain, *one), value(chain, *other)
    write(chain.store, [one, other], [(*one, *b[2:]), (*other, *a[2:])])


def change(chain, sequence, name, **columns):
    write(chain.store, [(sequence, name)], [value(chain, sequence, name)._replace(**columns)])


def respelled(salt):
    """Other base64 of the same bytes: two bits of its last character say nothing."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return salt[:-2] + letters[letters.index(salt[-2]) ^ 1] + salt[-1]


def forget(chain, **whose):
    subject = Subject(whose.get("actor"), tuple(whose.get("resources", ())))
    with chain.store.transaction(patient=True) as connection:
        return erase(chain, subject, (make_event(40) for _ in count()), connection, **WHO)


def kinds(chain, **options):
    return [(finding.kind, finding.sequence) for finding in chain.verify(KEY, **options).findings]


ATTACKS = {
    "a value is removed": (lambda chain: write(chain.store, [(1, OLD)]), [("private.missing", 1)]),
    "all values of one event are removed": (
        lambda chain: write(chain.store, [(4, name) for name in (OLD, NEW, IP, USER_AGENT)]),
        [("private.missing", 4)] * 4,
    ),
    "all of one name are removed": (
        lambda chain: write(chain.store, [(n, IP) for n in (1, 2, 3, 4, 8, 9)]),
        [("private.missing", 1), ("private.missing", 8)],
    ),
    "a value is changed": (lambda chain: change(chain, 2, IP, value='"192.0.2.99"'), [("private.changed", 2)]),
    "a value is changed to what reads alike": (
        lambda chain: change(chain, 2, IP, value=' "192.0.2.2"'), [("private.changed", 2)],
    ),
    "a salt is changed": (lambda chain: change(chain, 2, NEW, salt="A" * 43 + "="), [("private.changed", 2)]),
    "a salt is written in another way": (
        lambda chain: change(chain, 2, NEW, salt=respelled(value(chain, 2, NEW).salt)), [("private.changed", 2)],
    ),
    "a salt is none": (lambda chain: change(chain, 2, NEW, salt="\u00e9"), [("private.changed", 2)]),
    "a value is moved to another event": (
        lambda chain: write(chain.store, [(8, IP), (9, IP)], [(9, *value(chain, 8, IP)[1:])]),
        [("private.changed", 9), ("private.missing", 8)],
    ),
    "equal values of two events are exchanged": (
        lambda chain: exchange(chain, (1, OLD), (2, OLD)), [("private.changed", 1), ("private.changed", 2)],
    ),
    "old and new are exchanged": (
        lambda chain: exchange(chain, (1, OLD), (1, NEW)), [("private.changed", 1), ("private.changed", 1)],
    ),
    "a value is added to an event that has some": (
        lambda chain: write(chain.store, [], [(1, "/details/x", "", "")]), [("private.stray", 1)],
    ),
    "a value is added to an event that has none": (
        lambda chain: write(chain.store, [], [(6, IP, *value(chain, 1, IP)[2:])]), [("private.stray", 6)],
    ),
    "a value is added at the end": (
        lambda chain: write(chain.store, [], [(9, "/user_agent2", "", "")]), [("private.stray", 9)],
    ),
    "a value is put where no event is": (
        lambda chain: write(chain.store, [], [(10**12, IP, "", "")]), [("private.stray", 10**12)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_on_the_values_is_found(chain, attack):
    do, expected = ATTACKS[attack]
    assert kinds(chain) == []
    do(chain)
    assert kinds(chain) == expected


def test_values_of_an_event_that_is_no_record_are_compared_with_nothing(tmp_path):
    with empty_store("memory", tmp_path) as store:
        chain = grow(make_chain(store))
        loot = steal(store)
        loot.edit(2, private=None)
        put_back(store, loot)
        assert kinds(chain) == [("edited", 2)]
        write(store, [], [(3, "/details/x", "", "")])
        assert kinds(chain) == [("edited", 2), ("private.stray", 3)]


def test_a_table_that_is_gone_is_found(chain):
    if isinstance(chain.store, MemoryStore):
        pytest.skip("has no table")
    if isinstance(chain.store, PostgresStore):
        with superuser(chain.store) as connection:
            connection.execute("ALTER TABLE audit.audit_private RENAME TO hidden")
    else:
        with chain.store.database.transaction(5) as connection:
            connection.execute("DROP TABLE audit_private")
    found = chain.verify(KEY)
    if isinstance(chain.store, PostgresStore):
        with superuser(chain.store) as connection:
            connection.execute("ALTER TABLE audit.hidden RENAME TO audit_private")
    assert ("private.missing", 1) in [(finding.kind, finding.sequence) for finding in found.findings]
    assert not any("192.0.2" in str(finding) or "secret" in str(finding) for finding in found.findings)


def test_what_was_erased_is_listed_and_accepted_and_everything_else_is_still_checked(chain):
    note = chain.checkpoint_note()
    before, proof = list(chain.store.rows()), chain.prove(2)
    done = forget(chain, resources=[("patient", "1")])
    assert (done.values, done.erased) == (10, {"/details": [(1, 2), (4, 4), (8, 9)]})
    assert list(chain.store.rows())[: len(before)] == before
    found = chain.verify(KEY, [note, chain.checkpoint_note()])
    assert (found.result, found.findings, found.warnings) == (Result.OK, (), ())
    left = {(one.sequence, one.name) for one in chain.store.values.values()}
    assert left == {(n, name) for n in (1, 2, 3, 4, 8, 9) for name in (IP, USER_AGENT)} | {(3, OLD), (3, NEW)}
    assert proof.check(KEY)
    assert chain.prove(2).check(KEY)
    assert "secret" not in proof.record


def test_of_an_actor_the_address_is_erased_and_not_what_he_changed_of_others(chain):
    done = forget(chain, actor="2")
    assert done.erased == {IP: [(2, 2)], USER_AGENT: [(2, 2)]}
    assert kinds(chain) == []
    assert {one.name for one in chain.store.values.of([2])} == {OLD, NEW}


def test_what_is_about_a_type_alone_is_erased_with_whoever_did_it(tmp_path):
    with empty_store("memory", tmp_path) as store:
        chain = make_chain(store)
        seal(chain, [told(1, actor="2", patient=None), told(2, actor="2")])
        assert forget(chain, actor="2").erased == {"/details": [(1, 1)], IP: [(1, 2)], USER_AGENT: [(1, 2)]}
        assert {one.name for one in chain.store.values.of([1, 2])} == {OLD, NEW}
        assert kinds(chain) == []


AFTERWARDS = {
    "an erased value is put back": (lambda chain, old: write(chain.store, [], [old]), [("private.returned", 1)]),
    "an erased value is put back into another event": (
        lambda chain, old: write(chain.store, [], [old._replace(sequence=6)]), [("private.stray", 6)],
    ),
    "another value is removed as well": (lambda chain, _: write(chain.store, [(3, NEW)]), [("private.missing", 3)]),
    "the address of an erased event is removed": (
        lambda chain, _: write(chain.store, [(1, IP)]), [("private.missing", 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", AFTERWARDS)
def test_an_attack_after_an_erasure_is_found(chain, attack):
    do, expected = AFTERWARDS[attack]
    old = value(chain, 1, NEW)
    forget(chain, resources=[("patient", "1")])
    do(chain, old)
    assert kinds(chain) == expected


def test_a_value_that_was_put_back_is_not_read(chain):
    old = value(chain, 1, NEW)
    forget(chain, resources=[("patient", "1")])
    write(chain.store, [], [old])
    read = read_patient(chain)
    assert {event.details["changes"]["email"]["new"] for event in read} == {"[erased]"}
    assert read[0].ip_address == "192.0.2.1"


def test_what_was_changed_or_removed_without_a_statement_is_not_read_as_if_it_were_sealed(chain):
    change(chain, 1, IP, value='"192.0.2.99"')
    write(chain.store, [(2, IP)])
    addresses = [event.ip_address for event in read_patient(chain)]
    assert addresses[:2] == ["[not what was sealed]", "[missing]"]


def read_patient(chain):
    query = EventQuery(resource_type="patient", resource_id="1", newest_first=False)
    return list(fill(map(from_row, chain.store.select(query)), chain.store))


def test_an_event_that_looks_like_an_erasure_excuses_nothing_and_a_stolen_text_stands_nowhere_else(chain):
    done = forget(chain, actor="2")
    true = from_row(chain.store.row(done.statements[0]))
    write(chain.store, [(1, IP)])
    says = {"says": {"erased": {IP: [[1, 1]]}, **WHO}, "signatures": []}
    signed = {"says": says["says"], "signatures": true.details["signatures"]}
    seal(chain, [make_event(50 + n, action="trail.erased", resource_type=ABOUT, resource_id=ORIGIN, details=details)
                 for n, details in enumerate([says, signed, dict(true.details)])])  # fmt: skip
    found = chain.verify(KEY)
    assert [(finding.kind, finding.sequence) for finding in found.findings] == [("private.missing", 1)]
    assert [finding.kind for finding in found.warnings] == ["statement"] * 3


def test_nor_does_one_by_another_key(chain):
    write(chain.store, [(1, IP)])
    thief = AuditChain(chain.store, lambda: LocalSigner(b"t" * 32), ORIGIN)
    with pytest.raises(ConfigurationError, match="is not the trail's"):
        forget(thief, actor="2")


@pytest.mark.parametrize("ranges", [[[1, 99]], [[11, 11]], [[-1, 1]], [[2, 1]], "all", [["1", None]]])
def test_a_statement_about_what_comes_after_it_or_of_another_form_is_not_followed(chain, ranges):
    with chain.store.transaction(patient=True) as connection:
        chain.state("trail.erased", {"erased": {IP: ranges}, **WHO}, make_event(40), connection)
    write(chain.store, [(1, IP)])
    found = chain.verify(KEY)
    assert [(one.kind, one.sequence) for one in found.findings] == [("private.missing", 1)]
    assert [one.kind for one in found.warnings] == ["statement"]


def test_nothing_is_erased_under_a_legal_hold(chain):
    before = list(chain.store.values.values())
    with chain.store.transaction(patient=True) as connection:
        number = add(chain, ("resource", "patient:1"), "case 12", make_event(40), connection)
    with pytest.raises(ConfigurationError, match=r"under the legal hold 10 \(case 12\): nothing was erased"):
        forget(chain, resources=[("patient", "1")])
    assert list(chain.store.values.values()) == before
    assert chain.store.extent().events == 11
    with chain.store.transaction(patient=True) as connection:
        lift(chain, number, "closed", make_event(41), connection)
    assert forget(chain, resources=[("patient", "1")]).values == 10


def test_a_crash_in_the_midst_leaves_everything(chain, monkeypatch):
    if isinstance(chain.store, MemoryStore):
        pytest.skip("has no transaction")
    before = list(chain.store.values.values()), list(chain.store.rows())

    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr(chain.store.values, "erase", fail)
    with pytest.raises(RuntimeError):
        forget(chain, resources=[("patient", "1")])
    assert (list(chain.store.values.values()), list(chain.store.rows())) == before
    monkeypatch.undo()
    assert forget(chain, resources=[("patient", "1")]).values == 10
    assert kinds(chain) == []


def test_an_erasure_while_it_is_verified_is_no_finding(chain):
    done = []

    def interrupt(*_):
        if not done:
            done.append(forget(chain, resources=[("patient", "1")]))

    original = chain.store.checkpoints

    def checkpoints(*args):
        interrupt()  # how far the chain reaches was asked before
        yield from original(*args)

    chain.store.checkpoints = checkpoints
    assert kinds(chain) == []
    assert done


def test_what_was_erased_and_verified_before_is_known_when_it_is_gone_on_from_there(chain):
    seen = chain.verify(KEY).seen
    forget(chain, resources=[("patient", "1")])
    seen = chain.verify(KEY, seen=seen).seen
    seal(chain, [told(20)])
    assert kinds(chain, seen=seen) == []
    write(chain.store, [(11, IP)])
    assert kinds(chain, seen=seen) == [("private.missing", 11)]


def test_more_than_one_statement_has_room_for_takes_several(tmp_path):
    with empty_store("memory", tmp_path) as store:
        chain = make_chain(store)
        seal(chain, [told(n, patient=str(n % 2)) for n in range(2 * RANGES_AT_ONCE + 8)])
        done = forget(chain, resources=[("patient", "1")])
        assert len(done.statements) == 2
        assert kinds(chain) == []


def test_equal_values_do_not_show_and_the_records_hold_nothing_of_them(chain):
    rows = [row for row in chain.store.rows() if from_row(row).private]
    commitments = [re.findall(r'":"([^"]+)"', from_row(row).private) for row in rows]
    flat = [one for each in commitments for one in each]
    assert len(flat) == len(set(flat)) == 24
    assert not any("secret" in str(row) or "192.0.2" in str(row) or "Agent" in str(row) for row in rows)


def test_sqlite_leaves_nothing_of_an_erased_value_in_its_files(tmp_path):
    with empty_store("sqlite", tmp_path) as store:
        with closing(sqlite3.connect(store.database.path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        chain = make_chain(store)
        seal(chain, [told(n) for n in range(1, 60)])
        forget(chain, resources=[("patient", "1")])
        assert store.values.forget()
        assert not any(b"secret.example" in path.read_bytes() for path in tmp_path.iterdir())
        assert kinds(chain) == []
        assert not any(kind.startswith("schema") for kind, _ in kinds(chain))
        with store.database.transaction(5) as connection, pytest.raises(sqlite3.DatabaseError, match="never changes"):
            connection.execute("UPDATE audit_private SET value = ''")
        with store.database.transaction(5) as connection, without_guards(connection):
            connection.execute("UPDATE audit_private SET value = '' WHERE sequence = 3")
        assert {kind for kind, _ in kinds(chain)} == {"private.changed"}


def test_whoever_adds_to_the_outbox_cannot_have_it_committed_to_what_nobody_has():
    with pytest.raises(ValueError, match="commitments without their values"):
        draft_of(replace(make_event(), private='{"/ip_address":"x"}'))
