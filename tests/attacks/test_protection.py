"""Every row of the table in docs/protection.md: what it says is found is found, and what it says is not is not."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from audit_core.anchors import ask_all
from audit_core.anchors.database import DatabaseAnchor
from audit_core.anchors.opening import open_anchor
from audit_core.chain import AuditChain
from audit_core.chain.known import Answer, Kept
from audit_core.chain.statements import acknowledge, find_lost, rotate
from audit_core.draft import event_of, parse_draft
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.outbox.memory import MemoryOutbox
from audit_core.rows import to_json
from audit_core.stores.memory import MemoryStore
from audit_core.stores.postgres import PostgresStore
from audit_core.stores.s3 import S3AuditStore
from audit_core.stores.s3_objects import key_of
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables
from tests.attacks.attacker import AT, put_back, steal, superuser
from tests.attacks.scenes import STORES, empty_store, spoil
from tests.attacks.test_erasure import IP, change, forget, told, value, write
from tests.s3.server import client

PAGE = (Path(__file__).parents[2] / "docs" / "protection.md").read_text()
OURS, THIEFS, NEW = (LocalSigner(letter * 32) for letter in (b"k", b"t", b"n"))
KEY, THIEFS_KEY = (VerifierKey(ORIGIN, signer.public_key) for signer in (OURS, THIEFS))


def page_rows():
    table = PAGE.split("| attack |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@dataclass
class Scene:
    """A chain of 13 events under checkpoints of 4, 8, 9 and 13, and the note that an auditor keeps of it."""

    chain: AuditChain
    anchor: DatabaseAnchor
    kept: str = ""
    seen: object = None

    def keep(self):
        """What an auditor does by hand, and the trail by itself."""
        self.kept, self.seen = self.chain.checkpoint_note(), self.chain.verify(KEY).seen
        self.anchor.keep(self.kept, self.chain)

    def let_hours_pass(self):
        with closing(sqlite3.connect(self.anchor._database._database.path)) as connection, connection:
            connection.execute("DROP TRIGGER audit_anchors_no_update")
            connection.execute("UPDATE audit_anchors SET kept_at = '2026-01-01T12:00:00.000000Z'")

    def change(self, change):
        loot = steal(self.chain.store)
        change(loot)
        put_back(self.chain.store, loot)


@pytest.fixture(params=STORES)
def scene(request, tmp_path):
    with empty_store(request.param, tmp_path) as store:
        chain = make_chain(store)
        for batch in (3, 4, 1, 4):
            seal(chain, [make_event(n, actor_id="42", resource_type="patient", resource_id="1") for n in range(batch)])
        scene = Scene(chain, open_anchor(f"sqlite:///{tmp_path}/anchors.db"))
        scene.keep()
        yield scene


# --- The attacks. Each is made by whoever can write every table; some of them hold the signing key as well.

ATTACKS = {}


def attack(row):
    def remember(function):
        ATTACKS.setdefault(row, []).append(function)
        return function

    return remember


@attack("edit any field of a sealed event, hashes left alone")
def edit(scene):
    scene.change(lambda loot: loot.edit(5, actor_id="43"))


@attack("delete, insert or reorder in the middle")
def delete(scene):
    scene.change(lambda loot: loot.rows.pop(5))


@attack("delete, insert or reorder in the middle")
def insert(scene):
    def change(loot):
        loot.rows.insert(6, list(loot.rows[5]))
        loot.edit(6, event_id=make_event().event_id)
        for sequence, row in enumerate(loot.rows):
            row[AT["sequence"]] = sequence

    scene.change(change)


@attack("delete, insert or reorder in the middle")
def reorder(scene):
    def change(loot):
        loot.rows[5], loot.rows[6] = loot.rows[6], loot.rows[5]
        loot.edit(5, sequence=5)
        loot.edit(6, sequence=6)

    scene.change(change)


@attack("move an event in from another chain")
def move_in(scene):
    other = AuditChain(MemoryStore(), lambda: OURS, "example.com/other")
    seal(other, [make_event(n) for n in range(8)])
    foreign = list(other.store.row(5))
    scene.change(lambda loot: loot.rows.__setitem__(5, foreign))


@attack("cut off the end, and the checkpoints that covered it")
def cut_off(scene):
    scene.change(lambda loot: (loot.rows.__delitem__(slice(9, None)), loot.heads.pop()))


@attack("rewrite everything with new hashes, as a database superuser")
def rewrite(scene):
    def change(loot):
        loot.edit(0, details=loot.rows[0][AT["details"]].replace(str(KEY), str(THIEFS_KEY)))
        loot.edit(5, actor_id="43")
        loot.relink(ORIGIN)
        loot.resign(ORIGIN, THIEFS)

    scene.change(change)


@attack("put an old backup back")
def put_backup_back(scene):
    backup = steal(scene.chain.store)
    seal(scene.chain, [make_event(99)])
    scene.keep()
    put_back(scene.chain.store, backup)


@attack("two histories, both signed")
def fork(scene):
    backup = steal(scene.chain.store)
    seal(scene.chain, [make_event(1, actor_id="told to the auditor")])
    scene.keep()
    put_back(scene.chain.store, backup)
    seal(make_chain(scene.chain.store), [make_event(1, actor_id="told to the court")])


@attack("delete the newest checkpoint, or replace any")
def delete_checkpoint(scene):
    scene.change(lambda loot: loot.heads.pop())


@attack("delete the newest checkpoint, or replace any")
def replace_checkpoint(scene):
    def change(loot):
        loot.heads[1] = loot.heads[1]._replace(root=loot.heads[0].root, signature=loot.heads[0].signature)

    scene.change(change)


@attack("thin out older checkpoints, and say that a later one covers their events")
def thin_out(scene):
    def change(loot):
        loot.heads[:] = [loot.heads[-1]._replace(first_sequence=0)]

    scene.change(change)


@attack("change the schema: drop triggers, add others, damage an index")
def change_schema(scene):
    if isinstance(scene.chain.store, MemoryStore):
        pytest.skip("a list has no schema")
    if isinstance(scene.chain.store, S3AuditStore):
        change_objects(scene.chain.store)
        return
    if isinstance(scene.chain.store, PostgresStore):
        change_postgres_schema(scene.chain.store)
        return
    with scene.chain.store.database.transaction(5) as connection:
        connection.execute("DROP TRIGGER audit_events_no_delete")
        connection.execute("DROP INDEX audit_events_actor")
        connection.execute("CREATE TRIGGER silence BEFORE INSERT ON audit_events BEGIN SELECT RAISE(IGNORE); END")


def change_postgres_schema(store):
    spoil()
    with superuser(store) as connection:
        connection.execute("DROP TRIGGER audit_append_only ON audit.audit_events")
        connection.execute("DROP INDEX audit.audit_events_actor")
        connection.execute("CREATE RULE silence AS ON INSERT TO audit.audit_checkpoints DO INSTEAD NOTHING")


def change_objects(store):
    """A bucket's schema are its objects, each of which is there once."""
    which = {"Bucket": store._bucket.name, "Key": f"{store._prefix}{key_of(4)}"}
    client().put_object(**which, Body=b"{}")
    client().delete_object(**which)


@attack("empty everything")
def empty(scene):
    scene.change(lambda loot: (loot.rows.clear(), loot.heads.clear()))


@attack("turn the clock back between two batches")
def turn_clock_back(scene):
    seal(scene.chain, [make_event(-86_400)])
    head = scene.chain.store.head()
    scene.change(lambda loot: loot.heads.__setitem__(-1, head._replace(sealed_at="2020-01-01T00:00:00.000000Z")))


@attack("change the time at which a checkpoint says it was sealed")
def change_sealing_time(scene):
    def change(loot):
        loot.heads[1] = loot.heads[1]._replace(sealed_at="2020-01-01T00:00:00.000000Z")

    scene.change(change)


@attack("steal the signing key and rewrite everything")
def rewrite_with_the_key(scene):
    def change(loot):
        loot.edit(5, actor_id="43")
        loot.relink(ORIGIN)
        loot.resign(ORIGIN, OURS)

    scene.change(change)


@attack("steal a key, go back to before it was [replaced](keys.md), and go on with it")
def go_on_with_an_old_key(scene):
    backup = steal(scene.chain.store)
    rotate_key(scene.chain)
    scene.keep()
    put_back(scene.chain.store, backup)
    seal(make_chain(scene.chain.store), [make_event(n, actor_id="43") for n in range(4)])


def rotate_key(chain):
    with chain.store.transaction(patient=True) as connection:
        rotate(chain, NEW, make_event(20), connection)


@attack("go on with a key of one's own, and say that the trail's was lost")
def say_that_the_key_was_lost(scene):
    with scene.chain.store.transaction(patient=True) as connection:
        rotate(scene.chain, THIEFS, make_event(20), connection, lost=True)
    seal(AuditChain(scene.chain.store, lambda: THIEFS), [make_event(30)])


@attack("steal the signing key, and say that a backup was put back")
def say_that_a_backup_was_put_back(scene):
    backup = steal(scene.chain.store)
    backup.rows, backup.heads = backup.rows[:8], backup.heads[:2]
    put_back(scene.chain.store, backup)
    chain = make_chain(scene.chain.store)
    lost = find_lost(chain, [Answer("the anchor", [Kept(scene.kept)])])
    with chain.store.transaction(patient=True) as connection:
        acknowledge(chain, lost, iter([make_event(20)]), connection, reason="disk failure")
    seal(chain, [make_event(n, actor_id="43") for n in range(20, 24)])
    scene.anchor.keep(chain.checkpoint_note(), chain)


@attack("record an event that looks like a [statement](formats.md#statement)")
def imitate_a_statement(scene):
    said = {"says": {"old": str(KEY), "new": str(THIEFS_KEY)}, "signatures": ["AAAA"]}
    event = make_event(20, action="key.rotated", resource_type="trail", resource_id=ORIGIN, details=said)
    seal(scene.chain, [event])


@attack("change, move, add or remove a [value beside a record](erasure.md)")
def change_a_value(scene):
    keep_a_value(scene)
    change(scene.chain, 13, IP, value='"192.0.2.99"')


@attack("change, move, add or remove a [value beside a record](erasure.md)")
def move_a_value(scene):
    keep_a_value(scene)
    write(scene.chain.store, [(13, IP)], [value(scene.chain, 13, IP)._replace(sequence=5)])


@attack("change, move, add or remove a [value beside a record](erasure.md)")
def remove_a_value(scene):
    keep_a_value(scene)
    write(scene.chain.store, [(13, IP)])


@attack("put an erased value back")
def put_a_value_back(scene):
    keep_a_value(scene)
    old = value(scene.chain, 13, IP)
    forget(scene.chain, actor="7")
    scene.keep()
    write(scene.chain.store, [], [old])


@attack("steal the signing key, and say that a value was erased")
def say_that_a_value_was_erased(scene):
    keep_a_value(scene)
    forget(scene.chain, actor="7")


def keep_a_value(scene):
    if scene.chain.store.values is None:
        pytest.skip("a bucket keeps none")
    seal(scene.chain, [told(20)])
    scene.keep()


@attack("stop the trail")
def stop(scene):
    scene.let_hours_pass()


@attack("the same event twice")
def repeat(scene):
    def change(loot):
        loot.rows.append(list(loot.rows[5]))
        loot.relink(ORIGIN)
        loot.heads[-1] = loot.heads[-1]._replace(tree_size=len(loot.rows))
        loot.resign(ORIGIN, OURS)

    scene.change(change)


@attack("change an event before it is sealed")
def change_what_waits(scene):
    outbox = MemoryOutbox()
    outbox.put([make_event(actor_id="42")], None)
    ((id_, text),) = outbox._events.items()
    outbox._events[id_] = to_json(replace(event_of(parse_draft(text)), actor_id="43"))
    Sealer(scene.chain, [outbox], Tables(scene.chain.store, [outbox])).seal()
    assert scene.chain.store.row(13)[AT["actor_id"]] == "43"


@attack("an application that records what did not happen")
def lie(scene):
    seal(scene.chain, [make_event(action="invoice.approve", actor_id="nobody")])


# --- What the page says of them


def test_every_row_of_the_page_has_its_attack_and_every_attack_its_row():
    assert [row[0] for row in page_rows()] == list(ATTACKS)


MEANS = ("chain", "signed", "kept", "seen", "anchored")
CASES = [
    pytest.param(attack, cells, id=attack.__name__) for row, *cells in page_rows() for attack in ATTACKS.get(row, [])
]


@pytest.mark.parametrize(("attack", "cells"), CASES)
def test_what_the_page_says_of_an_attack_is_so(scene, attack, cells):
    attack(scene)
    for means, cell in zip(MEANS, cells, strict=True):
        if cell != "-":
            check_cell(scene, attack, means, cell)


# --- In a deployment


def deployed(column):
    """The first cell of each attack, and that of one column."""
    table = PAGE.split("| attack | zero configuration |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {row[0]: row[1 + column] for row in rows}


@pytest.mark.parametrize(("column", "means"), [(0, "signed"), (1, "anchored"), (2, "anchored")])
def test_what_the_page_says_of_deployments_is_what_it_says_of_means(column, means):
    cells = {row[0]: row[1 + MEANS.index(means)].split(",")[0].split(":")[0] for row in page_rows()}
    assert deployed(column) == cells


@pytest.mark.parametrize("scene", ["memory"], indirect=True)
@pytest.mark.parametrize("attack", [cut_off, put_backup_back, fork, rewrite_with_the_key])
def test_of_several_anchors_one_that_holds_what_it_held_is_enough(scene, attack, tmp_path):
    other = open_anchor(f"sqlite:///{tmp_path}/other.db")
    for note in {kept.what for kept in scene.anchor.kept(scene.chain)}:
        other.keep(note, scene.chain)
    attack(scene)
    with closing(sqlite3.connect(other._database._database.path)) as attacker, attacker:
        attacker.execute("DROP TRIGGER audit_anchors_no_delete")
        attacker.execute("DELETE FROM audit_anchors")
    answers = ask_all([other, scene.anchor], scene.chain, max_age=timedelta(hours=2))
    found = scene.chain.verify(KEY, anchored=answers)
    assert found.result is Result.FAILED
    (row,) = [row for row, attacks in ATTACKS.items() if attack in attacks]
    assert (deployed(0)[row], deployed(2)[row]) == ("N", "Y")


def check_cell(scene, attack, means, cell):
    key = None if means == "chain" else KEY
    age = timedelta(hours=2) if means == "anchored" or (attack is stop and means != "chain") else None
    answers = ask_all([scene.anchor] if means == "anchored" else [], scene.chain, max_age=age)
    try:
        found = scene.chain.verify(
            key,
            [scene.kept] if means == "kept" else [],
            anchored=answers,
            seen=scene.seen if means == "seen" else None,
            whole=True,
        )
    except ConfigurationError:  # there is nothing to verify
        assert (attack, means, cell[0]) == (empty, "chain", "N")
        return
    expected = re.match("Y|N|a warning", cell)[0]
    assert (found.result is Result.FAILED) == (expected == "Y"), (means, found)
    if expected != "Y":  # what is found may be warned of, too
        assert bool(found.warnings) == (expected == "a warning"), (means, found)


def test_whoever_has_pinned_the_new_key_finds_a_trail_that_goes_on_with_the_old_one(scene):
    go_on_with_an_old_key(scene)
    assert scene.chain.verify(VerifierKey(ORIGIN, NEW.public_key)).result is Result.FAILED


def test_an_untouched_trail_is_never_accused(scene):
    assert scene.chain.verify(KEY).result is Result.UNANCHORED
    assert scene.chain.verify(KEY, [scene.kept]).result is Result.OK


def test_the_key_of_another_trail_is_named_and_no_event_is_called_changed(scene):
    other = VerifierKey("example.com/other", THIEFS.public_key)
    with pytest.raises(ConfigurationError, match=r"the key that you gave is of the trail example\.com/other"):
        scene.chain.verify(other)


def test_a_kept_checkpoint_that_does_not_fit_is_named_once(scene):
    other = make_chain(MemoryStore())
    for batch in (3, 4, 1, 4):
        seal(other, [make_event(n, actor_id="43") for n in range(batch)])
    found = scene.chain.verify(KEY, [other.checkpoint_note()])
    assert [finding.kind for finding in found.findings] == ["known"]
