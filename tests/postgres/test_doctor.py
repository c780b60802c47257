"""Each role can do what it must, and nothing else; and the doctor sees it when that is not so."""

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.doctor import Doctor
from audit_core.urls import schema_sql
from tests.postgres.server import as_role, new_database


@pytest.fixture
def url(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    return url


def failures(url):
    database = PostgresDatabase(url)
    try:
        return [check.text for check in Doctor(database).examine() if not check.holds]
    finally:
        database.close()


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_trail_that_was_just_made_is_in_good_health(url):
    assert failures(url) == []


def test_examining_leaves_nothing_behind(url):
    with AuditTrail(url, lifecycle=False) as trail:
        before = list(trail.store.rows()), list(trail.store.checkpoints()), list(trail.waiting())
        failures(url)
        assert (list(trail.store.rows()), list(trail.store.checkpoints()), list(trail.waiting())) == before


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("GRANT SELECT ON audit.audit_events TO audit_application", "audit_application can read the trail"),
        ("GRANT DELETE ON audit.audit_events TO audit_sealer", "audit_sealer can delete from the trail"),
        ("GRANT TRUNCATE ON audit.audit_events TO audit_auditor", "audit_auditor could empty the trail"),
        ("REVOKE INSERT ON audit.audit_outbox FROM audit_application", "audit_application cannot add to the outbox"),
        ("GRANT UPDATE ON audit.audit_events_default TO audit_sealer", "audit_sealer can change a partition"),
        ("GRANT SELECT ON audit.audit_events TO PUBLIC", "PUBLIC has SELECT on audit_events"),
        ("DROP TRIGGER audit_append_only ON audit.audit_checkpoints", "audit_checkpoints has no enabled trigger"),
        ("ALTER TABLE audit.audit_events_default DISABLE TRIGGER ALL", "audit_events_default has no enabled trigger"),
        ("GRANT CREATE ON SCHEMA audit TO audit_application", "audit_application can make tables beside the trail"),
        ("ALTER TABLE audit.audit_events OWNER TO audit_sealer", "audit_sealer can remove a trigger"),
    ],
)
def test_what_a_role_can_do_beyond_its_task_is_found(url, statement, finding):
    run(url, statement)
    try:
        assert any(text.startswith(finding) for text in failures(url)), failures(url)
    finally:
        run(url, "DROP SCHEMA audit CASCADE")  # the roles are the server's, their grants this database's


NOTHING = "LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN; END'"
FUNCTIONS = {
    f"CREATE OR REPLACE FUNCTION audit.audit_make_partitions(months_ahead int) RETURNS SETOF text {NOTHING}":
        "audit_make_partitions(months_ahead integer)",
    f"CREATE FUNCTION audit.audit_make_partitions(smallint) RETURNS SETOF text {NOTHING}":
        "audit_make_partitions(smallint)",
    "ALTER FUNCTION audit.audit_make_partitions(int) SET search_path = public":
        "audit_make_partitions(months_ahead integer)",
    "ALTER FUNCTION audit.audit_make_partitions(int) SECURITY INVOKER": "audit_make_partitions(months_ahead integer)",
    "DROP FUNCTION audit.audit_make_partitions(int)": "audit_make_partitions(months_ahead integer)",
    "CREATE OR REPLACE FUNCTION audit.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'":
        "audit_refuse()",
    "ALTER FUNCTION audit.audit_refuse() RESET ALL": "audit_refuse()",
}  # fmt: skip


@pytest.mark.parametrize("statement", FUNCTIONS)
def test_a_function_that_was_replaced_is_named_and_verification_fails(url, statement):
    run(url, statement)
    named = [text for text in failures(url) if "is not as `audit init --sql` prints it" in text]
    assert len(named) == 1
    assert named[0].startswith(f"function {FUNCTIONS[statement]} is not")
    with AuditTrail(url, lifecycle=False) as trail:
        assert {finding.kind for finding in trail.verify().findings} == {"schema"}


def test_what_is_printed_puts_a_function_back(url):
    run(url, "ALTER FUNCTION audit.audit_refuse() RESET ALL", *FUNCTIONS)
    functions = schema_sql(url).split("CREATE OR REPLACE FUNCTION")[1:]
    run(url, "DROP FUNCTION audit.audit_make_partitions(smallint)")
    run(url, *("CREATE OR REPLACE FUNCTION" + text.partition("$$;")[0] + "$$" for text in functions))
    assert main(["init", "--roles", "--url", url]) == 0
    assert failures(url) == []


LACKING = [
    "REVOKE SELECT ON audit.audit_outbox FROM audit_auditor",
    "REVOKE EXECUTE ON FUNCTION audit.audit_make_partitions(integer) FROM audit_sealer",
    "REVOKE USAGE ON SCHEMA audit FROM audit_application",
]


@pytest.mark.parametrize("statement", LACKING)
def test_grants_that_a_trail_lacks_are_told_with_their_cure_which_mends_them(url, statement):
    run(url, statement)
    found = failures(url)
    assert found
    assert all("`audit init --roles`" in text for text in found)
    assert main(["init", "--roles", "--url", url]) == 0
    assert failures(url) == []


def test_the_application_may_write_and_can_neither_read_nor_forge(url):
    with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as trail:
        trail.record("from.application")
        trail.flush()
        assert trail._writer.follower.is_elsewhere
        for attempt in (lambda: list(trail.events()), trail.sealer.seal, trail.chain.verify):
            with pytest.raises(ConfigurationError, match="permission denied"):
                attempt()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush()
        assert [event.action for event in trail.events(action="from.application")] == ["from.application"]


def test_the_sealer_seals_what_the_application_wrote(url):
    with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as trail:
        trail.record("from.application")
    with AuditTrail(as_role(url, "audit_sealer"), lifecycle=False) as sealer:
        sealer.flush()
        assert list(sealer.waiting()) == []
        assert sealer.chain.verify().findings == ()


def test_the_auditor_verifies_and_cannot_write(url):
    with AuditTrail(as_role(url, "audit_auditor"), lifecycle=False) as trail:
        assert trail.verify().findings == ()
        with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as application:
            application.record("from.application")
        with pytest.raises((ConfigurationError, StoreUnavailableError)):
            trail.sealer.seal()
