"""The server goes away, refuses or is overrun while an application works: nothing is lost, nothing sealed twice."""

import threading
from collections import Counter
from urllib.parse import urlsplit

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.keys import LocalSigner
from audit_core.redaction import Redactor
from tests.adapters.servers import wait_until
from tests.postgres.server import Server, new_database

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"


def sealed(url):
    """How often each resource is in the chain; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush(30)
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        return Counter(event.resource_id for event in trail.events(action="work.done"))


def test_what_is_recorded_while_there_is_no_server_is_sealed_once_when_it_is_back(state):
    server = Server(18)
    try:
        url = new_database(url=server.url)
        with AuditTrail(url, lifecycle=False) as trail:
            trail.record("work.done", resource=("work", "0"))
            server.control("-m", "immediate", "stop")
            for number in range(1, 6):
                trail.record("work.done", resource=("work", str(number)))
            server.restart()
            assert wait_until(lambda: not list(trail.waiting()), 30)
        assert sealed(url) == {str(number): 1 for number in range(6)}
    finally:
        server.stop()


def test_an_application_starts_while_there_is_no_server_and_makes_the_tables_when_it_is_back(state, caplog):
    server = Server(18)
    try:
        url = new_database(url=server.url)
        server.control("-m", "immediate", "stop")
        with AuditTrail(url, lifecycle=False) as trail:
            assert "its events wait: " in caplog.text
            trail.record("work.done", resource=("work", "0"))
            server.restart()
            assert wait_until(lambda: trail.counters()["written"] == 1, 30)
        assert sealed(url) == {"0": 1}
        assert "audit init" not in caplog.text
    finally:
        server.stop()


@pytest.mark.parametrize("wrong", [{"path": "/nosuch"}, {"netloc": "nobody@"}], ids=["database", "user"])
def test_an_application_whose_url_names_nobody_or_nothing_does_not_start(state, wrong):
    with pytest.raises(ConfigurationError, match="does not exist: correct the URL's user, password and database"):
        AuditTrail(urlsplit(new_database())._replace(**wrong).geturl(), lifecycle=False)


def test_whoever_wants_to_be_blocked_is_told_when_an_event_is_durable_nowhere(state, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "file"))  # no spill file can lie there
    url = new_database()
    keyless = {"signer": LocalSigner(b"k" * 32), "redactor": Redactor()}
    with AuditTrail(url, lifecycle=False, on_failure="block", **keyless) as trail:
        trail.record("work.done", resource=("work", "0"))
        run(url, "ALTER TABLE audit.audit_outbox RENAME TO off")
        with pytest.raises(StoreUnavailableError, match="not durable"):
            trail.record("work.done", resource=("work", "1"))
        run(url, "ALTER TABLE audit.off RENAME TO audit_outbox")


def test_a_change_whose_event_cannot_be_written_does_not_commit(state):
    url = new_database()
    run(url, "CREATE TABLE business (id int)")
    with AuditTrail(url, lifecycle=False) as trail, psycopg.connect(url) as connection:
        trail.carry([trail.event("work.done", resource=("work", "0"))], connection, 1)
        connection.commit()
        run(url, "ALTER TABLE audit.audit_outbox RENAME TO off")
        connection.execute("INSERT INTO business VALUES (1)")
        with pytest.raises(ConfigurationError, match="audit init"):
            trail.carry([trail.event("work.done", resource=("work", "1"))], connection, 1)
        connection.commit()  # of a transaction that has failed: the server rolls it back
        assert connection.execute("SELECT count(*) FROM business").fetchone() == (0,)
        connection.rollback()
        run(url, "ALTER TABLE audit.off RENAME TO audit_outbox")
    assert sealed(url) == {"0": 1}


def test_an_outbox_that_is_away_for_a_while_gets_the_events_later(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("work.done", resource=("work", "0"))
        trail.flush()
        run(url, "ALTER TABLE audit.audit_outbox RENAME TO off")
        trail.record("work.done", resource=("work", "1"))
        run(url, "ALTER TABLE audit.off RENAME TO audit_outbox")
        trail.flush(30)
    assert sealed(url) == {"0": 1, "1": 1}


def test_connections_that_are_cut_all_the_time_lose_nothing(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail, psycopg.connect(url, autocommit=True) as other:
        threads = [threading.Thread(target=record, args=(trail, name)) for name in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            other.execute(CUT, (other.info.backend_pid,))
        trail.flush(30)
    assert sealed(url) == {f"{name}-{number}": 1 for name in range(8) for number in range(25)}


def record(trail, name):
    for number in range(25):
        trail.record("work.done", resource=("work", f"{name}-{number}"))


def test_a_commit_that_was_done_but_reported_lost_is_sealed_once(state, monkeypatch):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        execute, cut = psycopg.ClientCursor.execute, threading.Event()

        def fail_once(cursor, query, *arguments, **options):
            found = execute(cursor, query, *arguments, **options)
            is_commit = query.endswith("; COMMIT")
            if is_commit and threading.current_thread().name == "audit-writer" and not cut.is_set():
                cut.set()
                cursor.connection.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return found

        monkeypatch.setattr(psycopg.ClientCursor, "execute", fail_once)
        trail.record("work.done", resource=("work", "0"))
        assert cut.is_set()
        trail.flush(30)
    assert sealed(url) == {"0": 1}


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "SERIALIZABLE"])
def test_no_transaction_waits_for_another_one_because_of_the_trail(state, isolation):
    """Each stays open while the others carry, seal and commit; whoever waited would run into its timeout."""
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        connections = [psycopg.connect(url, options="-c statement_timeout=2s -c lock_timeout=1s") for _ in range(4)]
        for connection in connections:
            connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        for turn in range(3):
            for number, connection in enumerate(connections):
                event = trail.event("work.done", resource=("work", f"{number}-{turn}"))
                trail.carry([event], connection, number)
                trail.record("request.done")
        trail.flush()
        for connection in (connections[2], connections[0], connections[3], connections[1]):
            connection.commit()
            connection.close()
            trail.flush()
    assert sealed(url) == {f"{number}-{turn}": 1 for number in range(4) for turn in range(3)}


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
