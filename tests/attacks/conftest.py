"""The commands, as an auditor runs them on a file that was tampered with."""

import base64

import pytest

from audit_core import AuditTrail
from audit_core.keys import LocalSigner
from tests.reports.trails import ORIGIN, about, seal

OURS = b"o" * 32


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A trail of log.created and twelve events under two checkpoints, signed with this process's key."""
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AUDIT_KEY", base64.b64encode(OURS).decode())
    path = tmp_path / "clinic.db"
    with AuditTrail(f"sqlite:///{path}", origin=ORIGIN, signer=LocalSigner(OURS), lifecycle=False) as trail:
        seal(trail, [about("42", n, outcome="denied" if n % 2 else "success") for n in range(6)])
        seal(trail, [about("42", n, actor_type="admin") for n in range(6, 12)])
    return path


@pytest.fixture
def kept(audit, path, tmp_path):
    """A checkpoint that was taken before, and kept elsewhere."""
    assert audit("checkpoint", "--out", tmp_path / "kept")[0] == 0
    return tmp_path / "kept"
