"""One seals at a time, and whoever may not seal cannot keep others from it."""

import threading

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import BusyError, ConfigurationError, StoreUnavailableError
from audit_core.postgres import ROLES
from audit_core.urls import open_url
from tests.adapters.servers import wait_until
from tests.postgres.server import VERSIONS, as_role, new_database

TAKE = "SELECT FROM audit.audit_lock FOR UPDATE"


@pytest.fixture(params=VERSIONS)
def url(request, monkeypatch, state):
    url = new_database(request.param)
    monkeypatch.setenv("AUDIT_URL", url)
    assert main(["init", "--roles"]) == 0
    return url


@pytest.fixture
def store(url):
    parts = open_url(url)
    yield parts.store
    parts.store.close()


def run(url, *statements):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def actions(trail):
    trail.flush()
    return [event.action for event in trail.events() if event.sealed]


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"audit_sealer", "audit_eraser"}))
@pytest.mark.parametrize("strength", ["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"])
def test_nobody_but_who_adds_to_the_chain_may_lock_its_row(url, role, strength):
    with psycopg.connect(as_role(url, role)) as mallory:
        for statement in (f"SELECT FROM audit.audit_lock FOR {strength}", "LOCK TABLE audit.audit_lock IN SHARE MODE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mallory.execute(statement)
            mallory.rollback()


def test_an_advisory_lock_which_anybody_may_take_keeps_nobody_from_sealing(url):
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        with psycopg.connect(as_role(url, "audit_application"), autocommit=True) as mallory:
            mallory.execute("SELECT pg_advisory_lock(1096107081, to_regclass('audit.audit_events')::oid::int)")
            mallory.execute("SELECT pg_advisory_lock(1096107081, 0)")
            assert "a.b" in actions(trail)


def test_who_keeps_the_sealer_from_sealing_is_named(url, store):
    with psycopg.connect(as_role(url, "audit_sealer")) as other:
        other.execute(TAKE)
        named = f"backend {other.info.backend_pid} of audit_sealer_login"
        with pytest.raises(BusyError, match=named), store.transaction():
            pass
        with AuditTrail(url, lifecycle=False) as trail:
            trail.record("a.b")
            with pytest.raises(StoreUnavailableError, match=named):
                trail.flush(1)


def test_the_lock_is_free_when_its_transaction_ends_however_it_ends(url, store):
    for end in ("COMMIT", "ROLLBACK", "SELECT pg_terminate_backend(pg_backend_pid())"):
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(f"BEGIN; {TAKE}")
            with pytest.raises(BusyError), store.transaction():
                pass
            if "terminate" in end:
                with pytest.raises(psycopg.OperationalError):
                    other.execute(end)
            else:
                other.execute(end)
            with store.transaction(patient=True):
                pass


def test_who_is_patient_waits_for_the_one_who_seals(url, store):
    with psycopg.connect(url) as other:
        other.execute(TAKE)
        soon = threading.Timer(0.5, other.rollback)
        soon.start()
        with store.transaction(patient=True):
            pass
        soon.join()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit.audit_lock SET only_row = true", "DELETE FROM audit.audit_lock", "TRUNCATE audit.audit_lock"],
)
def test_the_lock_refuses_to_be_changed_also_to_its_owner(url, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        run(url, statement)


def test_a_trail_that_was_made_without_the_lock_gets_it_from_init_and_loses_nothing(url):
    run(url, "DROP TABLE audit.audit_lock")
    with AuditTrail(url, lifecycle=False) as trail:
        assert trail.chain.verify().findings == ()  # what is sealed is as good as before
        trail.record("a.b")
        with pytest.raises(StoreUnavailableError, match=r"made by an older version.*audit init"):
            trail.flush(1)
        assert main(["doctor"]) == 1
        assert main(["init", "--roles"]) == 0
        assert main(["doctor"]) == 0
        assert "a.b" in actions(trail)
        assert trail.chain.verify().findings == ()


def test_a_sealer_without_the_right_to_the_lock_is_told_so_and_does_not_leave_it_to_others(url, caplog, capsys):
    run(url, "REVOKE UPDATE ON audit.audit_lock FROM audit_sealer")
    sealer = as_role(url, "audit_sealer")
    with AuditTrail(sealer, create=False, lifecycle=False) as trail:
        trail.keep_sealing()
        assert wait_until(lambda: "Nothing is sealed until this is mended" in caplog.text, 10)
        assert not trail._writer.follower.is_elsewhere
    lacks = "may add to the trail and not lock audit_lock, so that it seals nothing: grant it what `audit init --roles`"
    assert lacks in caplog.text
    capsys.readouterr()
    assert main(["status", "--url", sealer]) == 0
    out, err = capsys.readouterr()
    assert "nobody by this role" in out
    assert lacks in err
    assert main(["init", "--roles", "--url", url]) == 0
    with AuditTrail(sealer, create=False, lifecycle=False) as trail:
        assert trail.store.may_append()


def test_a_lock_that_has_lost_its_row_is_told_and_gets_it_from_init(url, store):
    run(url, "ALTER TABLE audit.audit_lock DISABLE TRIGGER USER", "DELETE FROM audit.audit_lock")
    run(url, "ALTER TABLE audit.audit_lock ENABLE TRIGGER USER")
    with pytest.raises(ConfigurationError, match="lost its row: run `audit init`"), store.transaction():
        pass
    assert main(["init"]) == 0
    with store.transaction():
        pass
