"""Rows that hold what no row of ours does: every one is found, and no command falls over it."""

import json
import sqlite3
from contextlib import closing

import pytest

from audit_core.canonical import RECORD_COLUMNS
from audit_core.integrity.verify import Result
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain
from tests.attacks.attacker import ImpossibleError, put_back, steal, without_guards
from tests.attacks.scenes import TABLES, empty_store
from tests.attacks.test_attacks import KEY, build, kinds
from tests.reports.trails import tamper

NOT_UTF8 = "CAST(x'ff80' AS TEXT)"

READING = [("verify", "--json"), ("verify",), ("status", "--json"), ("status",), ("checkpoint",), ("prove", "5")]
READING += [("report", "access", "patient", "--format", as_) for as_ in ("table", "csv", "json")]
READING += [("report", "privileged"), ("report", "failures", "--min", "1")]
OF_EACH = [("verify", "--json"), ("status", "--json"), ("checkpoint",), ("prove", "5")]
OF_EACH += [("report", "access", "patient", "--format", "json"), ("report", "failures", "--min", "1")]


@pytest.fixture(params=[pytest.param(READING, marks=pytest.mark.long), OF_EACH], ids=["all", "of each"])
def read_all(request, audit):
    """Runs every reading command, and says what `verify --json` said; in the quick form one of each kind."""

    def read():
        found = None
        for words in request.param:
            code, out, err = audit(*words)
            assert code in ({1} if words[0] == "verify" else {0, 2}), (words, out, err)
            if code == 0 and "json" in words[-1]:
                json.loads(out)
            if words == ("verify", "--json"):
                found = json.loads(out)
            if words[0] == "status":
                assert code == 0
        return {(finding["kind"], finding["sequence"]) for finding in found["findings"]}

    return read


@pytest.mark.parametrize("value", ["x'00'", "x'5b5d'", "5", "'[1]'", "'{'", NOT_UTF8])
@pytest.mark.parametrize("sequence", [0, 5])
def test_a_row_of_nonsense_is_found_and_every_command_still_answers(read_all, path, sequence, value):
    columns = [name for name in (*RECORD_COLUMNS, "event_hash") if name != "sequence"]
    tamper(path, f"UPDATE audit_events SET {', '.join(f'{c} = {value}' for c in columns)} WHERE sequence = {sequence}")
    found = read_all()
    assert found & {("edited", sequence), ("empty", None)}


@pytest.mark.parametrize("value", ["x'00'", "'[1]'", NOT_UTF8])
@pytest.mark.parametrize("column", ["details", "event_hash", "event_id", "resource_id", "timestamp", "previous_hash"])
def test_one_column_of_nonsense_is_found_and_every_command_still_answers(read_all, path, column, value):
    tamper(path, f"UPDATE audit_events SET {column} = {value} WHERE sequence = 5")
    assert ("edited", 5) in read_all()


@pytest.mark.parametrize("column", ["action", "details", "event_hash", "timestamp"])
def test_text_that_is_not_utf8_in_the_first_record_is_found(read_all, path, column):
    tamper(path, f"UPDATE audit_events SET {column} = {NOT_UTF8} WHERE sequence = 0")
    assert read_all() & {("edited", 0), ("empty", None)}


LONG = "replace(hex(zeroblob(48)), '0', 'z')"  # as long as a frontier


OF_CHECKPOINTS = [("min", "x'00'"), *(("max", value) for value in ("x'00'", "-1", LONG, NOT_UTF8))]


def spoil(path, column, which, value):
    newest = f"tree_size = (SELECT {which}(tree_size) FROM audit_checkpoints)"
    tamper(path, f"UPDATE audit_checkpoints SET {column} = {value} WHERE {newest}")


@pytest.mark.parametrize(("which", "value"), OF_CHECKPOINTS)
@pytest.mark.parametrize("column", ["first_sequence", "root", "signature", "frontier"])
def test_a_checkpoint_of_nonsense_is_found_and_every_command_still_answers(read_all, path, column, which, value):
    spoil(path, column, which, value)
    read_all()


@pytest.mark.parametrize(("which", "value"), OF_CHECKPOINTS)
def test_a_time_of_sealing_that_is_nonsense_is_read_over_as_nobody_signs_it(audit, path, which, value):
    spoil(path, "sealed_at", which, value)
    assert audit("verify", "--json")[0] == 3
    assert audit("status", "--json")[0] == 0


@pytest.mark.parametrize("value", ["'zz'", "x'00'", "NULL", "5.5", "-1", "9223372036854775807"])
@pytest.mark.parametrize(("table", "column"), [("audit_events", "sequence"), ("audit_checkpoints", "tree_size")])
def test_a_table_made_anew_without_its_types_is_found_and_every_command_still_answers(
    read_all, path, table, column, value
):
    tamper(
        path,
        f"CREATE TABLE loot AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE loot RENAME TO {table}",
        f"UPDATE {table} SET {column} = {value} WHERE {column} = (SELECT max({column}) FROM {table})",
    )
    assert ("schema", None) in read_all()


@pytest.mark.parametrize("table", ["audit_events", "audit_checkpoints"])
def test_a_column_that_somebody_added_is_found_and_read_over(read_all, path, table):
    tamper(path, f"ALTER TABLE {table} ADD COLUMN note TEXT")
    assert read_all() == {("schema", None)}


@pytest.mark.parametrize("column", ["resource_id", "event_hash", "source"])
def test_a_column_that_somebody_renamed_is_found(audit, path, column):
    tamper(path, f"ALTER TABLE audit_events RENAME COLUMN {column} TO other")
    assert ("schema", None) in {
        (finding["kind"], finding["sequence"]) for finding in json.loads(audit("verify", "--json")[1])["findings"]
    }


@pytest.mark.parametrize("sequence", [2**63 - 1, 2**53, 1_000])
def test_an_event_far_behind_the_last_is_found(read_all, path, sequence):
    tamper(path, f"UPDATE audit_events SET sequence = {sequence} WHERE sequence = 12")
    assert {("missing", 12), ("edited", sequence)} <= read_all()


def test_an_event_below_the_first_is_in_no_report_and_hides_no_event_that_waits(path):
    with closing(sqlite3.connect(path)) as attacker, attacker, without_guards(attacker):
        attacker.execute("UPDATE audit_events SET sequence = -1 WHERE sequence = 12")
    store = SqliteStore(SqliteDatabase(path))
    hidden = next(store.rows(-1))
    event_id = hidden[RECORD_COLUMNS.index("event_id")]
    assert store.find(event_id) is None
    assert store.known([event_id]) == set()
    store.close()


def try_to_put_back(store, loot):
    try:
        put_back(store, loot)
    except ImpossibleError:
        pytest.skip("no column of that type takes it")


# A bucket takes a tenth of a second each time: what follows the class is the quick form.
@pytest.mark.parametrize("store", [*TABLES, pytest.param("s3", marks=pytest.mark.long)])
class TestEveryStore:
    @pytest.fixture
    def chain(self, store, tmp_path):
        with empty_store(store, tmp_path) as empty:
            yield build(empty)

    @pytest.mark.parametrize("value", [5, 1.5, b"\x00", "", "[]", "[1]", "{", '{"a":1.5}', "x" * 100_000])
    @pytest.mark.parametrize("column", ["details", "event_hash", "previous_hash", "timestamp"])
    def test_nonsense_in_a_column_is_a_finding_and_no_crash(self, chain, column, value):
        loot = steal(chain.store)
        loot.edit(5, **{column: value})
        try_to_put_back(chain.store, loot)
        found = chain.verify(KEY)
        assert ("edited", 5) in kinds(found)
        assert all(isinstance(text, str) for finding in found.findings for text in (finding.expected, finding.got))

    def test_nonsense_in_the_first_record_is_a_finding_and_no_crash(self, chain):
        for details in ("{", "[]", "null", '{"origin":1,"key":2}', "{}", b"\xff"):
            loot = steal(chain.store)
            loot.edit(0, details=details)
            try:
                put_back(chain.store, loot)
            except ImpossibleError:
                continue
            assert chain.verify(KEY).result is Result.FAILED
            assert chain.verify().result is Result.FAILED

    @pytest.mark.parametrize("field", ["tree_size", "first_sequence", "root", "signature", "frontier", "sealed_at"])
    @pytest.mark.parametrize("value", [-1, 2**62, "x", b"\xff", ""])
    def test_nonsense_in_a_checkpoint_is_a_finding_and_no_crash(self, chain, field, value):
        if field == "tree_size" and not isinstance(value, int):
            pytest.skip("an INTEGER PRIMARY KEY holds integers only")
        loot = steal(chain.store)
        loot.heads[1] = loot.heads[1]._replace(**{field: value})
        try_to_put_back(chain.store, loot)
        assert (chain.verify(KEY).result is Result.UNANCHORED) == (field == "sealed_at")


def test_nonsense_in_an_object_is_a_finding_and_no_crash(tmp_path):
    with empty_store("s3", tmp_path) as store:
        chain = build(store)
        pristine = steal(store)
        for place, column, value in (
            (5, "details", "{"),
            (5, "event_hash", 1.5),
            (5, "timestamp", ""),
            (0, "details", "[]"),
        ):
            loot = steal(store)
            loot.edit(place, **{column: value})
            put_back(store, loot)
            assert {("edited", place), ("empty", None)} & kinds(chain.verify(KEY)), (column, value)
            put_back(store, pristine)
        for field, value in (("root", "x"), ("signature", ""), ("frontier", "x"), ("first_sequence", -1)):
            loot = steal(store)
            loot.heads[1] = loot.heads[1]._replace(**{field: value})
            put_back(store, loot)
            assert chain.verify(KEY).result is Result.FAILED, (field, value)
            put_back(store, pristine)
        assert chain.verify(KEY).findings == ()


def test_a_frontier_that_was_taken_away_is_no_finding():
    chain = build(MemoryStore())
    chain.store.heads[1] = chain.store.heads[1]._replace(frontier=None)
    assert chain.verify(KEY).result is Result.UNANCHORED
    assert make_chain(chain.store).verify(KEY).result is Result.UNANCHORED
