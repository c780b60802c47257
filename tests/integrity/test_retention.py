"""What a statement of an archive may say: whoever makes a trail with a key of his own says in it what he likes."""

import pytest

from audit_core.integrity.retention import Archive

SAYS = {
    "month": "2025-11", "events": 3, "first": 5, "last": 8, "hashes": "0" * 64, "object": "o", "sha256": "0" * 64,
    "bytes": 9, "place": "file:///archive",
}  # fmt: skip


@pytest.mark.parametrize("events", [3, 4])
def test_of_a_month_that_came_in_part_with_another_one_there_may_be_fewer_events_than_places(events):
    assert Archive.of(9, SAYS | {"events": events}).says == SAYS | {"events": events}


@pytest.mark.parametrize("more", [{"events": 5}, {"events": 10**15}, {"last": 9}, {"first": 8}, {"first": 9}])
def test_no_archive_has_more_events_than_places_or_reaches_beyond_its_statement(more):
    with pytest.raises(ValueError, match="no archive"):
        Archive.of(9, SAYS | more)
