import os
import tempfile

import pytest

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
