"""Whatever a database, a role or a session has set, the trail is the same; and it leaves a session as it was."""

import time

import psycopg
import pytest

from audit_core import AuditTrail
from tests.postgres.server import VERSIONS, new_database

HOSTILE = {
    "search_path": "nowhere",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "client_encoding": "LATIN1",
    "bytea_output": "escape",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "synchronous_commit": "off",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-15",
    "enable_indexscan": "off",
    "statement_timeout": "300ms",
    "row_security": "off",
    "quote_all_identifiers": "on",
}


@pytest.fixture
def url(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False):
        pass
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in HOSTILE.items():
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")
    return url


TIMEOUTS = {
    "statement_timeout": "300ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "300ms",
    "idle_session_timeout": "300ms",
    "transaction_timeout": "300ms",  # since 17
}


@pytest.mark.parametrize("version", VERSIONS)
def test_timeouts_that_a_database_has_set_neither_stop_the_sealer_nor_lose_an_event(state, version):
    url = new_database(version)
    with AuditTrail(url, lifecycle=False) as trail:
        waiting = [trail.event("a.b", resource=("n", str(n))) for n in range(200)]
        with trail.outboxes[0].database.transaction() as connection:
            trail.outboxes[0].put(waiting, connection)
    set_timeouts(url, version)
    with AuditTrail(url, lifecycle=False) as trail:
        for number in range(200, 203):
            trail.record("a.b", resource=("n", str(number)))
            time.sleep(0.4)  # the server ends idle sessions meanwhile
        with trail.store.database.transaction() as connection:  # as long as a large batch may take
            connection.execute("SELECT pg_sleep(0.4)")
            time.sleep(0.4)
        trail.flush(30)
        assert sorted(int(event.resource_id) for event in trail.events(action="a.b")) == list(range(203))
        assert trail.verify().findings == ()


def set_timeouts(url, version):
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in TIMEOUTS.items():
            if name != "transaction_timeout" or version >= 17:
                connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {name} = '{value}'")


def test_a_trail_is_the_same_under_any_settings(url):
    details = {"text": "Zoë 🧑 \\ \" \t\n'", "when": "2026-01-01", "deep": [{"a": [1, None, True]}]}
    with AuditTrail(url, lifecycle=False) as trail:
        made = trail.record("a.b", resource=("patient", "Ünal"), details=details)
        trail.flush()
        (read,) = trail.events(action="a.b")
        assert (read.details, read.timestamp, read.resource_id) == (details, made.timestamp, "Ünal")
        assert trail.chain.verify().findings == ()
        assert list(trail.store.checkpoints())[-1].tree_size == 2


def test_an_application_on_another_encoding_loses_no_letter(url):
    with AuditTrail(url, lifecycle=False) as trail, psycopg.connect(url) as connection:
        assert connection.info.encoding == "iso8859-1"
        trail.carry([trail.event("a.b", details={"name": "Łukasz 🧑"})], connection, "key")
        connection.commit()
        trail.flush()
        assert [event.details for event in trail.events(action="a.b")] == [{"name": "Łukasz 🧑"}]


def test_a_session_is_left_as_it_was(state):
    """As a pooler in transaction mode needs it: the next transaction of this session is somebody else's."""
    with AuditTrail(new_database(), lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        (connection, *others) = trail.store.database._idle
        connection.execute("DISCARD ALL")
        for other in others:
            other.close()
        trail.store.database._idle[:] = [connection]
        questions = ("SELECT name, setting FROM pg_settings ORDER BY name", "SELECT name FROM pg_prepared_statements")
        before = [connection.execute(question).fetchall() for question in questions]
        trail.record("c.d")
        trail.flush()
        list(trail.events())
        trail.chain.verify()
        assert connection in trail.store.database._idle
        assert [connection.execute(question).fetchall() for question in questions] == before
        mine = "SELECT * FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert connection.execute(mine).fetchall() == []


def test_the_schema_of_the_url_is_where_the_tables_are(state):
    url = new_database() + "&schema=compliance"
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        assert trail.chain.verify().size == 2
    with psycopg.connect(url.removesuffix("&schema=compliance")) as connection:
        tables = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name LIKE 'audit%'"
        assert connection.execute(tables).fetchall() == [("compliance",)]
