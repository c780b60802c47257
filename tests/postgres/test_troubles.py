"""What somebody did to a database, or did not allow, is one sentence that says what it is and what to do."""

from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import StoreUnavailableError
from audit_core.postgres import PostgresDatabase
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, new_database

FORGED = "INSERT INTO audit.audit_checkpoints VALUES (500, 400, '{}', '{}', NULL, now())"
A_MONTH = "SELECT max(relname) FROM pg_class WHERE relname ~ '^audit_events_[0-9]{4}_[0-9]{2}$'"


@pytest.fixture(params=NEWEST_AND_AT_LENGTH_OLDEST)
def empty(request, state):
    return new_database(request.param)


@pytest.fixture
def url(empty):
    with AuditTrail(empty, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
    return empty


@pytest.fixture
def said(capsys):
    """Run a command: its exit code, and what it said."""

    def run(*words, url):
        capsys.readouterr()
        code = main([*words, "--url", url])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def ask(url, query):
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(query).fetchone()[0]


@pytest.mark.parametrize("root", ["A" * 43 + "=", "x"], ids=["well formed", "nonsense"])
def test_a_forged_checkpoint_is_told_as_what_it_is_and_not_as_a_wrong_key(url, said, root):
    run(url, FORGED.format(root, "A" * 90 + "=="))
    code, text = said("status", url=url)
    assert code == 0
    assert "our key        is the trail's" in text
    assert "Nothing is sealed: the newest checkpoint" in text
    for command in ("seal", "checkpoint"):
        code, text = said(command, url=url)
        assert (code, len(text.splitlines())) == (2, 1)
        assert "newest checkpoint" in text
        assert "`audit verify`" in text
        assert "signing key" not in text


def test_a_server_that_goes_away_while_it_is_read_is_told_what_to_do_and_of_no_events(url):
    database = PostgresDatabase(url)
    with pytest.raises(StoreUnavailableError, match="; try again, and look into the server's log") as told:
        database.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "wait" not in str(told.value)


def test_a_month_that_was_detached_is_named_until_it_is_attached_again(url, said):
    month = ask(url, A_MONTH)
    run(url, f"ALTER TABLE audit.audit_events DETACH PARTITION audit.{month}")
    code, text = said("partitions", url=url)
    assert code == 0
    assert f"audit_{month.removeprefix('audit_')} is there, and is no part of the trail" in text.replace('"', "")
    assert said("doctor", url=url)[0] == 1
    run(url, text.partition("(")[2].partition("), or rename")[0])
    assert "no part of the trail" not in said("partitions", url=url)[1]
    assert said("doctor", url=url)[0] == 0
    assert said("verify", url=url)[0] == 3


def test_a_month_that_was_dropped_is_made_again(url, said):
    month = ask(url, A_MONTH)
    run(url, f"DROP TABLE audit.{month}")
    assert f"made    {month}" in said("partitions", url=url)[1]
    assert said("verify", url=url)[0] == 3


def test_a_default_partition_that_was_detached_is_named_once(url, said):
    run(url, "ALTER TABLE audit.audit_events DETACH PARTITION audit.audit_events_default")
    for words in (("partitions",), ("partitions", "--from-default"), ("doctor",), ("init",)):
        _, text = said(*words, url=url)
        assert text.count('ATTACH PARTITION "audit".audit_events_default DEFAULT') == 1, words


def test_a_default_partition_that_was_dropped_is_made_again_by_init(url, said):
    run(url, "DROP TABLE audit.audit_events_default")
    for words in (("partitions",), ("partitions", "--from-default"), ("doctor",)):
        _, text = said(*words, url=url)
        assert text.count("has lost its default partition: run `audit init`") == 1, words
    assert said("init", url=url)[0] == 0
    assert said("doctor", url=url)[0] == 0
    assert said("verify", url=url)[0] == 3


def test_a_trail_whose_schema_was_renamed_is_whole_again_after_init(url, said):
    month = ask(url, A_MONTH)
    run(url, "ALTER SCHEMA audit RENAME TO other", f"DROP TABLE other.{month}")
    renamed = f"{url}&schema=other"
    code, text = said("partitions", url=renamed)
    assert (code, len(text.splitlines())) == (2, 1)
    assert "which was renamed, perhaps: run `audit init`" in text
    assert said("verify", url=renamed)[0] == 1
    assert said("init", url=renamed)[0] == 0
    assert f"made    {month}" in said("partitions", url=renamed)[1]
    assert said("verify", url=renamed)[0] == 3
    assert "has no audit trail in schema audit" in said("partitions", url=url)[1]


def test_a_role_that_may_make_no_tables_is_told_which_grant_it_lacks(empty, said):
    database = urlsplit(empty).path[1:]
    if not ask(empty, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nobody_in_particular')"):
        run(empty, "CREATE ROLE nobody_in_particular LOGIN PASSWORD 'test'")
    parts = urlsplit(empty)
    place = f"nobody_in_particular:test@{parts.netloc.rpartition('@')[2]}"
    nobody = urlunsplit(parts._replace(netloc=place))
    code, text = said("init", url=nobody)
    assert (code, len(text.splitlines())) == (2, 1)
    run(empty, text.partition("let the owner ")[2].partition(", or")[0])
    assert said("init", url=nobody)[0] == 0
    run(empty, "DROP SCHEMA audit CASCADE", "CREATE SCHEMA audit; GRANT USAGE ON SCHEMA audit TO nobody_in_particular")
    run(empty, "CREATE TABLE audit.their_own ()", f'REVOKE CREATE ON DATABASE "{database}" FROM nobody_in_particular')
    _, text = said("init", url=nobody)
    assert 'GRANT CREATE ON SCHEMA "audit" TO "nobody_in_particular"' in text


FOREIGN = {
    "events": "CREATE TABLE audit.audit_events (id int, what text)",
    "outbox": "CREATE TABLE audit.audit_outbox (id int, what text)",
    "the sealer's lock": "CREATE TABLE audit.audit_lock (id int, what text)",
    "a view": "CREATE VIEW audit.audit_events AS SELECT 1 AS sequence, 2 AS event_hash",
    "checkpoints": "CREATE TABLE audit.audit_checkpoints (id int)",
    "a month": "CREATE TABLE audit.audit_events_default (id int)",
    "a function": "CREATE FUNCTION audit.audit_make_partitions(integer) RETURNS int LANGUAGE sql AS 'SELECT 1'",
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_nothing_is_made_beside_what_has_a_name_of_ours_and_is_another_s(empty, said, foreign):
    run(empty, "CREATE SCHEMA audit", FOREIGN[foreign])
    count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'audit'::regnamespace"
    before = ask(empty, count)
    code, text = said("init", url=empty)
    assert (code, len(text.splitlines())) == (2, 1)
    assert "choose another schema (?schema=name" in text
    assert ask(empty, count) == before
    assert said("init", url=f"{empty}&schema=trail")[0] == 0
