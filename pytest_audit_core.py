"""The pytest plugin of audit-core: a fixture. Outside of its packages, so that pytest loads none of them by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from audit_core.testing import Recorded


@pytest.fixture
def audit_events() -> Iterator[Recorded]:
    """What any trail records from here on, oldest first: ``audit_events.assert_recorded("create", "invoice:42")``."""
    from audit_core.testing import recording

    with recording() as recorded:
        yield recorded
