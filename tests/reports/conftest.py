from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_core import AuditTrail
from tests.reports.trails import make_trail


@pytest.fixture(autouse=True)
def keys_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    for name in ("AUDIT_KEY", "AUDIT_HASH_KEY", "AUDIT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clinic.db"


@pytest.fixture
def trail(path: Path) -> Iterator[AuditTrail]:
    with make_trail(path) as trail:
        yield trail
