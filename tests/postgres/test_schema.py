"""What is changed in the schema is found, and what a DBA may do to it is no alarm."""

import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.postgres.partitions import Partitions
from audit_core.testing import make_event
from tests.postgres.server import VERSIONS, new_database

MONTH = "(SELECT max(tableoid::regclass::text) FROM audit.audit_events)"
FORGED = (
    "INSERT INTO audit.audit_events SELECT {}, timestamp, gen_random_uuid(), 'mallory', actor_type, on_behalf_of, "
    "tenant_id, action, resource_type, resource_id, outcome, details, source, ip_address, ip_text, user_agent, "
    "request_id, session_id, private, previous_hash, event_hash FROM audit.audit_events WHERE sequence = 1"
)


@pytest.fixture(params=VERSIONS)
def trail(state, request):
    with sealed(new_database(request.param)) as trail:
        yield trail


def sealed(url):
    trail, now = AuditTrail(url, lifecycle=False), datetime.now(UTC)  # in a month that has a partition of its own
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([make_event(resource_type="invoice", timestamp=now) for _ in range(3)], connection)
    trail.flush()
    return trail


def run(trail, *statements):
    """As the owner. MONTH stands for this month's table."""
    with psycopg.connect(trail.store.database.conninfo, autocommit=True) as connection:
        (month,) = connection.execute(f"SELECT {MONTH}").fetchone()
        for statement in statements:
            connection.execute(statement.replace("MONTH", month))


def findings(trail):
    return [finding for finding in trail.chain.verify().findings if finding.kind != "time"]


CHANGES = {
    "an enum that is called text": [
        "CREATE TYPE audit.text AS ENUM ('invoice')",
        (
            "ALTER TABLE audit.audit_events ALTER resource_type TYPE audit.text "
            "USING resource_type::pg_catalog.text::audit.text"
        ),
        (
            "CREATE FUNCTION audit.lie(audit.text) RETURNS pg_catalog.text IMMUTABLE LANGUAGE plpgsql AS "
            "$$BEGIN RETURN 'nobody'; END$$"
        ),
        "CREATE CAST (audit.text AS pg_catalog.text) WITH FUNCTION audit.lie(audit.text) AS IMPLICIT",
    ],
    "a domain that is called jsonb": [
        "CREATE DOMAIN audit.jsonb AS pg_catalog.json",
        "ALTER TABLE audit.audit_events ALTER details TYPE audit.jsonb USING details::pg_catalog.json",
    ],
    "a collation": ['ALTER TABLE audit.audit_events ALTER source TYPE text COLLATE "C"'],
    "a unique index on a month": ["CREATE UNIQUE INDEX evil ON MONTH (event_id)"],
    "an index on a month that runs a function": [
        "CREATE FUNCTION public.f(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'",
        "CREATE INDEX evil ON MONTH (public.f(actor_id))",
    ],
    "a check on a month": ["ALTER TABLE MONTH ADD CONSTRAINT z CHECK (actor_id <> 'mallory')"],
    "a month in the place of the default partition": [
        "DROP TABLE audit.audit_events_default",
        (
            "CREATE TABLE audit.audit_events_default PARTITION OF audit.audit_events FOR VALUES FROM "
            "('1999-01-01 00:00+00') TO ('1999-02-01 00:00+00')"
        ),
        (
            "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_events_default "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse()"
        ),
    ],
    "another function that makes months": [
        (
            "CREATE OR REPLACE FUNCTION audit.audit_make_partitions(months_ahead integer) RETURNS SETOF text "
            "LANGUAGE sql SECURITY DEFINER AS $$SELECT 'x'::text WHERE false$$"
        )
    ],
    "a setting of the function that makes months": [
        "ALTER FUNCTION audit.audit_make_partitions(integer) SET search_path = public"
    ],
    "a function of another owner": ["ALTER FUNCTION audit.audit_refuse() OWNER TO pg_monitor"],
    "an outbox of another owner": ["ALTER TABLE audit.audit_outbox OWNER TO pg_monitor"],
    "triggers that run a function of the server's catalogue": [
        "SET allow_system_table_mods = on",
        "CREATE FUNCTION pg_catalog.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        (
            "CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit.audit_checkpoints "
            "FOR EACH ROW EXECUTE FUNCTION pg_catalog.audit_refuse()"
        ),
    ],
    "forced row security": ["ALTER TABLE audit.audit_events FORCE ROW LEVEL SECURITY"],
    "a deferrable primary key": [
        (
            "ALTER TABLE audit.audit_outbox DROP CONSTRAINT audit_outbox_pkey, "
            "ADD CONSTRAINT audit_outbox_pkey PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED"
        )
    ],
    "numbers below zero": [
        "ALTER TABLE audit.audit_outbox ALTER id SET MINVALUE -9000000000000 SET START -1000000 RESTART"
    ],
    "numbers that begin again": ["ALTER SEQUENCE audit.audit_outbox_id_seq CACHE 1000 CYCLE MAXVALUE 2000"],
    "a forged row that is in no index": [
        "SET allow_system_table_mods = on",
        (
            "UPDATE pg_index SET indisready = false WHERE indrelid = 'MONTH'::regclass AND indnatts = 1 "
            "AND pg_get_indexdef(indexrelid) LIKE '%(sequence)'"
        ),
        FORGED.format("sequence"),
        "UPDATE pg_index SET indisready = true WHERE NOT indisready",
    ],
    "a row without a sequence": [
        "ALTER TABLE audit.audit_events ALTER sequence DROP NOT NULL",
        FORGED.format("NULL"),
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_schema_is_found(trail, change):
    assert findings(trail) == []
    run(trail, *CHANGES[change])
    assert findings(trail) != []


def test_a_rule_that_nobody_has_checked_is_no_rule(state):
    with sealed(new_database(18)) as trail:
        run(trail, *CHANGES["a row without a sequence"])
        run(trail, "ALTER TABLE audit.audit_events ADD CONSTRAINT nn NOT NULL sequence NOT VALID")
        assert findings(trail) != []


def test_a_temporary_table_does_not_stand_before_the_catalogue(trail):
    with trail.store.database.transaction() as connection:
        connection.execute("CREATE TEMP TABLE pg_trigger AS SELECT * FROM pg_catalog.pg_trigger")
    run(trail, "ALTER TABLE audit.audit_checkpoints DISABLE TRIGGER audit_append_only")
    assert findings(trail) != []


HARMLESS = [
    "VACUUM FULL audit.audit_events",
    "REINDEX TABLE CONCURRENTLY audit.audit_events",
    "CREATE STATISTICS public.st ON actor_id, action FROM audit.audit_events",
    "ALTER TABLE audit.audit_events REPLICA IDENTITY FULL",
    "CREATE INDEX ON audit.audit_events (tenant_id, timestamp)",
    "CREATE INDEX ON audit.audit_events (lower(actor_id))",
    "CREATE INDEX ON audit.audit_events USING gin (details)",
    "CREATE INDEX ON MONTH (tenant_id)",
    "ALTER TABLE MONTH SET (fillfactor = 100, autovacuum_enabled = false)",
    "ALTER TABLE audit.audit_events ALTER details SET STORAGE EXTERNAL",
    "COMMENT ON TABLE audit.audit_events IS 'our trail'",
    "CREATE PUBLICATION pp FOR TABLE audit.audit_events WITH (publish_via_partition_root = true)",
    "CREATE VIEW audit.v AS SELECT * FROM audit.audit_events",
    "ALTER TABLE audit.audit_outbox ALTER id RESTART WITH 1000",
]


def test_what_a_dba_may_do_is_no_alarm(trail):
    for statement in HARMLESS:
        run(trail, statement)
        assert findings(trail) == [], statement


@pytest.mark.parametrize("table", ["audit.audit_outbox", "MONTH"])
def test_an_index_that_is_being_rebuilt_is_no_alarm(trail, table):
    with psycopg.connect(trail.url) as old:
        old.execute("INSERT INTO audit.audit_outbox (event) VALUES ('{}')")
        old.execute("LOCK TABLE audit.audit_events IN ROW EXCLUSIVE MODE")
        with pytest.raises(psycopg.errors.QueryCanceled):
            run(trail, "SET statement_timeout = '1s'", f"REINDEX TABLE CONCURRENTLY {table}")
        old.rollback()
    assert trail.store.database.fetch("SELECT count(*) > 0 FROM pg_index WHERE NOT indisvalid") == [(True,)]
    assert findings(trail) == []


@pytest.mark.parametrize("schema", ["audit_events", "audit_outbox", "audit_events_default", "order", "audit_refuse"])
def test_a_schema_may_be_called_like_a_table(state, schema):
    with sealed(f"{new_database()}&schema={schema}") as trail:
        assert findings(trail) == []


def test_verify_waits_for_tables_that_are_exchanged(trail, monkeypatch):
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([make_event(timestamp=datetime(2020, 3, 1, tzinfo=UTC))], connection)
    trail.flush()
    guard, is_exchanging = Partitions._guard, threading.Event()

    def slow(self, name, connection):
        guard(self, name, connection)
        is_exchanging.set()
        time.sleep(0.5)

    monkeypatch.setattr(Partitions, "_guard", slow)
    mover = threading.Thread(target=Partitions(trail.store.database).move_from_default)
    mover.start()
    assert is_exchanging.wait(10)
    found = list(trail.store.check_schema())
    mover.join()
    assert found == []
