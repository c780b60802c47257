import os
import tempfile
import weakref

import pytest

from audit_core.trail import AuditTrail

# Keys that a test makes by accident must not land in the user's state directory.
os.environ["AUDIT_STATE_DIR"] = tempfile.mkdtemp(prefix="audit-state-")
for variable in ("AUDIT_KEY", "AUDIT_HASH_KEY", "AUDIT_URL"):
    os.environ.pop(variable, None)


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of this test's own: another host, so to speak."""
    directory = tmp_path / "state"
    monkeypatch.setenv("AUDIT_STATE_DIR", str(directory))
    return directory


@pytest.fixture(autouse=True)
def _close_every_trail(monkeypatch):
    """A trail that a test leaves open is closed after it: none of them warns in the midst of another test."""
    made = weakref.WeakSet()
    make = AuditTrail.__init__

    def remember(self, *args, **kwargs):
        made.add(self)
        make(self, *args, **kwargs)

    monkeypatch.setattr(AuditTrail, "__init__", remember)
    yield
    for trail in list(made):
        if hasattr(trail, "_history"):  # else a setting was wrong, and it was never made
            trail.close()
