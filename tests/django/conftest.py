import os
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.management.commands import flush  # noqa: E402

from audit_django import get_trail  # noqa: E402
from audit_django.trail import close_trail  # noqa: E402

A_WHILE = timedelta(seconds=20)  # longer than any transaction that is open when a test begins


class Recorded:
    """What was recorded since the test began, oldest first."""

    def __init__(self):
        self._since = datetime.now(UTC) - A_WHILE
        self._before = {event.event_id for event in get_trail().events(since=self._since)}

    def __call__(self, action=None):
        events = get_trail().events(action=action, since=self._since, newest_first=False)
        return [e for e in events if e.event_id not in self._before and e.action != "log.created"]

    def changes(self):
        """Of each change its action, resource and changed fields, without the automatic time stamp."""
        found = []
        for event in self():
            if "changes" in event.details:
                changes = {name: (c["old"], c["new"]) for name, c in event.details["changes"].items()}
                changes.pop("changed_at", None)
                found.append((event.action, event.resource_type, event.resource_id, changes))
        return found


@pytest.fixture
def recorded(request):
    assert request.node.get_closest_marker("django_db"), "say which databases"
    request.getfixturevalue("transactional_db" if _is_transactional(request) else "db")
    get_trail().flush()
    return Recorded()


def _is_transactional(request):
    return request.node.get_closest_marker("django_db").kwargs.get("transaction", False)


@pytest.fixture(scope="session", autouse=True)
def _the_end_of_a_test_empties_tables_and_no_more():
    """Django writes down all content types and permissions each time, which nobody here asks for."""
    with patch.object(flush, "emit_post_migrate_signal", lambda *_, **__: ContentType.objects.clear_cache()):
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_trail_outlives_the_tests():
    yield
    close_trail()
