import enum
import io
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import psycopg.types.range
import psycopg2.extras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from audit_core import AuditTrail
from audit_core.canonical import decode, encode
from audit_core.context import Actor, AuditContext, enter, leave
from audit_core.normalise import normalise
from audit_core.orm.changes import (
    changed,
    created,
    deleted,
    field_value,
    linked,
    resource_id,
    unlinked,
    unread,
    updated,
)
from audit_core.redaction import Redactor

RANGES = (psycopg.types.range.Range, psycopg2.extras.NumericRange, postgresql.Range)


class Colour(enum.Enum):
    RED = "red"


class StoredFile:
    """Like Django's FieldFile: to look at ``read`` of one that has no file opens it, and fails."""

    def __init__(self, name):
        self.name = name

    @property
    def read(self):
        raise AssertionError("the file was opened")

    seek = read


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**60, str(2**60)),
        (1.5, "1.5"),
        (Decimal("9.90"), "9.90"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 12, tzinfo=UTC), "2024-02-29T12:00:00.000000Z"),
        (Colour.RED, "red"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (b"plain", "plain"),
        (b"\xff", "base64:/w=="),
        ({"b": [1, Decimal("0.1")]}, {"b": [1, "0.1"]}),
        ([Colour.RED], ["red"]),
        *((kind(1, 5), {"lower": 1, "upper": 5, "bounds": "[)", "empty": False}) for kind in RANGES),
        *(([kind(1, 5), None], [{"lower": 1, "upper": 5, "bounds": "[)", "empty": False}, None]) for kind in RANGES),
        *((kind(empty=True), {"lower": None, "upper": None, "bounds": "()", "empty": True}) for kind in RANGES),
        (
            RANGES[0](datetime(2024, 2, 29, tzinfo=UTC), None, "(]"),
            {"lower": "2024-02-29T00:00:00.000000Z", "upper": None, "bounds": "()", "empty": False},
        ),
        (StoredFile("scans/x.png"), "scans/x.png"),
        (StoredFile(None), None),
    ],
)
def test_each_kind_of_value_is_written_by_rule(value, written):
    assert field_value(value) == written


@pytest.mark.parametrize(
    "document", ['{"pin": 1', ' ["pin"', b'{"pin": 1', bytearray(b"[1"), memoryview(b"\x80\x04pin")]
)
def test_a_document_that_nobody_can_read_is_not_told_whatever_it_is_given_as(document):
    assert unread(document) == "[unreadable]"


def test_a_text_that_nobody_can_read_is_told():
    assert unread("infinity") == "infinity"


def test_a_file_is_never_read():
    file = io.BytesIO(b"secret")
    file.name = "a.txt"
    assert field_value(file) == "a.txt"
    assert file.tell() == 0


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ([42], "42"),
        (["a,b"], "a,b"),
        ([uuid.UUID(int=1)], "00000000-0000-0000-0000-000000000001"),
        ([1, "x"], "1,x"),
        (["a,b", "c"], "a\\,b,c"),
        (["a", "b,c"], "a,b\\,c"),
        (["a\\", "b"], "a\\\\,b"),
        ([date(2024, 1, 2), 3], "2024-01-02,3"),
        ([None, 1], ",1"),
        ([b"\xff", 1], "base64:/w==,1"),
    ],
)
def test_a_key_is_one_text(key, text):
    assert resource_id(key) == text


@given(st.lists(st.text(max_size=5), min_size=2, max_size=3), st.lists(st.text(max_size=5), min_size=2, max_size=3))
def test_two_composite_keys_never_have_the_same_id(one, other):
    one, other = [[field_value(part) for part in key] for key in (one, other)]
    assert (resource_id(one) == resource_id(other)) == (one == other)


def test_a_field_that_is_set_back_is_no_change():
    assert changed({"a": 1, "b": "x"}, {"a": 1, "b": "y"}) == {"b": {"old": "x", "new": "y"}}
    assert updated("patient", [1], {"a": 1}, {"a": 1}) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Decimal("1.00"), Decimal("1.0")),
        (1, Decimal("1.00")),
        (1.0, 1),
        (Colour.RED, "red"),
        (datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (float("nan"), float("nan")),
        ((1, 2), [1, 2]),
    ],
)
def test_values_that_are_the_same_are_no_change(one, other):
    assert changed({"f": one}, {"f": other}) == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (None, ""), (None, 0), ({"a": 1}, {"a": True}), ([], {}), ("1", 1), ([1, 2], [2, 1])],
)
def test_values_that_only_look_the_same_to_python_are_a_change(one, other):
    assert changed({"f": one}, {"f": other}) == {"f": {"old": field_value(one), "new": field_value(other)}}


def test_a_signalling_nan_is_a_value_like_others():
    assert changed({"f": Decimal("sNaN")}, {"f": 1})["f"]["new"] == 1


def test_a_create_has_no_old_values_and_a_delete_no_new_ones():
    assert created("patient", [1], {"name": "Ann", "ward": None}).changes == {"name": {"old": None, "new": "Ann"}}
    assert deleted("patient", [1], {"name": "Ann", "ward": None}).changes == {"name": {"old": "Ann", "new": None}}


def test_a_create_of_nothing_but_a_key_is_still_a_change():
    change = created("patient", [1], {})
    assert (change.action, change.resource(Redactor()), change.details) == ("create", ("patient", "1"), {"changes": {}})


def test_links_name_the_keys_at_the_other_end():
    assert linked("user", [1], "groups", [[2], [3]]).changes == {"groups": {"old": None, "new": ["2", "3"]}}
    assert unlinked("user", [1], "groups", [[2]]).changes == {"groups": {"old": ["2"], "new": None}}


def test_what_the_value_becomes_later_does_not_reach_the_change():
    value = {"tags": ["a"]}
    change = created("note", [1], {"data": value})
    value["tags"].append("b")
    assert change.changes["data"]["new"] == {"tags": ["a"]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.dictionaries(st.text(), VALUES, max_size=4))
def test_changes_of_anything_are_canonical_and_never_raise(old, new):
    changes = changed(old, new)
    assert decode(encode(changes)) == changes
    assert changed(new, new) == {}


@pytest.mark.parametrize(
    "value", [None, "text \0 \ud800", 2**60, 1.5, b"\xff", {"a": [1, {"b": "\0"}]}, [1.5], "x" * 9_000]
)
def test_details_that_are_flat_are_made_clean_once_and_come_out_the_same(value):
    details = created("patient", [1], {"field": value, "other": 1}).details
    assert normalise(action="create", details=details) == normalise(action="create", details=dict(details))


def nest(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [nest(28), nest(29), nest(30), [1] * 4_990, [1] * 5_010, [1] * 19_998, ["x" * 9_000]])
def test_details_with_deep_and_long_values_are_the_same_as_if_cleaned_as_a_whole(value):
    details = created("patient", [1], {"field": value, "other": value}).details
    assert normalise(action="create", details=details) == normalise(action="create", details=dict(details))


def test_a_change_as_deep_as_a_value_may_be_is_cut_with_its_event():
    value = []
    for _ in range(40):
        value = [value]
    details = normalise(action="create", details=created("patient", [1], {"field": value}).details)["details"]
    inner, depth = details["changes"]["field"]["new"], 3
    while isinstance(inner, list):
        inner, depth = inner[0], depth + 1
    assert (inner, depth) == ("[cut: nested deeper than 32]", 32)


def test_changes_that_happen_together_have_one_actor_who_is_looked_up_once():
    asked = []
    context = AuditContext(find_actor=lambda: asked.append(1) or Actor("u-1", "user"), tenant_id="t-1")
    enter(context)
    try:
        with AuditTrail("memory:") as trail:
            trail.tell([created("patient", [n], {"n": n}) for n in range(3)], None, "any", {"database": "other"})
            events = list(trail.events(action="create", newest_first=False))
    finally:
        leave(context)
    assert len(asked) == 1
    assert [(one.actor_id, one.tenant_id, one.resource_id) for one in events] == [
        ("u-1", "t-1", number) for number in "012"
    ]
    assert events[2].details == {"changes": {"n": {"old": None, "new": 2}}, "database": "other"}
