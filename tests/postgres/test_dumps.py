"""A copy by pg_dump, also on a newer server, is the same trail; only the roles are not in a dump."""

import contextlib
import shutil
import subprocess

import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.doctor import ROLES, Doctor
from tests.postgres.server import Server, as_role, new_database

DUMPS = [
    ("plain",),
    ("plain", "--schema=audit"),
    ("custom", "--schema=audit"),
    ("custom", "--load-via-partition-root"),
    ("directory", "--jobs=2"),
]


@pytest.fixture(scope="module")
def target():
    """A server that has never heard of the roles."""
    server = Server(18)
    yield server
    server.stop()


@pytest.fixture
def source(state):
    """A trail on an older server, with two sealed events and one that waits."""
    url = new_database(16)
    with AuditTrail(url, lifecycle=False) as trail:
        trail.store.database.run("postgres_roles.sql")
        trail.record("a.b", resource=("patient", "Zoë 🧑"), details={"deep": [{"a": [1, None, "\\ \t"]}]})
        trail.flush()
    with AuditTrail(as_role(url, "audit_application"), lifecycle=False) as application:
        application.record("not.yet.sealed")
    return url


def copied(source, target, form, *options):
    """The URL of a copy on the other server. What cannot be granted there is passed over."""
    url, folder = new_database(url=target.url), target.folder / "dump"
    target.run("pg_dump", f"--dbname={source}", f"--format={form}", f"--file={folder}", *options)
    restore = ("psql", f"--file={folder}") if form == "plain" else ("pg_restore", str(folder))
    with contextlib.suppress(subprocess.CalledProcessError):  # pg_restore goes on, and says so in the end
        target.run(*restore, f"--dbname={url}")
    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    return url


def checks(url):
    database = PostgresDatabase(url)
    try:
        return list(Doctor(database).examine())
    finally:
        database.close()


@pytest.mark.parametrize("dump", DUMPS, ids=" ".join)
def test_a_restored_dump_is_the_same_trail_and_goes_on(source, target, dump):
    url = copied(source, target, *dump)
    with AuditTrail(source, lifecycle=False, create=False) as trail:
        rows, checkpoints = list(trail.store.rows()), list(trail.store.checkpoints())
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        assert (list(trail.store.rows()), list(trail.store.checkpoints())) == (rows, checkpoints)
        assert [event.action for event in trail.waiting()] == ["not.yet.sealed"]
        assert trail.chain.verify().findings == ()
        trail.record("after.restore")
        trail.flush()
        assert [event.action for event in trail.events()][:2] == ["after.restore", "not.yet.sealed"]
        assert trail.chain.verify().findings == ()


def test_a_copy_without_the_roles_is_told_how_to_make_them(source, target, capsys):
    url = copied(source, target, "custom")
    missing = [check for check in checks(url) if "`audit init --roles`" in check.text]
    assert [check.text.partition(":")[0] for check in missing] == [f"there is no role {role}" for role in ROLES]
    assert main(["init", "--roles", "--url", url]) == 0
    assert [check.text for check in checks(url) if not check.holds or "no role" in check.text] == []
    with AuditTrail(as_role(url, "audit_auditor"), lifecycle=False) as trail:
        assert trail.verify().findings == ()
