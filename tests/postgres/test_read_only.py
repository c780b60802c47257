"""A database that takes no writes for a while, and a standby: both can be read, and what is to be written waits."""

import logging
from collections import Counter

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import StoreUnavailableError
from audit_core.postgres import PostgresDatabase
from tests.adapters.servers import wait_until
from tests.postgres.server import NEWEST_AND_AT_LENGTH_OLDEST, Server, Standby, as_role, new_database

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
READ_ONLY = "default_transaction_read_only is on): turn the setting off, or name the primary"


def set_read_only(url, value):
    """For every session from now on; what is open ends."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = {value}")
        if value == "on":
            connection.execute(CUT, (connection.info.backend_pid,))


def sealed(url):
    """How often each resource is in the chain; none waits, and nothing is found."""
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush(30)
        assert list(trail.waiting()) == []
        assert trail.chain.verify().findings == ()
        return Counter(event.resource_id for event in trail.events(action="work.done"))


def record(trail, number):
    trail.record("work.done", resource=("work", str(number)))


def test_a_database_that_was_read_only_gets_every_event_once_when_it_is_not(state, caplog):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail, AuditTrail(url, lifecycle=False) as sealer:
        record(trail, 0)
        trail.flush()
        set_read_only(url, "on")
        with psycopg.connect(url, options="-c default_transaction_read_only=off") as connection:
            trail.carry([trail.event("work.done", resource=("work", "1"))], connection, "key")
        for number in range(2, 6):
            record(trail, number)
        sealer.keep_sealing()
        assert wait_until(lambda: sealer._writer.follower.trouble, 10)
        with pytest.raises(StoreUnavailableError, match="turn the setting off"):
            sealer.flush(0.5)
        assert Counter(event.sealed for event in trail.events(action="work.done")) == {True: 1, False: 5}
        messages = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
        told = [message for message in messages if READ_ONLY in message]
        assert any(message.startswith("Events wait for the outbox, durably in the spill file") for message in told)
        assert len(told) <= 3  # each of the two trails says once that it does not seal
        set_read_only(url, "off")
        trail.flush(30)
    assert sealed(url) == {str(number): 1 for number in range(6)}


def test_a_session_that_began_read_only_is_not_used_again_after_it_has_failed(state):
    url = new_database()
    set_read_only(url, "on")
    database = PostgresDatabase(url)
    database.fetch("SELECT 1")
    set_read_only(url, "off")
    with pytest.raises(StoreUnavailableError, match="turn the setting off"), database.transaction() as connection:
        connection.execute("CREATE TABLE public.written ()")
    with database.transaction() as connection:
        connection.execute("CREATE TABLE public.written ()")
    database.close()


def test_a_setting_that_is_meant_for_the_application_alone_is_lifted_in_the_url(state):
    url = new_database() + "&options=-c%20default_transaction_read_only%3Doff"
    with AuditTrail(url, lifecycle=False) as trail:
        set_read_only(url, "on")
        record(trail, 0)
        trail.flush()
    assert sealed(url) == {"0": 1}


def test_a_sealer_that_follows_waits_for_a_read_only_database_and_a_single_seal_says_so(state, capsys):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        record(trail, 0)
    set_read_only(url, "on")
    for command in ("seal", "init"):
        assert main([command, "--url", url]) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.strip().splitlines())) == ("", 1)
        assert "read-only just now" in err
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("audit_core.cli.keeping.follow_apart", lambda *_: None)
        assert main(["seal", "--follow", "--url", url]) == 0


@pytest.fixture(scope="module", params=NEWEST_AND_AT_LENGTH_OLDEST)
def servers(request):
    primary = Server(request.param)
    try:
        standby = Standby(primary)
        try:
            yield primary, standby
        finally:
            standby.stop()
    finally:
        primary.stop()


def test_an_auditor_verifies_and_reads_reports_on_a_standby_which_say_that_it_is_not_recorded(servers, state, capsys):
    primary, standby = servers
    url = new_database(url=primary.url)
    with AuditTrail(url, lifecycle=False) as trail:
        record(trail, 0)
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    auditor = as_role(standby.of(url, primary), "audit_auditor", made_at=url)
    standby.wait_for(primary)
    for words in (("verify", "--jobs", "2"), ("report", "failures"), ("status",), ("doctor",)):
        code = 3 if words[0] == "verify" else 0
        assert main([*words, "--url", auditor]) == code
        out, err = capsys.readouterr()
        assert ("is not recorded in it" in (out + err).replace("\n", " ")) == (words[0] in {"verify", "report"})
    assert "the roles are not tried on a standby" in out


def test_what_is_written_to_a_standby_waits_until_it_is_promoted_and_is_sealed_once(servers, state, caplog):
    """The last test of these servers: the primary is lost."""
    primary, standby = servers
    url = new_database(url=primary.url)
    with AuditTrail(url, lifecycle=False) as trail:
        record(trail, 0)
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as application:
        record(application, 1)  # which nobody seals there
    standby.wait_for(primary)
    with AuditTrail(standby.of(url, primary), lifecycle=False) as trail:
        trail.keep_sealing()
        record(trail, 2)
        assert wait_until(lambda: "Nothing is sealed until this is mended" in caplog.text, 10)
        assert "cannot execute INSERT in a read-only" in caplog.text
        primary.control("-m", "immediate", "stop")
        standby.control("promote")
        assert wait_until(lambda: not list(trail.waiting()), 30)
    assert sealed(standby.of(url, primary)) == {"0": 1, "1": 1, "2": 1}
