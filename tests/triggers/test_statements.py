"""What a statement does, by how it begins."""

import pytest

from audit_core.triggers.statements import changes_rows, is_copy, may_undo, may_write

READING = [
    "SELECT 1",
    "  (SELECT 1) UNION (SELECT 2)",
    "-- a remark\n/* UPDATE\n */ SELECT 1",
    "WITH a AS (SELECT 1) SELECT * FROM a",
    "COPY (SELECT 1) TO STDOUT",
    "copy patient to stdout",
    "SELECT 1; \n",
    "ROLLBACK TO SAVEPOINT a; DELETE FROM patient",
    "SET LOCAL search_path = a",
    "SAVEPOINT a",
    "EXPLAIN DELETE FROM patient",
    "DECLARE a CURSOR FOR SELECT 1",
    "CREATE TABLE patient (id int)",
]
CHANGING = [
    "INSERT INTO patient VALUES (1)",
    "\n  update patient SET name = 'SELECT'",
    "/* SELECT */ DELETE FROM patient",
    "MERGE INTO patient USING a ON true WHEN MATCHED THEN DELETE",
    "TRUNCATE patient",
    "WITH a AS (DELETE FROM patient RETURNING 1) SELECT * FROM a",
    "COPY patient FROM STDIN",
    "COPY patient (a, b) FROM '/dir/file'",
]
OTHER = [
    "VACUUM patient",
    "CALL work()",
    "DO $$ BEGIN END $$",
    "EXECUTE prepared",
    "REFRESH MATERIALIZED VIEW a",
    "SELECT 1; DELETE FROM patient",
    "SET LOCAL lock_timeout = 1; UPDATE patient SET name = 'a';",
    "EXPLAIN (ANALYZE) DELETE FROM patient",
]
UNDOING = ["ROLLBACK TO SAVEPOINT a", "commit", "BEGIN", "START TRANSACTION", "-- x\nABORT", "END"]


@pytest.mark.parametrize("statement", READING)
def test_what_only_reads_needs_no_actor(statement):
    assert not may_write(statement)
    assert not changes_rows(statement)


@pytest.mark.parametrize("statement", CHANGING)
def test_what_changes_rows_may_run_in_a_transaction(statement):
    assert may_write(statement)
    assert changes_rows(statement)
    assert not may_undo(statement)


@pytest.mark.parametrize("statement", OTHER)
def test_what_may_write_otherwise_is_not_put_into_a_transaction(statement):
    assert may_write(statement)
    assert not changes_rows(statement)


@pytest.mark.parametrize("statement", UNDOING)
def test_the_end_of_a_transaction_or_savepoint_may_undo_what_was_said(statement):
    assert may_undo(statement)


def test_copy_sends_or_fetches_rows():
    assert is_copy("-- x\nCOPY patient FROM STDIN")
    assert not is_copy("SELECT 'COPY'")


def test_a_long_beginning_takes_no_long_time():
    assert may_write("/*" * 50_000 + "-- \n" * 50_000)
