"""The restricted JSON domain, and the bytes of a record."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.util
import ipaddress
import json
import pathlib
import sys
import types
import uuid
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from hashlib import sha256
from typing import Any
from unittest import mock

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_core import canonical
from audit_core.canonical import MAX_RECORD_BYTES, RECORD_COLUMNS, encode_record, format_timestamp, parse_timestamp
from audit_core.clean import MAX_DEPTH, MAX_INTEGER, MAX_NODES, TOO_DEEP, TOO_MANY, UNREADABLE, clean
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.normalise import DETAILS_BUDGET, FIELD_LIMITS, clean_address, clean_text, fit, normalise


def load_without_orjson() -> types.ModuleType:
    """A second copy of the module, as it is where the extra is not installed."""
    spec = importlib.util.find_spec("audit_core.canonical")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {"orjson": None, spec.name: module}):
        spec.loader.exec_module(module)
    assert module.orjson is None
    return module


plain = load_without_orjson()
both_variants = pytest.mark.parametrize("variant", [canonical, plain], ids=["as installed", "without orjson"])
often = settings(max_examples=150, deadline=None)
seldom = settings(max_examples=30, deadline=None)

any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)  # lone surrogates and NUL too
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.ip_addresses()
    | st.sampled_from(Outcome)
    | st.complex_numbers()
)
hashable = scalars | st.tuples(scalars, scalars)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(hashable, inner, max_size=5)
        | st.sets(hashable, max_size=5)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


# --- The domain


class TestBytes:
    @often
    @given(nested)
    def test_json_orjson_and_rfc8785_agree_on_whatever_clean_lets_through(self, value: object) -> None:
        cleaned = clean(value)
        assert canonical.encode(cleaned) == plain.encode(cleaned) == rfc8785.dumps(cleaned)

    @often
    @given(nested)
    def test_reading_and_writing_again_is_identity(self, value: object) -> None:
        data = canonical.encode(clean(value))
        for variant in (canonical, plain):
            assert variant.encode(variant.decode(data)) == data
            assert variant.encode(variant.decode(data.decode())) == data

    @often
    @given(nested)
    def test_cleaning_twice_changes_nothing(self, value: object) -> None:
        cleaned = clean(value)
        assert clean(cleaned) == cleaned

    @both_variants
    @pytest.mark.parametrize(
        "data", ["", "{", "NaN", "[Infinity]", b"\xff", '"\0"', "[" * 100_000, "01", b"\xff\xfe1\0", None, 5]
    )
    def test_what_is_no_json_is_a_value_error(self, variant: Any, data: Any) -> None:
        with pytest.raises(ValueError, match=r"."):
            variant.decode(data)


# --- One test for each rule


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Patient:
    name: str
    password: str = "hunter2"


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str


Point = namedtuple("Point", "x y")  # noqa: PYI024


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    def upper(self) -> str:
        raise RuntimeError

    __repr__ = __len__ = isascii = __contains__ = __hash__ = __iter__ = __str__  # type: ignore[assignment]


class Liar(int):
    def __le__(self, other: object) -> bool:
        return True

    __ge__ = __lt__ = __gt__ = __eq__ = __le__
    __hash__ = int.__hash__

    def __str__(self) -> str:
        return "lie"

    __repr__ = __int__ = __index__ = __str__  # type: ignore[assignment]


class Third(float):
    def __repr__(self) -> str:
        return "lie"


class WithText:
    def __str__(self) -> str:
        return "text"


class QuerySet:
    """Printing runs the query, as in Django."""

    def __repr__(self) -> str:
        raise AssertionError("ran the query")

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("ran the query")


class LazyText:
    """A translation, as in Django: it has all of str's methods, and its own text."""

    def __str__(self) -> str:
        return "Name"

    def __iter__(self) -> Iterator[str]:
        return iter("Name")


PARIS = timezone(timedelta(hours=2))
RULES: list[tuple[object, object]] = [
    (None, None),
    (True, True),
    ("é", "é"),
    ("a\0b\ud800", "a\ufffdb\ufffd"),
    ("\U0001f600", "\U0001f600"),
    (Shouting("ab"), "ab"),
    (MAX_INTEGER, MAX_INTEGER),
    (-MAX_INTEGER, -MAX_INTEGER),
    (MAX_INTEGER + 1, "9007199254740992"),
    (-MAX_INTEGER - 1, "-9007199254740992"),
    (10**400, "1" + "0" * 400),
    (16**6000, "0x1" + "0" * 6000),
    (-(16**6000), "-0x1" + "0" * 6000),
    (Liar(2**60), str(2**60)),
    (Liar(7), 7),
    (Number.ONE, 1),
    (0.1, "0.1"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (1e300, "1e+300"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    (Third(0.5), "0.5"),
    (Decimal("99.00"), "99.00"),
    (Decimal("sNaN"), "sNaN"),
    (datetime(2024, 2, 29, 12, 0, tzinfo=UTC), "2024-02-29T12:00:00.000000Z"),
    (datetime(2024, 2, 29, 12, 0, 0, 5, tzinfo=PARIS), "2024-02-29T10:00:00.000005Z"),
    (datetime.fromisoformat("2024-02-29T12:00"), "2024-02-29T12:00:00.000000"),
    (datetime(1, 1, 1, tzinfo=PARIS), "0001-01-01T00:00:00.000000+02:00"),
    (date(2024, 2, 29), "2024-02-29"),
    (time(23, 59), "23:59:00"),
    (timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=5), "P1DT02H03M04.000005S"),
    (timedelta(seconds=-90), "-P0DT00H01M30S"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/a/b\udcff"), "/a/b\ufffd"),
    (ipaddress.ip_address("FE80::1%eth0"), "fe80::1%eth0"),
    (ipaddress.ip_address("::ffff:10.0.0.1"), "10.0.0.1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (b"text", "text"),
    (bytearray(b"\xff\x00"), "base64:/wA="),
    (memoryview(b"abcd")[::2], "ac"),
    (Colour.RED, "red"),
    (Colour.PAIR, [1, 2]),
    (Patient("Ann"), {"name": "Ann", "password": "hunter2"}),
    (Slotted("Ann"), {"name": "Ann"}),
    (Point(1, 2), {"x": 1, "y": 2}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (UserDict({"a": 1}), {"a": 1}),
    ((1, (2,)), [1, [2]]),
    (deque([1, 2]), [1, 2]),
    ({3, 1, "b", "a"}, ["a", "b", 1, 3]),
    (frozenset([(2, 1)]), [[2, 1]]),
    (WithText(), "text"),
    (LazyText(), "Name"),
    (ValueError("boom"), "boom"),
    (object(), "<builtins.object>"),
    (QuerySet(), f"<{__name__}.QuerySet>"),
    (Patient, f"<class '{__name__}.Patient'>"),
    (print, "<built-in function print>"),
    (clean, "<function clean>"),
    (range(3), "<builtins.range>"),
]


class TestRules:
    @pytest.mark.parametrize(("value", "expected"), RULES, ids=lambda value: repr(type(value)))
    def test_every_kind_of_value_has_its_form(self, value: object, expected: object) -> None:
        assert clean(value) == expected
        assert type(clean(value)) is type(expected)

    def test_iterators_are_not_consumed(self) -> None:
        generator = (number for number in range(3))
        assert clean([generator, map(str, [1])]) == ["<builtins.generator>", "<builtins.map>"]
        assert list(generator) == [0, 1, 2]

    def test_models_of_other_libraries_show_their_field_names(self) -> None:
        msgspec = pytest.importorskip("msgspec")
        struct = msgspec.defstruct("Struct", [("password", str)])
        assert clean(struct(password="x")) == {"password": "x"}

    def test_pydantic_models_show_their_field_names_and_extras(self) -> None:
        pydantic = pytest.importorskip("pydantic")
        model = pydantic.create_model(
            "Model", __config__={"extra": "allow"}, password=(str, ...), hidden=(pydantic.SecretStr, ...)
        )
        expected = {"password": "x", "hidden": "**********", "more": 1}
        assert clean(model(password="x", hidden="x", more=1)) == expected

    def test_attrs_classes_show_their_field_names(self) -> None:
        class Attrs:  # what attrs leaves on a class
            __attrs_attrs__ = (types.SimpleNamespace(name="password"),)
            password = "x"

        assert clean(Attrs()) == {"password": "x"}

    def test_no_memory_address_enters(self) -> None:
        def function() -> None: ...

        for value in (function, lambda: 0, Patient("x").__eq__, functools.partial(function)):
            assert " at 0x" not in str(clean(value))


class TestKeys:
    def test_keys_that_are_no_strings_become_their_json(self) -> None:
        value = {None: 0, True: 1, 5: 2, 0.5: 3, (1, "a"): 4, date(2024, 1, 1): 5, Colour.RED: 6}
        assert clean(value) == {
            "null": 0,
            "true": 1,
            "5": 2,
            "0.5": 3,
            '[1,"a"]': 4,
            "2024-01-01": 5,
            "red": 6,
        }

    def test_later_keys_that_collide_are_numbered(self) -> None:
        assert clean({1: "a", "1": "b", Decimal("1.5"): "c", "1.5": "d", "1#2": "e"}) == {
            "1": "a",
            "1#2": "b",
            "1.5": "c",
            "1.5#2": "d",
            "1#2#2": "e",
        }

    def test_characters_beyond_the_basic_plane_are_replaced_in_keys(self) -> None:
        keys = ("\U0001f600", "\ufffd", "\ud800", "\0")
        assert clean({key: number for number, key in enumerate(keys, 1)}) == {
            "\ufffd": 1,
            "\ufffd#2": 2,
            "\ufffd#3": 3,
            "\ufffd#4": 4,
        }

    def test_many_keys_that_collide_cost_no_square(self) -> None:
        cleaned = clean({chr(0x10000 + number): number for number in range(MAX_NODES)})
        assert isinstance(cleaned, dict)
        assert cleaned[f"\ufffd#{MAX_NODES}"] == MAX_NODES - 1


# --- What does not end


def levels(value: Any) -> int:
    depth = 0
    while isinstance(value, list | dict):
        depth += 1
        value = next(iter(value if isinstance(value, list) else value.values()), None)
    return depth


class TestLimits:
    def test_32_levels_stay_and_the_33rd_is_marked(self) -> None:
        value: list[Any] = ["leaf"]
        for _ in range(MAX_DEPTH - 1):
            value = [value]
        assert levels(clean(value)) == MAX_DEPTH
        assert TOO_DEEP not in str(clean(value))
        assert levels(clean([value])) == MAX_DEPTH
        assert TOO_DEEP in str(clean([value]))
        assert TOO_DEEP in str(clean({"a": value}))

    def test_a_cycle_ends_at_the_deepest_level(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        loop: dict[str, Any] = {}
        loop["self"] = loop
        assert levels(clean(ring)) == levels(clean(loop)) == MAX_DEPTH

    def test_a_branching_cycle_ends_too(self) -> None:
        ring: list[Any] = []
        ring += [ring] * 10
        assert TOO_MANY in str(clean(ring))

    def test_a_billion_laughs_are_cut(self) -> None:
        laugh: Any = ["ha"] * 10
        for _ in range(30):
            laugh = [laugh] * 10
        assert len(canonical.encode(clean(laugh))) < 10 * MAX_NODES

    def test_a_long_text_that_is_shared_is_cut_too(self) -> None:
        text = "x" * 1_000_000
        assert len(canonical.encode(clean([text] * 10_000))) < 10_000_000

    def test_the_value_after_the_last_one_is_marked(self) -> None:
        cleaned = clean(list(range(MAX_NODES + 1)))
        assert isinstance(cleaned, list)
        assert cleaned[:-1] == list(range(MAX_NODES))
        assert cleaned[-1] == TOO_MANY
        wide = clean({str(number): number for number in range(MAX_NODES + 5)})
        assert isinstance(wide, dict)
        assert len(wide) == MAX_NODES + 1
        assert wide["[cut]"] == TOO_MANY

    def test_exactly_as_many_values_as_allowed_are_not_marked(self) -> None:
        assert clean(list(range(MAX_NODES))) == list(range(MAX_NODES))

    def test_an_endless_mapping_is_cut(self) -> None:
        class Endless(Mapping[str, int]):
            def __iter__(self) -> Iterator[str]:
                number = 0
                while True:
                    number += 1
                    yield str(number)

            def __getitem__(self, key: str) -> int:
                return 0

            def __len__(self) -> int:
                return 1

        cleaned = clean(Endless())
        assert isinstance(cleaned, dict)
        assert len(cleaned) == MAX_NODES + 1

    def test_little_stack_left_is_no_error(self) -> None:
        deep: list[Any] = [[[[[[[[[[]]]]]]]]]]

        def descend() -> None:
            try:
                descend()
            except RecursionError:
                pass
            else:
                return
            clean(deep)

        descend()


# --- Hostile objects


def raiser(*_: object, **__: object) -> Any:
    raise RuntimeError("hostile")


HOSTILE_METHODS = """
    __str__ __repr__ __iter__ __len__ __getattr__ __bool__ __hash__ __eq__ __int__ __index__ __float__ keys
    items __getitem__ __contains__ __bytes__ __format__ __class__ __getattribute__ isoformat utcoffset
    astimezone __le__ __ge__ __lt__ __fspath__ __dict__ __instancecheck__ isascii encode
""".split()
BASES: list[tuple[type, tuple[Any, ...]]] = [
    (object, ()),
    (str, ("text",)),
    (int, (2**70,)),
    (float, (0.5,)),
    (bytes, (b"x",)),
    (dict, ({"a": 1},)),
    (list, ([1],)),
    (tuple, ((1, 2),)),
    (set, ({1},)),
    (datetime, (2024, 1, 1)),
    (Decimal, ("1",)),
    (Exception, ("message",)),
    (uuid.UUID, ("00000000-0000-0000-0000-000000000001",)),
    (Mapping, ()),
    (tzinfo, ()),
]


@st.composite
def hostile(draw: st.DrawFn) -> object:
    base, arguments = draw(st.sampled_from(BASES))
    names = draw(st.sets(st.sampled_from(HOSTILE_METHODS), min_size=1))
    body: dict[str, Any] = {name: property(raiser) if name == "__class__" else raiser for name in names}
    for abstract in getattr(base, "__abstractmethods__", ()):
        body.setdefault(abstract, raiser)
    try:
        return type("Hostile", (base,), body)(*arguments)
    except Exception:
        return object()


class TestHostileObjects:
    @often
    @given(st.recursive(hostile(), lambda inner: st.lists(inner, max_size=4), max_leaves=5))
    def test_cleaning_never_raises_and_stays_in_the_domain(self, value: object) -> None:
        cleaned = clean({"value": value, "list": [value]})
        assert canonical.encode(cleaned) == rfc8785.dumps(cleaned)
        clean_text(value)
        clean_address(value)
        fields = normalise(action=value, details=value, actor_id=value, outcome=value, ip_address=value)
        assert canonical.encode(fields) == rfc8785.dumps(fields)

    def test_a_class_that_lies_about_itself_is_not_believed(self) -> None:
        class Pretender:
            @property  # type: ignore[misc]
            def __class__(self) -> Any:
                return dict

        assert clean(Pretender()) == f"<{Pretender.__module__}.{Pretender.__qualname__}>"

    def test_a_value_that_resists_is_its_class_wherever_it_stands(self) -> None:
        class Nowhere(tzinfo):
            utcoffset = raiser

        for value, name in (
            (uuid.UUID.__new__(uuid.UUID), "<uuid.UUID>"),
            (datetime(2024, 2, 29, tzinfo=Nowhere()), "<datetime.datetime>"),
        ):
            assert clean(value) == name
            assert clean([value]) == [name]

    def test_a_metaclass_that_resists_is_unreadable(self) -> None:
        meta = type("Meta", (type,), {"__hash__": raiser, "__eq__": raiser, "__getattribute__": raiser})
        assert clean(meta("Kind", (), {})()) == UNREADABLE

    def test_a_field_that_raises_is_marked_alone(self) -> None:
        class Expired(Patient):
            @property
            def name(self) -> str:
                raise RuntimeError("detached")

            @name.setter
            def name(self, value: str) -> None: ...

        assert clean(Expired("Ann")) == {"name": UNREADABLE, "password": "hunter2"}

    def test_a_container_that_changes_while_it_is_read_is_no_error(self) -> None:
        grown: dict[Any, Any] = {}
        listed: list[Any] = []

        class Grower:
            def __str__(self) -> str:
                grown[len(grown)] = 1
                listed.append(self)
                return "grew"

        grown["a"], grown["b"] = Grower(), Grower()
        listed.append(Grower())
        assert clean(grown) == {"a": "grew", "b": "grew"}
        assert clean(listed)

    def test_mappings_that_lie_are_their_class(self) -> None:
        class Broken(UserDict[str, int]):
            def items(self) -> Any:
                return [1, 2, 3]

        assert clean(Broken()) == f"<{Broken.__module__}.{Broken.__qualname__}>"

    def test_an_enumeration_within_itself_ends(self) -> None:
        member = enum.Enum("Odd", "A").A  # type: ignore[attr-defined]
        member._value_ = member
        assert str(clean(member)).startswith("<")

    def test_an_interrupt_is_not_swallowed(self) -> None:
        class Interrupted:
            def __str__(self) -> str:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            clean(Interrupted())


# --- The event's own fields


class TestText:
    def test_a_text_of_exactly_the_limit_stays(self) -> None:
        assert clean_text("x" * 512) == "x" * 512

    def test_a_longer_one_ends_in_its_size_and_hash(self) -> None:
        text = "é" * 1_000
        cut = clean_text(text)
        assert len(cut) == 512
        assert cut.endswith(f"…[cut: 2000 bytes, sha256:{sha256(text.encode()).hexdigest()}]")
        assert cut.startswith("é" * 400)

    @often
    @given(nested, st.integers(128, 600))
    def test_it_is_always_a_text_within_its_limit(self, value: object, limit: int) -> None:
        text = clean_text(value, limit)
        assert type(text) is str
        assert len(text) <= limit
        assert clean_text(text, limit) == text

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(None, ""), (42, "42"), (True, "true"), ([1], "[1]"), (Outcome.DENIED, "denied")],
    )
    def test_what_is_no_text_becomes_its_json(self, value: object, expected: str) -> None:
        assert clean_text(value) == expected


class TestAddress:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, None),
            ("10.0.0.1", "10.0.0.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            (ipaddress.ip_address("::ffff:10.0.0.1"), "10.0.0.1"),
            (b"10.0.0.1", "10.0.0.1"),
            ("testclient", "testclient"),
            ("unix:", "unix:"),
            ("", ""),
            ("010.0.0.1", "010.0.0.1"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("fe80::1%\0", "fe80::1%\ufffd"),
        ],
    )
    def test_an_address_has_one_form_and_the_rest_stays(self, value: object, expected: str | None) -> None:
        assert clean_address(value) == expected

    @often
    @given(nested | st.ip_addresses().map(str))
    def test_it_never_raises_and_is_bounded(self, value: object) -> None:
        address = clean_address(value)
        assert address is None or len(address) <= 128
        assert clean_address(address) == address

    def test_an_address_with_an_endless_zone_is_cut(self) -> None:
        assert len(clean_address("fe80::1%" + "x" * 10**6) or "") <= 128


class TestNormalise:
    def test_fields_are_cleaned_and_none_stays_none(self) -> None:
        fields = normalise(action="update", actor_id=7, details={"a": 0.5}, ip_address="::ffff:1.2.3.4")
        assert fields == {
            "action": "update",
            "actor_id": "7",
            "actor_type": "anonymous",
            "on_behalf_of": None,
            "tenant_id": None,
            "resource_type": None,
            "resource_id": None,
            "outcome": "success",
            "details": {"a": "0.5"},
            "source": None,
            "ip_address": "1.2.3.4",
            "user_agent": None,
            "request_id": None,
            "session_id": None,
        }

    def test_what_must_be_there_has_a_default(self) -> None:
        fields = normalise(action=None, actor_type=None, outcome=None)
        assert (fields["action"], fields["actor_type"], fields["outcome"]) == ("", "anonymous", "success")

    def test_enumerations_become_plain_strings(self) -> None:
        fields = normalise(action="x", actor_type=ActorType.USER, outcome=Outcome.DENIED)
        assert type(fields["actor_type"]) is type(fields["outcome"]) is str

    @pytest.mark.parametrize(
        ("details", "expected"),
        [
            (None, {}),
            ([1], {"value": [1]}),
            ("x", {"value": "x"}),
            (Patient("A"), {"name": "A", "password": "hunter2"}),
        ],
    )
    def test_details_are_always_an_object(self, details: object, expected: object) -> None:
        assert normalise(action="x", details=details)["details"] == expected

    @pytest.mark.parametrize(
        "odd",
        [
            *(
                {"odd": value}
                for value in (2**53, -(2**53), "a\0b", "\ud800", "é", True, 0.5, ["a"], {"b": "\0"}, "x" * 300)
            ),
            *({name: "odd"} for name in (1, None, "a\0b", "\U0001f600", "x" * 300)),
            dict.fromkeys(map(str, range(MAX_NODES + 1))),
        ],
        ids=lambda odd: ascii(odd)[:20],
    )
    def test_details_among_which_one_is_odd_are_what_clean_makes_of_them(self, odd: dict[Any, Any]) -> None:
        details = {"path": "/patients/7", "status": 200, "found": True, "query": None, **odd}
        made = normalise(action="x", details=details)["details"]
        assert json.dumps(made) == json.dumps(clean(details))
        assert made is not details

    def test_details_that_are_wrapped_stay_within_the_depth(self) -> None:
        ring: list[Any] = []
        ring.append(ring)
        assert levels(normalise(action="x", details=ring)["details"]) == MAX_DEPTH

    def test_its_fields_are_fields_of_the_event(self) -> None:
        event = AuditEvent(event_id="x", timestamp=datetime.now(UTC), **normalise(action="x"))
        assert event.action == "x"


# --- What is too long


def row_of(fields: dict[str, Any], **more: Any) -> tuple[Any, ...]:
    """A row as a store would build it."""
    values = {
        "event_id": "0190c7c4-7d5e-7cc1-9f0a-5b0c5b0a2f11",
        "timestamp": "2024-05-01T12:00:00.123456Z",
        "sequence": MAX_INTEGER,
        "previous_hash": "a" * 64,
        "private": "b" * 64,
        **fields,
        **more,
    }
    values["details"] = canonical.encode(values["details"]).decode()
    return tuple(values[name] for name in RECORD_COLUMNS)


def whole_record(**fields: Any) -> bytes:
    normal = normalise(**fields)
    normal["details"] = fit(normal["details"], DETAILS_BUDGET)
    return encode_record(row_of(normal), "\x01" * 200)


class TestFit:
    def test_details_within_the_budget_are_not_touched(self) -> None:
        details: dict[str, Any] = {"a": "x" * 4000}
        assert fit(details, 4096) is details

    def test_long_texts_are_cut_first(self) -> None:
        text = "é" * 5000
        cut = fit({"a": [{"b": text}], "c": "x" * 1024, "n": 1}, 4096)
        marker = f"…[cut: 10000 bytes, sha256:{sha256(text.encode()).hexdigest()}]"
        assert cut == {"a": [{"b": "é" * 256 + marker}], "c": "x" * 1024, "n": 1}

    def test_then_everything_is_replaced_by_its_size_hash_and_names(self) -> None:
        details: dict[str, Any] = {f"name{number}": "x" * 100 for number in range(1000)}
        data = canonical.encode(details)
        cut: Any = fit(details, 4096)
        assert cut["cut"]["bytes"] == len(data)
        assert cut["cut"]["sha256"] == sha256(data).hexdigest()
        assert cut["cut"]["keys"][:2] == ["name0", "name1"]
        assert 100 < len(cut["cut"]["keys"]) < 1000

    @seldom
    @given(
        st.dictionaries(
            st.text(min_size=1, max_size=3).map(lambda name: name * 400) | any_text,
            nested | st.text(min_size=1).map(lambda text: text * 2000),
        ),
        st.integers(4096, 20_000),
    )
    def test_the_result_is_always_within_the_budget(self, value: dict[str, Any], budget: int) -> None:
        details: Any = clean(value)
        cut = fit(details, budget)
        assert len(canonical.encode(cut)) <= budget
        assert fit(cut, budget) == cut
        assert clean(cut) == cut

    @pytest.mark.parametrize("char", ["\x01", '"', "\\", "é", "\u4e00", "\U0001f600", "\0", "\ud800", "x"])
    @pytest.mark.parametrize("length", [128, 256, 512, 1024, 100_000])
    def test_the_worst_record_is_within_65535_bytes(self, char: str, length: int) -> None:
        fields: dict[str, Any] = dict.fromkeys(FIELD_LIMITS, char * length)
        for details in ({char * 100_000: 1}, {"a": char * 1024}, {str(n): char * 1024 for n in range(99)}):
            assert len(whole_record(**fields, details=details)) <= MAX_RECORD_BYTES

    def test_the_budget_is_used_up_to_the_last_byte(self) -> None:
        fields: dict[str, Any] = {name: "\x01" * limit for name, limit in FIELD_LIMITS.items()}
        details: dict[str, Any] = {str(n): "x" * 1000 for n in range(34)}
        details["rest"] = "x" * (DETAILS_BUDGET - len(canonical.encode(details)) - len(',"rest":""'))
        assert len(canonical.encode(details)) == DETAILS_BUDGET
        record = whole_record(**fields, details=details)
        assert MAX_RECORD_BYTES - 1_000 < len(record) <= MAX_RECORD_BYTES
        assert json.loads(record)["details"] == details


# --- Times


class TestTimestamp:
    @often
    @given(st.datetimes(timezones=st.just(UTC) | st.timezones()))
    def test_parsing_is_the_inverse_of_formatting(self, moment: datetime) -> None:
        try:
            moment.astimezone(UTC)
        except OverflowError:
            return
        text = format_timestamp(moment)
        assert parse_timestamp(text) == moment.astimezone(UTC)
        assert text == plain.format_timestamp(moment)
        assert len(text) == 27

    def test_a_time_without_zone_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            format_timestamp(datetime.fromisoformat("2024-01-01"))

    @both_variants
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "2024-05-01T12:00:00Z",
            "2024-05-01T12:00:00.123Z",
            "2024-05-01 12:00:00.123456Z",
            "2024-05-01T12:00:00.123456",
            "2024-05-01T12:00:00.123456+00:00",
            "2024-05-01T12:00:00.123456z",
            "2024-05-01T12:00:00,123456Z",
            "2024-05-01T24:00:00.000000Z",
            "2024-13-01T12:00:00.123456Z",
            "2024-W18-3T12:00:00.123456Z",
            "20240501T120000.123456Z",
            " 2024-05-01T12:00:00.123456Z",
            "２024-05-01T12:00:00.123456Z",
            None,
            5,
        ],
    )
    def test_no_other_form_is_accepted(self, variant: Any, text: Any) -> None:
        with pytest.raises(ValueError, match="no timestamp"):
            variant.parse_timestamp(text)


# --- The record


HONEST = row_of(
    normalise(action="update", actor_id="1", details={"a": 1, "event_id": "x"}, user_agent='"\\\n\x01é\U0001f600'),
    sequence=1,
)
TEXTS = [name for name in RECORD_COLUMNS if name not in ("sequence", "details")]
column_texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ['","event_id":"', '{},"event_id":"x', '"', "\\", '\\"', "null", "", "1", 'x","ip_address":null']
)
rows = st.fixed_dictionaries(
    {
        **{name: st.none() | column_texts for name in TEXTS},
        **dict.fromkeys(("action", "actor_type", "event_id", "outcome", "previous_hash"), column_texts),
        **dict.fromkeys(("private", "timestamp"), column_texts),
        "details": column_texts | st.just("{}"),
        "sequence": st.integers(-3, 3) | st.integers(0, 2**63),
    }
).map(lambda fields: tuple(fields[name] for name in RECORD_COLUMNS))


class StrSubclass(str):
    """What a database driver might make of a column."""

    __slots__ = ()


def replaced(name: str, value: object) -> tuple[Any, ...]:
    row = list(HONEST)
    row[RECORD_COLUMNS.index(name)] = value
    return tuple(row)


class TestRecord:
    def test_it_is_rfc8785_of_all_columns_with_origin_and_version(self) -> None:
        fields = dict(zip(RECORD_COLUMNS, HONEST, strict=True)) | {"log": "example.com/audit", "v": 1}
        fields["details"] = json.loads(fields["details"])
        expected = rfc8785.dumps(fields)
        assert canonical.encode_record(HONEST, "example.com/audit") == expected
        assert plain.encode_record(HONEST, "example.com/audit") == expected

    def test_the_columns_are_all_fields_of_the_event_in_canonical_order(self) -> None:
        fields = {field.name for field in dataclasses.fields(AuditEvent)} - {"event_hash", "salts"}
        assert list(RECORD_COLUMNS) == sorted(fields)

    @often
    @given(rows, column_texts)
    def test_both_variants_write_the_same_bytes(self, row: tuple[Any, ...], log: str) -> None:
        assert canonical.encode_record(row, log) == plain.encode_record(row, log)

    @often
    @given(rows, rows, st.data())
    def test_two_rows_that_differ_never_have_the_same_bytes(
        self, one: tuple[Any, ...], other: tuple[Any, ...], data: st.DataObject
    ) -> None:
        picks = data.draw(st.lists(st.booleans(), min_size=len(one), max_size=len(one)))
        mixed = tuple(b if pick else a for a, b, pick in zip(one, other, picks, strict=True))
        assert (mixed == one) == (encode_record(mixed, "log") == encode_record(one, "log"))

    @both_variants
    def test_details_cannot_swallow_the_fields_after_them(self, variant: Any) -> None:
        """Move the end of the details to every place of the record where it could be taken to end."""
        honest = variant.encode_record(HONEST, "log")
        start = honest.index(b'"details":') + len(b'"details":')
        for end in range(start, len(honest)):
            text = honest[start:end].decode(errors="ignore")
            if text != HONEST[RECORD_COLUMNS.index("details")]:
                assert variant.encode_record(replaced("details", text), "log") != honest

    @both_variants
    @pytest.mark.parametrize("name", RECORD_COLUMNS)
    def test_a_column_of_a_wrong_type_is_a_type_error(self, variant: Any, name: str) -> None:
        honest = HONEST[RECORD_COLUMNS.index(name)]
        text = str(honest)
        wrong: list[Any] = [text.encode(), 1.0, True, [honest], {}, memoryview(text.encode()), Outcome.DENIED]
        wrong += [StrSubclass(text), bytearray(text.encode()), datetime(2024, 1, 1, tzinfo=UTC), uuid.UUID(int=1)]
        wrong += ["1", Liar(1), Number.ONE] if name == "sequence" else [1]
        wrong += [variant.orjson.Fragment(text)] if variant.orjson else []
        for value in wrong:
            with pytest.raises(TypeError, match=name):
                variant.encode_record(replaced(name, value), "log")

    @both_variants
    @pytest.mark.parametrize("name", RECORD_COLUMNS)
    def test_null_is_refused_or_has_its_own_bytes(self, variant: Any, name: str) -> None:
        row = replaced(name, None)
        honest = variant.encode_record(replaced(name, "null" if name != "sequence" else 0), "log")
        if name in canonical.NULLABLE:
            assert variant.encode_record(row, "log") != honest
        else:
            with pytest.raises(TypeError, match=name):
                variant.encode_record(row, "log")

    @both_variants
    @pytest.mark.parametrize("name", [*TEXTS, "details"])
    def test_a_text_that_is_not_unicode_is_refused(self, variant: Any, name: str) -> None:
        with pytest.raises((TypeError, ValueError)):
            variant.encode_record(replaced(name, "\ud800"), "log")

    @both_variants
    def test_a_sequence_beyond_64_bits_is_refused_or_its_own(self, variant: Any) -> None:
        for number in (2**64, 2**80, 10**5000):
            try:
                record = variant.encode_record(replaced("sequence", number), "log")
            except (TypeError, ValueError):
                continue
            assert record != variant.encode_record(HONEST, "log")

    @both_variants
    def test_a_row_of_another_length_is_refused(self, variant: Any) -> None:
        for row in (HONEST[:-1], (*HONEST, "x"), ()):
            with pytest.raises(TypeError, match="19 columns"):
                variant.encode_record(row, "log")

    @both_variants
    def test_another_origin_gives_other_bytes(self, variant: Any) -> None:
        assert variant.encode_record(HONEST, "one") != variant.encode_record(HONEST, "two")

    @both_variants
    def test_every_column_is_covered(self, variant: Any) -> None:
        honest = variant.encode_record(HONEST, "log")
        for name in RECORD_COLUMNS:
            assert variant.encode_record(replaced(name, 2 if name == "sequence" else "else"), "log") != honest

    @seldom
    @given(nested, any_text, st.sampled_from([1, 100, 3000]))
    def test_a_record_is_never_above_65535_bytes(self, value: object, text: str, times: int) -> None:
        fields: dict[str, Any] = dict.fromkeys(FIELD_LIMITS, text * times)
        record = whole_record(**fields, details={"value": value, text * times: [text * times] * 5})
        assert len(record) <= MAX_RECORD_BYTES
        assert json.loads(record)["v"] == 1
