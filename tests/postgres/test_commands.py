"""The commands on PostgreSQL as processes of their own, as every role, and with whatever can be wrong with a URL."""

import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.schema import catalog
from audit_core.urls import open_url, schema_sql
from tests.adapters.servers import wait_until
from tests.postgres.server import Server, as_role, new_database

AUDIT = [sys.executable, "-m", "audit_core.cli"]


def start(*words, url):
    environment = {**os.environ, "AUDIT_URL": url, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*AUDIT, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def url(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    return url


@pytest.fixture
def said(capsys):
    """Run a command: its exit code, and the lines of what it said."""

    def run(*words, url):
        capsys.readouterr()
        code = main([*words, "--url", url])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_four_processes_that_make_one_trail_at_once_make_one(state):
    url = new_database()
    processes = [start("init", "--roles", url=url) for _ in range(4)]
    said = [(process.communicate(timeout=60)[0], process.returncode) for process in processes]
    assert [code for _, code in said] == [0] * 4, said
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        assert trail.chain.verify().findings == ()


@pytest.mark.parametrize("schema", ["audit", "compliance", "order"])
def test_the_sql_that_is_printed_makes_what_init_makes(state, schema):
    urls = [f"{new_database()}&schema={schema}" for _ in range(2)]
    assert main(["init", "--url", urls[0]]) == 0
    first, second = map(PostgresDatabase, urls)
    with psycopg.connect(second.conninfo, autocommit=True) as connection:
        connection.execute(schema_sql(urls[1], roles=True))
    assert catalog(first) == catalog(second) != []
    first.close()
    second.close()


READING = [("status",), ("verify",), ("report", "failures"), ("prove", "0"), ("checkpoint",)]


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
def test_the_auditor_reads_and_the_application_does_not(url, said, words):
    code, _, _ = said(*words, url=as_role(url, "audit_auditor"))
    assert code == (3 if words[0] == "verify" else 0)
    code, out, err = said(*words, url=as_role(url, "audit_application"))
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert "audit init --roles" in err
    assert " as `audit_application_login`; connect as a role that may" in err


@pytest.mark.parametrize("words", [("partitions",), ("seal",)], ids=lambda words: words[0])
def test_the_sealer_does_its_work(url, said, words):
    assert said(*words, url=as_role(url, "audit_sealer"))[0] == 0


def test_the_auditor_looks_at_the_months_and_makes_none(url, said):
    code, out, err = said("partitions", url=as_role(url, "audit_auditor"))
    assert (code, "made" in out) == (0, False)
    assert "audit_events_default" in out
    assert "This role may make no months: it only looks." in err


WRONG = {
    "postgresql://u:secret@127.0.0.1:1/x": "check that the server runs",
    "postgresql://u:secret@nosuch.invalid/x": "check that the server runs",
    "postgresql://u:sec#ret@127.0.0.1/x": "%23",
    "postgresql://u:sec/ret@127.0.0.1/x": "%2F",
    "postgresql://u:sec?ret@127.0.0.1/x": "%3F",
    "postgresql://u:secret@[::1/x": "cannot be read",
    "postgresql://u:secret@127.0.0.1:abc/x": "port",
    "postgresql://127.0.0.1:1/x?password=secret": "check that the server runs",
    "postgresql://127.0.0.1:1/x?secret=foo": "cannot be read",
    "postgresql://u:secret%zz@127.0.0.1:1/x": "%XX",
    "postgresql://u:secret@127.0.0.1:1/x?schema=Nope": "lower-case",
    "postgresql://u:secret@127.0.0.1:1/x?schema=pg_x": "pg_",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("words", [("init",), ("status",), ("seal", "--follow")], ids=lambda words: words[0])
def test_a_url_that_cannot_work_is_one_sentence_without_a_password(state, said, words, wrong):
    code, out, err = said(*words, url=wrong)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert WRONG[wrong] in err
    assert not any(password in err for password in ("secret", "sec#ret", "sec/ret", "u:sec"))


def test_a_database_that_is_not_there_is_one_sentence(url, said):
    code, _, err = said("status", url=urlunsplit(urlsplit(url)._replace(path="/nosuch")))
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert '"nosuch" does not exist' in err


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_refused_with_the_cure(state, said, encoding):
    url = new_database(options=f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    code, _, err = said("init", url=url)
    assert code == 2
    assert f"has the encoding {encoding}" in err
    assert "ENCODING 'UTF8'" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sealer_that_is_told_to_stop_leaves_nothing_that_was_committed_a_second_before(url, number):
    sealers = [start("seal", "--follow", url=as_role(url, "audit_sealer")) for _ in range(2)]
    for sealer in sealers:
        assert sealer.stdout.readline()  # it has looked once, and follows
    with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as application:
        for _ in range(20):
            application.record("from.application")
    time.sleep(1)
    for sealer in sealers:
        sealer.send_signal(number)
    said = [(sealer.communicate(timeout=30)[0], sealer.returncode) for sealer in sealers]
    assert [code for _, code in said] == [0, 0], said
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        assert list(trail.waiting()) == []
        assert len(list(trail.events(action="from.application"))) == 20


def test_a_sealer_goes_on_by_itself_when_the_server_was_away(state):
    server = Server(18)
    try:
        url = new_database(url=server.url)
        with AuditTrail(url, lifecycle=False):
            pass
        sealer = start("seal", "--follow", url=url)
        with psycopg.connect(url, autocommit=True) as connection:
            ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'audit-core'"
            assert wait_until(lambda: connection.execute(ours).fetchone() != (0,), 30)
        time.sleep(0.5)
        server.restart()
        with AuditTrail(url, lifecycle=False) as trail, trail.outboxes[0].database.transaction() as connection:
            trail.outboxes[0].put([trail.event("after.restart")], connection)
        with AuditTrail(url, lifecycle=False, create=False) as trail:
            assert wait_until(lambda: any(event.sealed for event in trail.events(action="after.restart")), 20)
        sealer.send_signal(signal.SIGTERM)
        said = sealer.communicate(timeout=30)[0]
        assert sealer.returncode == 0, said
        assert "Traceback" not in said
    finally:
        server.stop()


def test_the_doctor_ends_with_1_when_something_is_wrong(url, said):
    assert said("doctor", url=url)[0] == 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit.audit_events_default DISABLE TRIGGER ALL")
    assert said("doctor", url=url)[0] == 1


def test_an_application_with_another_date_style_and_time_zone_is_known_as_ours(url):
    with AuditTrail(url, lifecycle=False) as trail, psycopg.connect(url) as connection:
        connection.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kolkata'")
        trail.carry([trail.event("a.c")], connection, "key")
        connection.commit()
        trail.flush()
        assert [event.action for event in trail.events(action="a.c")] == ["a.c"]


def test_two_servers_whose_databases_have_one_name_share_no_spill_files(state):
    first, second = (open_url(f"postgresql:///clinic?host=/tmp/{name}").directory for name in "ab")
    assert first != second


def test_options_of_a_url_reach_the_server_as_they_are_written():
    written = "postgresql:///clinic?options=-c%20geqo%3Doff&schema=other&application_name=a+b"
    database = PostgresDatabase(written)
    assert database.conninfo == "postgresql:///clinic?options=-c%20geqo%3Doff&application_name=a+b"
    assert database.schema == "other"
