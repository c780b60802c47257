"""Roles on a trail whose table for archived events was made after they were granted theirs."""

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.keys import LocalSigner
from audit_core.postgres.making import make_roles
from tests.attacks.attacker import superuser
from tests.postgres.server import as_role, new_database


def test_a_sealer_without_the_new_grant_goes_on_and_an_auditor_is_told(state, capsys):
    url, signer = new_database(), LocalSigner(b"s" * 32)
    with AuditTrail(url, signer=signer, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        make_roles(trail.store.database)
        with superuser(trail.store) as connection:
            connection.execute("REVOKE ALL ON audit.audit_archived FROM audit_sealer, audit_auditor")
    with AuditTrail(as_role(url, "audit_sealer"), signer=signer, create=False, lifecycle=False) as trail:
        trail.record("a.c")
        trail.flush()
        assert trail.store.extent().events == 3
    capsys.readouterr()
    assert main(["verify", "--url", as_role(url, "audit_auditor")]) == 2
    assert "audit_archived" in capsys.readouterr().err
