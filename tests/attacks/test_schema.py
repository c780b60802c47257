"""What is done to tables, indexes and triggers is found, although no row was changed; and nobody cries wolf."""

import json
import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Result
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain, make_event, seal
from tests.attacks.attacker import without_guards
from tests.attacks.test_attacks import KEY, build, kinds

SCHEMA = {("schema", None)}


@pytest.fixture
def file(tmp_path):
    store = SqliteStore(SqliteDatabase(tmp_path / "trail.db"))
    build(store)
    store.close()
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db", lifecycle=False):  # makes the outbox
        pass
    return tmp_path / "trail.db"


def run(file, *statements):
    """As whoever owns the file does; ``schema`` may be written."""
    with closing(sqlite3.connect(file)) as attacker, attacker:
        attacker.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            attacker.execute(statement)


def verify(file, *notes):
    with closing(SqliteStore(SqliteDatabase(file))) as store:
        return make_chain(store).verify(KEY, notes)


def reworded(name, old, new):
    return f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'"


NO_REPORT = "AFTER INSERT ON audit_outbox BEGIN DELETE FROM audit_outbox; END"
TAMPERED = [
    "DROP TRIGGER audit_events_no_update",
    "DROP TRIGGER audit_checkpoints_no_replace",
    "DROP INDEX audit_events_actor",
    "DROP INDEX audit_events_event_id",
    f"CREATE TRIGGER quiet {NO_REPORT}",
    "CREATE TRIGGER quiet BEFORE INSERT ON audit_events WHEN NEW.actor_id = 'eve' BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER quiet BEFORE INSERT ON Audit_Checkpoints BEGIN SELECT RAISE(ABORT, 'no'); END",
    "CREATE UNIQUE INDEX once ON audit_events (actor_id, action, timestamp, sequence)",
    "CREATE INDEX partly ON audit_events (actor_id) WHERE outcome = 'success'",
    "ALTER TABLE audit_outbox ADD COLUMN note TEXT",
    reworded("audit_events_no_update", "append-only", "not append-only"),
    reworded("audit_events_no_update", "BEFORE UPDATE ON", "BEFORE UPDATE OF private ON"),
    reworded("audit_events", "CHECK (sequence >= 0)", "/* CHECK (sequence >= 0) */"),
]


@pytest.mark.parametrize("statement", TAMPERED)
def test_what_is_dropped_changed_or_added_is_found(file, statement):
    run(file, statement)
    found = verify(file)
    assert found.result is Result.FAILED
    assert kinds(found) == SCHEMA


def test_two_things_of_one_name_do_not_hide_each_other(file):
    run(file, f"CREATE TRIGGER quiet {NO_REPORT}", "CREATE INDEX quiet ON audit_events (actor_id)")
    assert kinds(verify(file)) == SCHEMA


def test_a_view_in_a_tables_place_is_found(file):
    run(
        file,
        "ALTER TABLE audit_events RENAME TO real_events",
        "CREATE VIEW audit_events AS SELECT * FROM real_events WHERE sequence < 9",
        "CREATE TRIGGER quiet INSTEAD OF INSERT ON audit_events BEGIN SELECT 1; END",
    )
    got = [finding.got for finding in verify(file).findings if finding.kind == "schema"]
    assert any(text.startswith("create view audit_events") for text in got)
    assert any(text.startswith("create trigger quiet instead of") for text in got)


@pytest.mark.parametrize("name", ["audit_events_actor", "by_user"])
def test_an_index_of_a_part_of_the_rows_that_says_it_is_of_all_is_found(file, name):
    index = f"CREATE INDEX {name} ON audit_events (actor_id, timestamp)"
    run(
        file,
        f"DROP INDEX IF EXISTS {name}",
        f"{index} WHERE sequence < 5",
        f"UPDATE sqlite_master SET sql = '{index}' WHERE name = '{name}'",
    )
    found = kinds(verify(file))
    assert found == {("schema", sequence) for sequence in range(5, 13)}


def test_an_index_whose_words_say_that_it_is_of_a_part_is_found(file):
    run(file, "UPDATE sqlite_master SET sql = sql || ' WHERE sequence < 5' WHERE name = 'audit_events_actor'")
    assert kinds(verify(file)) >= SCHEMA


@contextmanager
def behind_the_indexes(file):
    """What is written meanwhile reaches no index of audit_events."""
    with closing(sqlite3.connect(file)) as attacker, attacker, without_guards(attacker):
        query = "FROM sqlite_master WHERE type = 'index' AND tbl_name = 'audit_events'"
        indexes = attacker.execute(f"SELECT * {query}").fetchall()
        attacker.execute("PRAGMA writable_schema = ON")
        attacker.execute(f"DELETE {query}")
        attacker.commit()
        with closing(sqlite3.connect(file)) as unseen, unseen:
            yield unseen
        attacker.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", indexes)


@pytest.mark.parametrize("column", ["actor_id", "resource_id", "action", "timestamp"])
def test_an_index_that_says_something_else_than_its_table_is_found(file, column):
    with closing(sqlite3.connect(file)) as attacker, attacker, without_guards(attacker):
        (value,) = attacker.execute(f"SELECT {column} FROM audit_events WHERE sequence = 5").fetchone()
        attacker.execute(f"UPDATE audit_events SET {column} = ? WHERE sequence = 5", (f"{value}!",))
    with behind_the_indexes(file) as attacker:
        attacker.execute(f"UPDATE audit_events SET {column} = ? WHERE sequence = 5", (value,))
    assert ("schema", 5) in kinds(verify(file))


def test_an_index_of_events_that_are_gone_is_found(file):
    with behind_the_indexes(file) as attacker:
        attacker.execute("DELETE FROM audit_events WHERE sequence >= 9")
        attacker.execute("DELETE FROM audit_checkpoints WHERE tree_size > 9")
    assert kinds(verify(file)) == SCHEMA


@pytest.mark.parametrize("table", ["audit_events", "audit_checkpoints"])
def test_a_table_that_was_dropped_is_a_failure_and_not_a_mistake_of_whoever_verifies(audit, path, kept, table):
    run(path, f"DROP TABLE {table}")
    for more in ((), ("--checkpoint", kept)):
        code, out, _ = audit("verify", "--json", *more)
        assert code == 1
        assert ("schema", None) in {(finding["kind"], finding["sequence"]) for finding in json.loads(out)["findings"]}
    assert audit("verify")[0] == 1


def test_tables_that_were_all_dropped_are_a_failure_where_the_outbox_is_left(audit, path):
    run(path, "DROP TABLE audit_events", "DROP TABLE audit_checkpoints")
    assert audit("verify", "--json")[0] == 1
    assert audit("status")[0] == 2


def test_tables_that_were_all_dropped_are_a_failure_for_whoever_has_a_checkpoint(audit, path, kept):
    run(
        path,
        *(f"DROP TABLE {table}" for table in ("audit_events", "audit_checkpoints", "audit_outbox", "audit_private")),
    )
    assert audit("verify", "--checkpoint", kept)[0] == 1
    code, out, err = audit("verify")
    assert (code, out) == (2, "")
    assert "audit init" in err


def test_init_makes_no_new_trail_under_the_checkpoints_of_one_that_was_dropped(audit, path):
    run(path, "DROP TABLE audit_events")
    code, _, err = audit("init")
    assert code == 0
    assert "audit verify" in err
    assert audit("verify")[0] == 1


def test_init_brings_back_what_was_dropped(audit, path):
    run(path, "DROP TRIGGER audit_events_no_update", "DROP INDEX audit_events_actor")
    assert audit("verify")[0] == 1
    assert audit("init")[0] == 0
    assert audit("verify")[0] == 3


class TestNoFalseAlarm:
    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE patients (id INTEGER PRIMARY KEY, name TEXT)",
            "CREATE INDEX by_tenant ON audit_events (tenant_id, timestamp DESC)",
            "CREATE INDEX By_Outcome ON audit_events (outcome)",
            "ANALYZE",
            "REINDEX",
            "PRAGMA journal_mode = WAL",
            "PRAGMA user_version = 7",
            "CREATE VIEW who AS SELECT actor_id FROM audit_events",
            "CREATE TABLE audit_events_seen (sequence INTEGER REFERENCES audit_events (sequence))",
        ],
    )
    def test_on_what_a_database_may_have_besides(self, file, statement):
        run(file, statement)
        assert kinds(verify(file)) == set()

    def test_on_a_vacuumed_file(self, file):
        with closing(sqlite3.connect(file)) as owner:
            owner.execute("VACUUM")
        assert kinds(verify(file)) == set()

    def test_on_a_copy_and_on_a_dump_that_was_read_again(self, file, tmp_path):
        shutil.copy(file, tmp_path / "copy.db")
        assert kinds(verify(tmp_path / "copy.db")) == set()
        with closing(sqlite3.connect(file)) as owner, closing(sqlite3.connect(tmp_path / "again.db")) as again:
            again.executescript("\n".join(owner.iterdump()))
        assert kinds(verify(tmp_path / "again.db")) == set()

    def test_on_statements_laid_out_in_another_way(self, file, tmp_path):
        with closing(sqlite3.connect(file)) as owner, closing(sqlite3.connect(tmp_path / "again.db")) as again:
            for line in owner.iterdump():
                again.execute(line.replace("CREATE TABLE audit_outbox", 'create  table "audit_outbox" -- waits\n'))
        assert kinds(verify(tmp_path / "again.db")) == set()

    def test_on_a_table_that_was_renamed_and_renamed_back(self, file):
        run(file, "ALTER TABLE audit_events RENAME TO x", "ALTER TABLE x RENAME TO audit_events")
        assert kinds(verify(file)) == set()

    def test_on_a_store_without_an_outbox(self, file):
        run(file, "DROP TABLE audit_outbox")
        assert kinds(verify(file)) == set()

    def test_while_events_are_sealed(self, file):
        store = SqliteStore(SqliteDatabase(file))
        chain, looking = make_chain(store), store.check_schema()
        seal(chain, [make_event(99)])
        assert list(looking) == []
        store.close()


def test_a_database_without_a_trail_is_no_failed_one(tmp_path):
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE patients (id)").connection.close()
    with pytest.raises(ConfigurationError, match="audit init"):
        verify(tmp_path / "other.db")
