"""Each role can do what it must, and nothing else; and the doctor sees it when that is not so."""

from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.postgres import ROLES, PostgresDatabase
from audit_core.postgres.doctor import Doctor
from audit_core.postgres.making import make_roles
from tests.postgres.server import Server, as_role, new_database


@pytest.fixture
def url(state):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    return url


def checks(url):
    database = PostgresDatabase(url)
    try:
        return list(Doctor(database).examine())
    finally:
        database.close()


def failures(url):
    return [check.text for check in checks(url) if not check.holds]


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
        (
            "REVOKE INSERT (event) ON audit.audit_outbox FROM audit_application",
            "audit_application cannot add to the outbox",
        ),
        ("GRANT UPDATE ON audit.audit_events_default TO audit_sealer", "audit_sealer can change a partition"),
        ("GRANT INSERT ON audit.audit_outbox TO audit_application", "audit_application can choose an id in the outbox"),
        ("GRANT SELECT ON audit.audit_events TO PUBLIC", "PUBLIC has SELECT on audit_events"),
        ("GRANT UPDATE (event) ON audit.audit_outbox TO PUBLIC", "PUBLIC has UPDATE (event) on audit_outbox"),
        (
            "GRANT UPDATE (details) ON audit.audit_events TO audit_application",
            "audit_application has UPDATE (details) on audit_events",
        ),
        (
            "GRANT USAGE ON SEQUENCE audit.audit_outbox_id_seq TO audit_application",
            "audit_application has USAGE on audit_outbox_id_seq",
        ),
        (
            "GRANT EXECUTE ON FUNCTION audit.audit_make_partitions(int) TO PUBLIC",
            "PUBLIC has EXECUTE on audit_make_partitions",
        ),
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
        "audit_make_partitions(integer)",
    f"CREATE FUNCTION audit.audit_make_partitions(smallint) RETURNS SETOF text {NOTHING}":
        "audit_make_partitions(smallint)",
    "ALTER FUNCTION audit.audit_make_partitions(int) SET search_path = public":
        "audit_make_partitions(integer)",
    "ALTER FUNCTION audit.audit_make_partitions(int) SECURITY INVOKER": "audit_make_partitions(integer)",
    "DROP FUNCTION audit.audit_make_partitions(int)": "audit_make_partitions(integer)",
    "CREATE OR REPLACE FUNCTION audit.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'":
        "audit_refuse()",
    "ALTER FUNCTION audit.audit_refuse() RESET ALL": "audit_refuse()",
}  # fmt: skip


@pytest.mark.parametrize("statement", FUNCTIONS)
def test_a_function_that_was_replaced_is_named_and_verification_fails(url, statement):
    run(url, statement)
    named = [text for text in failures(url) if "is not as `audit init` makes it" in text]
    assert len(named) == 1
    assert named[0].startswith(f"function audit.{FUNCTIONS[statement]} is not")
    with AuditTrail(url, lifecycle=False) as trail:
        assert {finding.kind for finding in trail.verify().findings} == {"schema"}


def test_init_puts_a_function_back(url):
    run(url, "ALTER FUNCTION audit.audit_refuse() RESET ALL", *FUNCTIONS)
    run(url, "DROP FUNCTION audit.audit_make_partitions(smallint)")
    assert failures(url) != []
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


def test_a_grant_on_one_month_is_found(url):
    with psycopg.connect(url) as connection:
        query = "SELECT relname FROM pg_class WHERE relname ~ '^audit_events_[0-9_]+$' ORDER BY 1 LIMIT 1"
        (month,) = connection.execute(query).fetchone()
    run(url, f"GRANT SELECT, DELETE ON audit.{month} TO audit_application")
    assert failures(url) == [f"audit_application has DELETE, SELECT on {month}: revoke it"]


@pytest.mark.parametrize("other", ["audit_sealer", "pg_read_all_data", "pg_write_all_data"])
def test_a_login_that_is_the_application_and_more_is_found(url, other):
    run(url, f"CREATE ROLE doctor_web LOGIN IN ROLE audit_application, {other}")
    try:
        assert failures(url) == [f"doctor_web is audit_application and {other} at once: revoke one of them"]
    finally:
        run(url, "DROP ROLE doctor_web")


@pytest.mark.parametrize("role", ROLES)
def test_whoever_is_in_one_role_tries_that_one_and_says_which_it_could_not(url, role):
    found = checks(as_role(url, role))
    assert [check.text for check in found if not check.holds] == []
    assert [check.text.split()[0] for check in found if " other ways are refused" in check.text] == [role]
    others = {f"not tried: {other}, which whoever is connected may not become" for other in set(ROLES) - {role}}
    assert others <= {check.text for check in found if check.is_note}


def test_a_role_that_cannot_do_its_task_is_found_by_itself(url):
    run(url, "GRANT SELECT ON audit.audit_events TO audit_application")
    assert "audit_application can read the trail" in failures(as_role(url, "audit_application"))


def test_roles_that_have_no_grants_in_this_trail_are_not_tried(url):
    other = new_database()
    with AuditTrail(other, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
    assert failures(other) == []
    assert sum("has no grants in this trail" in check.text for check in checks(other)) == len(ROLES)


def test_what_is_held_by_a_lock_is_not_tried_and_neither_wrong_nor_well(url):
    with psycopg.connect(url) as connection:
        connection.execute("LOCK audit.audit_checkpoints IN EXCLUSIVE MODE")
        found = [check for check in checks(url) if check.text.startswith("not tried: whether audit_sealer can")]
    assert "not tried: whether audit_sealer can append a checkpoint" in {c.text.partition(" (")[0] for c in found}
    assert all(check.holds and check.is_note for check in found)


def test_the_owner_on_a_managed_server_who_made_the_roles_can_try_them(state):
    server = Server(16)  # where the roles are not made by a superuser
    try:
        run(server.url, "CREATE ROLE cloud LOGIN CREATEROLE CREATEDB PASSWORD 'test'")
        parts = urlsplit(server.url)
        cloud = urlunsplit(parts._replace(netloc=f"cloud:test@{parts.netloc.rpartition('@')[2]}"))
        url = new_database(url=cloud)
        assert main(["init", "--roles", "--url", url]) == 0
        found = checks(url)
        assert [check.text for check in found if not check.holds] == []
        assert [check.text.split()[0] for check in found if " other ways are refused" in check.text] == list(ROLES)
        with psycopg.connect(url) as connection:
            assert not connection.execute("SELECT pg_has_role('audit_sealer', 'SET')").fetchone()[0]
    finally:
        server.stop()


def test_a_database_without_a_trail_is_told_in_one_sentence(state, capsys):
    assert main(["doctor", "--url", new_database()]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.strip().splitlines())) == ("", 1)
    assert "has no audit trail" in err


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


def test_an_owner_who_may_not_make_roles_is_told_what_to_do(state):
    server = Server(16)
    try:
        run(server.url, "CREATE ROLE plain LOGIN CREATEDB PASSWORD 'test'")
        parts = urlsplit(server.url)
        plain = urlunsplit(parts._replace(netloc=f"plain:test@{parts.netloc.rpartition('@')[2]}"))
        url = new_database(url=plain)
        database = PostgresDatabase(url)
        with pytest.raises(ConfigurationError, match="with CREATEROLE"):
            make_roles(database)
        database.close()
        assert main(["init", "--roles", "--url", url]) == 2
        assert main(["verify", "--url", url]) == 3  # sound, and without roles
    finally:
        server.stop()
