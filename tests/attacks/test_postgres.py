"""What only PostgreSQL lets an owner or a superuser do to a trail; and what a DBA may do without being accused."""

import json
import subprocess
from urllib.parse import urlsplit

import psycopg
import pytest

from audit_core.cli import main
from audit_core.integrity.verify import Result
from audit_core.postgres.partitions import Partitions
from audit_core.stores import postgres
from audit_core.testing import make_chain, make_event, seal
from audit_core.urls import open_url
from tests.attacks.attacker import superuser
from tests.attacks.test_attacks import KEY, kinds
from tests.postgres.server import VERSIONS, as_role, new_database, shared

SCHEMA = {("schema", None)}
DETAILS = {"a": None, "b": 1, "c": "0.5", "d": ["x", {"e": True}]}


@pytest.fixture(scope="module")
def template():
    """A trail of thirteen events, without a connection: databases are copied from it."""
    url = new_database()
    parts = open_url(url)
    parts.store.create()
    parts.outbox.create()
    chain = make_chain(parts.store)
    for batch in (3, 4, 1, 4):
        seal(chain, [make_event(n, details=DETAILS, ip_address="192.0.2.45", actor_id="eve") for n in range(batch)])
    parts.store.database.run("postgres_roles.sql")
    parts.store.close()
    return urlsplit(url).path[1:]


@pytest.fixture
def url(template):
    return new_database(options=f"TEMPLATE {template}")


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


def verify(url):
    store = open_url(url).store
    try:
        return make_chain(store).verify(KEY)
    finally:
        store.close()


# --- Values that look the same


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("details", """'{"a": 1e400, "b": 1, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": "NaN", "b": 1, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": 1.0, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": 1.00000000000000000000001, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": true, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": "1", "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": 1, "c": 0.5, "d": ["x", {"e": true}]}'"""),
        ("details", """'{"a": null, "b": 1, "c": "0.5", "d": ["x", {"e": true}], "\\ud83d\\ude00": 1}'"""),
        ("details", """'{"b": 1, "c": "0.5", "d": ["x", {"e": true}]}'"""),
        ("details", "to_jsonb(details::text)"),
        ("details", "(repeat('[', 5000) || repeat(']', 5000))::jsonb"),
        ("ip_address", "'192.0.2.45/24'"),
        ("ip_address", "'::ffff:192.0.2.45'"),
        ("ip_address", "'192.0.2.45/0'"),
        ("timestamp", "'infinity'"),
        ("timestamp", "'-infinity'"),
        ("timestamp", "(to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00 BC')::timestamptz"),
        ("timestamp", "timestamp + '10000 years'::interval"),
        ("timestamp", "timestamp + '1 us'::interval"),
        ("actor_id", "'eve '"),
        ("actor_id", "U&'e\\0301ve'"),
        ("tenant_id", "''"),
        ("event_hash", "event_hash || '\\x00'"),
        ("previous_hash", "''"),
    ],
)
def test_a_value_that_only_looks_the_same_is_an_edit(url, column, value):
    assert verify(url).findings == ()
    run(url, f"UPDATE audit.audit_events SET {column} = {value} WHERE sequence = 5")
    assert ("edited", 5) in kinds(verify(url))


def test_jsonb_that_is_laid_out_in_another_way_is_the_same(url):
    other = '{ "d": ["x", {"e": true}], "c": "0.5", "b": 2, "b": 1e0, "a": null }'
    run(url, f"UPDATE audit.audit_events SET details = '{other}' WHERE sequence = 5")
    assert verify(url).findings == ()


@pytest.mark.parametrize(
    "change",
    [
        "ip_text = abbrev(ip_address), ip_address = NULL",  # where no query for an address finds it
        "ip_address = '192.0.2.4', ip_text = '5'",
        "ip_text = ''",
        "ip_text = ip_address::text",
    ],
)
def test_an_address_in_the_other_column_is_an_edit(url, change):
    run(url, f"UPDATE audit.audit_events SET {change} WHERE sequence = 5")
    assert ("edited", 5) in kinds(verify(url))


@pytest.mark.parametrize("address", ["fe80::1%eth0", "testclient", "::1", "::ffff:192.0.2.7", "2001:db8::1", "\u00e9"])
def test_every_address_that_was_sealed_is_read_as_it_was(url, address):
    store = open_url(url).store
    seal(make_chain(store), [make_event(20, ip_address=address)])
    store.close()
    assert verify(url).findings == ()


# --- Places


def test_a_second_row_of_one_sequence_is_found_wherever_a_page_ends(url, monkeypatch):
    forged = "INSERT INTO audit.audit_events (SELECT * FROM audit.audit_events WHERE sequence = {n})"
    anew = "UPDATE audit.audit_events SET event_id = gen_random_uuid(), actor_id = 'adam' WHERE ctid = ({newest})"
    newest = "SELECT max(ctid) FROM audit.audit_events WHERE sequence = {n}"
    monkeypatch.setattr(postgres, "PAGE", 3)
    for n in range(1, 4):
        run(
            url,
            "DROP INDEX IF EXISTS audit.audit_events_event_id",
            forged.format(n=n),
            anew.format(newest=newest.format(n=n)),
        )
        assert ("misplaced", n) in kinds(verify(url))


@pytest.mark.parametrize("sequence", [2**63 - 1, 2**62, 1_000, -1, -(2**63)])
def test_an_event_far_from_the_others_is_found(url, sequence):
    run(url, f"UPDATE audit.audit_events SET sequence = {sequence} WHERE sequence = 12")
    found = verify(url)
    assert found.result is Result.FAILED
    assert any(finding.sequence == sequence for finding in found.findings)


def test_a_row_that_was_put_into_another_month_is_found(url):
    """A superuser says that a constraint was checked; reports of its month would pass over the row."""
    run(
        url,
        "CREATE TABLE audit.loot (LIKE audit.audit_events INCLUDING ALL)",
        "INSERT INTO audit.loot SELECT * FROM audit.audit_events WHERE sequence = 5",
        "DELETE FROM audit.audit_events WHERE sequence = 5",
        "ALTER TABLE audit.loot RENAME TO audit_events_2039_01",
        "ALTER TABLE audit.audit_events_2039_01 ADD CONSTRAINT lie CHECK "
        "(timestamp >= '2039-01-01 00:00+00' AND timestamp < '2039-02-01 00:00+00') NOT VALID",
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'lie'",
        "ALTER TABLE audit.audit_events ATTACH PARTITION audit.audit_events_2039_01 "
        "FOR VALUES FROM ('2039-01-01 00:00+00') TO ('2039-02-01 00:00+00')",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit.audit_events_2039_01 "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit.audit_refuse()",
        "ALTER TABLE audit.audit_events_2039_01 DROP CONSTRAINT lie",
    )
    assert kinds(verify(url)) == {("schema", 5)}


def test_a_month_that_was_taken_away_is_found(url):
    store = open_url(url).store
    (month,) = {row[0] for row in store.database.fetch("SELECT DISTINCT tableoid::regclass FROM audit.audit_events")}
    store.close()
    run(url, f"ALTER TABLE audit.audit_events DETACH PARTITION {month}")
    assert ("missing", 0) in kinds(verify(url)) or verify(url).result is Result.FAILED


# --- The schema


EVIL = (
    "CREATE FUNCTION public.quiet(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS "
    "$$ BEGIN DELETE FROM audit.audit_outbox; RETURN $1; END $$"
)
MONTH = "PARTITION OF audit.audit_events FOR VALUES FROM ('2040-01-01') TO ('2040-02-01')"
TAMPERED = [
    ["DROP TRIGGER audit_append_only ON audit.audit_events"],
    ["DROP TRIGGER audit_no_truncate ON audit.audit_events_default"],
    ["ALTER TABLE audit.audit_events DISABLE TRIGGER ALL"],
    ["ALTER TABLE audit.audit_events_default DISABLE TRIGGER audit_append_only"],
    ["ALTER TABLE audit.audit_checkpoints ENABLE REPLICA TRIGGER audit_append_only"],
    ["CREATE OR REPLACE FUNCTION audit.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"],
    ["CREATE RULE quiet AS ON INSERT TO audit.audit_outbox DO INSTEAD NOTHING"],
    ["ALTER TABLE audit.audit_events ENABLE ROW LEVEL SECURITY"],
    ["ALTER TABLE audit.audit_events_default ENABLE ROW LEVEL SECURITY"],
    ["DROP INDEX audit.audit_events_actor"],
    ["UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit.audit_events_actor'::regclass"],
    ["CREATE UNIQUE INDEX once ON audit.audit_events (actor_id, timestamp, sequence)"],
    [EVIL, "CREATE INDEX quiet ON audit.audit_outbox (public.quiet(event))"],
    [EVIL, "ALTER TABLE audit.audit_outbox ADD CHECK (public.quiet(event) IS NOT NULL)"],
    [EVIL, "ALTER TABLE audit.audit_events ALTER tenant_id SET DEFAULT public.quiet('')"],
    ["ALTER TABLE audit.audit_outbox SET UNLOGGED"],
    ["ALTER TABLE audit.audit_events_default SET UNLOGGED"],
    ["ALTER TABLE audit.audit_outbox ALTER id DROP IDENTITY"],
    ["ALTER TABLE audit.audit_outbox ADD COLUMN note text"],
    ["ALTER TABLE audit.audit_events ALTER details TYPE json USING details::text::json"],
    ["ALTER TABLE audit.audit_events ALTER ip_address TYPE text USING abbrev(ip_address)"],
    ["ALTER TABLE audit.audit_events ALTER private DROP NOT NULL"],
    ["CREATE TABLE audit.more () INHERITS (audit.audit_checkpoints)"],
    [f"CREATE TABLE public.audit_events_2040_01 {MONTH}"],
    [f"CREATE TABLE audit.audit_events_2040_01 {MONTH} PARTITION BY RANGE (timestamp)"],
    ["ALTER TABLE audit.audit_events RENAME TO real",
     "CREATE VIEW audit.audit_events AS SELECT * FROM audit.real WHERE sequence < 9"],
    ["ALTER TABLE audit.audit_events RENAME COLUMN source TO origin"],
    ["DROP TABLE audit.audit_events_default"],
    ["DROP TABLE audit.audit_checkpoints"],
    ["ALTER TABLE audit.audit_events ALTER sequence TYPE numeric",
     "UPDATE audit.audit_events SET sequence = 5.5 WHERE sequence = 5"],
    ["ALTER TABLE audit.audit_events ALTER sequence TYPE text",
     "UPDATE audit.audit_events SET sequence = 'zz' WHERE sequence = '5'"],
    ["ALTER TABLE audit.audit_events ALTER event_hash TYPE text USING 'zz'"],
    ["ALTER TABLE audit.audit_checkpoints ALTER tree_size TYPE numeric",
     "UPDATE audit.audit_checkpoints SET tree_size = 'NaN' WHERE tree_size = 13"],
]  # fmt: skip


@pytest.mark.parametrize("statements", TAMPERED, ids=[" ".join(each[-1].split()[:6]) for each in TAMPERED])
def test_what_is_dropped_changed_or_added_is_found(url, statements):
    run(url, *statements)
    found = verify(url)
    assert found.result is Result.FAILED
    assert kinds(found) >= SCHEMA


def test_a_policy_hides_no_event_from_an_auditor_without_a_word(url):
    run(url, "ALTER TABLE audit.audit_events ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY quiet ON audit.audit_events USING (sequence < 5)")  # fmt: skip
    assert kinds(verify(as_role(url, "audit_auditor"))) == SCHEMA
    store = open_url(as_role(url, "audit_auditor")).store
    with pytest.raises(Exception, match="row-level security"):
        list(store.rows())
    store.close()


def test_an_auditor_verifies_without_a_right_on_any_month(url):
    assert verify(as_role(url, "audit_auditor")).findings == ()


# --- What a DBA may do


DAILY = [
    "VACUUM (FULL, ANALYZE)", "VACUUM (FREEZE)", "REINDEX SCHEMA audit", "ANALYZE",
    "CLUSTER audit.audit_checkpoints USING audit_checkpoints_pkey",
    "CREATE INDEX by_tenant ON audit.audit_events (tenant_id, timestamp DESC)",
    "CREATE INDEX by_details ON audit.audit_events USING gin (details)",
    "CREATE INDEX by_address ON audit.audit_events (lower(user_agent)) WHERE user_agent IS NOT NULL",
    "COMMENT ON COLUMN audit.audit_events.actor_id IS 'who'",
    "CREATE VIEW audit.who AS SELECT actor_id FROM audit.audit_events",
    "CREATE TABLE public.audit_events (id int)",
    "CREATE TABLE public.seen (size bigint REFERENCES audit.audit_checkpoints (tree_size))",
    "GRANT SELECT ON audit.audit_events TO PUBLIC",
    "ALTER TABLE audit.audit_outbox SET (fillfactor = 50)",
    "ALTER TABLE audit.audit_events ALTER details SET STATISTICS 500",
    "SELECT audit.audit_make_partitions(14)",
    "CREATE STATISTICS audit.many ON actor_id, action FROM audit.audit_events",
    "CREATE PUBLICATION everything FOR ALL TABLES",
]  # fmt: skip


@pytest.mark.parametrize("statement", DAILY)
def test_nobody_is_accused_for_what_a_dba_does(url, statement):
    run(url, statement)
    assert verify(url).findings == ()


def test_nobody_is_accused_under_another_search_path(url):
    name = urlsplit(url).path[1:]
    run(url, f"ALTER DATABASE {name} SET search_path = audit, pg_temp, pg_catalog")
    assert verify(url).findings == ()


def test_nobody_is_accused_for_months_that_leave_the_default_partition(url):
    store = open_url(url).store
    chain = make_chain(store)
    seal(chain, [make_event(86_400 * days) for days in (-400, -370, 5_000)])
    with superuser(store) as connection:  # what does not belong there stays to be found
        connection.execute("UPDATE audit.audit_events SET sequence = -7 WHERE sequence = 15")
    before = kinds(chain.verify(KEY))
    assert Partitions(store.database).move_from_default()
    assert kinds(chain.verify(KEY)) == before >= {("misplaced", -7)}
    store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_is_accused_for_a_dump_that_another_server_restored(version):
    old, new = new_database(version), new_database()
    parts = open_url(old)
    parts.store.create()
    parts.outbox.create()
    chain = make_chain(parts.store)
    seal(chain, [make_event(n, details=DETAILS, ip_address=address) for n, address in enumerate(["::1", "192.0.2.1"])])
    note = chain.checkpoint_note()
    parts.store.close()
    tools = {name: shared().bin_path / name for name in ("pg_dump", "psql")}
    dump = subprocess.run([tools["pg_dump"], old], check=True, capture_output=True).stdout
    subprocess.run([tools["psql"], "-q", "-v", "ON_ERROR_STOP=1", new], input=dump, check=True, capture_output=True)
    store = open_url(new).store
    found = make_chain(store).verify(KEY, [note])
    store.close()
    assert (found.findings, found.result) == ((), Result.OK)


def test_a_table_that_was_dropped_is_told_in_few_sentences(url, capsys):
    run(url, "DROP TABLE audit.audit_events")
    assert main(["verify", "--url", url, "--key", str(KEY)]) == 1
    told, _, _ = capsys.readouterr().out.partition("FAILED.")
    assert "table audit.audit_events is p is missing" in told
    assert len(told.splitlines()) <= 3
    main(["verify", "--url", url, "--key", str(KEY), "--json"])
    assert len(json.loads(capsys.readouterr().out)["findings"]) > 20


def test_a_month_that_was_renamed_is_one_sentence(url, capsys):
    with psycopg.connect(url) as connection:
        query = "SELECT relname FROM pg_class WHERE relname ~ '^audit_events_2' AND relkind = 'r' ORDER BY 1"
        month = connection.execute(query).fetchone()[0]
    run(url, f"ALTER TABLE audit.{month} RENAME TO audit_events_nov")
    assert main(["verify", "--url", url, "--key", str(KEY)]) == 1
    told, _, _ = capsys.readouterr().out.partition("FAILED.")
    assert told.splitlines() == ["The table audit.audit_events_nov is none of ours (a month that was renamed?)."]


@pytest.mark.parametrize(
    ("statement", "what"),
    [("DROP TRIGGER {0} ON {1}", "missing"), ("ALTER TABLE {1} DISABLE TRIGGER {0}", "switched off or changed")],
)
def test_triggers_that_were_dropped_or_switched_off_are_one_sentence(url, capsys, statement, what):
    tables = ("audit.audit_events", "audit.audit_checkpoints")
    run(url, *(statement.format("audit_no_truncate", table) for table in tables))
    assert main(["verify", "--url", url, "--key", str(KEY)]) == 1
    told, _, _ = capsys.readouterr().out.partition("FAILED.")
    names = ", ".join(f"audit_no_truncate on {table}" for table in sorted(tables))
    assert told.splitlines() == [f"2 triggers that refuse changes are {what}: {names}."]
