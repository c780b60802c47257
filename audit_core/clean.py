"""Any Python value, in the JSON domain that every library writes alike.

The domain is JSON without floats, with integers within 2^53 - 1, at most 32 containers deep, with strings
that have neither NUL nor lone surrogates, and with keys inside the Basic Multilingual Plane. Inside it
``json``, ``orjson`` and RFC 8785 give the same bytes. ``clean`` brings every value into it, and never
raises:

====================================  ====================================================================
None, bool, str                       themselves; NUL and lone surrogates become U+FFFD
int                                   itself; beyond 2^53 - 1 a decimal string, hexadecimal where Python
                                      refuses to print so many digits (4,300)
float, Decimal                        the shortest decimal string; ``NaN``, ``Infinity``, ``-Infinity``
datetime                              ``YYYY-MM-DDTHH:MM:SS.ffffffZ`` in UTC; a naive one as it is, without Z
date, time, timedelta                 ISO 8601: ``2024-02-29``, ``23:59:00``, ``P1DT02H03M04.000005S``
UUID, path, address                   as text; an IPv4 address inside an IPv6 one as IPv4
bytes, bytearray, memoryview          their text if they are UTF-8, else ``base64:...``
Enum                                  its value
dict and its subclasses, Mapping      object; see below for the keys
dataclass, attrs, pydantic, msgspec,  object with the fields' names, so that redaction sees them
namedtuple
list, tuple, deque                    array
set, frozenset                        array, sorted by canonical bytes
what has a text of its own            ``str(value)``, without memory addresses
everything else                       ``<module.Class>``; no iterator is ever consumed
====================================  ====================================================================

Keys that are no strings become the canonical JSON of the cleaned key, characters beyond the Basic
Multilingual Plane become U+FFFD, and of keys that are then equal the later ones get ``#2``, ``#3``, ...
Containers below the 32nd level become ``TOO_DEEP`` (a cycle ends there too). After ``MAX_NODES`` values (256
characters of text count as one more) the rest becomes one ``TOO_MANY``, in an object under the key
``[cut]``. A value that resists becomes its ``<module.Class>``, a field that resists ``UNREADABLE``.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from itertools import islice
from pathlib import PurePath
from typing import Any, Final, TypeAlias
from uuid import UUID

from audit_core.canonical import Json, encode, format_timestamp

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000

TOO_DEEP: Final = "[cut: nested deeper than 32]"
TOO_MANY: Final = "[cut: too many values]"
UNREADABLE: Final = "[unreadable]"

FORBIDDEN = re.compile("[\0\ud800-\udfff]")
FORBIDDEN_IN_KEYS = re.compile("[\0\ud800-\udfff\U00010000-\U0010ffff]")
_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def clean(value: object) -> Json:
    """Bring any value into the domain, by the rules above. Never raises.

    ``SystemExit`` passes, as ``KeyboardInterrupt`` does: a signal handler may end the process in the midst of this.
    """
    kind: Any = type(value)
    if value is None or kind is bool or (kind is int and -MAX_INTEGER <= value <= MAX_INTEGER):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    try:
        if kind is str:
            return _well_formed(value)  # type: ignore[arg-type]
        return _printed_as(kind, value) if kind in _PRINTED else _Visit().value(value, 0)
    except Exception:  # noqa: BLE001  # no stack or memory left: a constant needs neither
        return UNREADABLE


class _Visit:
    """One walk through a value, and how many values it may still meet."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_NODES

    def value(self, value: Any, depth: int) -> Json:
        """Clean a value that lies inside ``depth`` containers."""
        kind: Any = type(value)  # never value.__class__: it may lie, or raise
        if value is None or kind is bool:
            return value  # type: ignore[no-any-return]
        if kind is str:
            return self.text(value)
        try:
            return _rule(kind)(self, value, depth)
        except Exception:  # noqa: BLE001  # the value's own code may raise anything
            return _class_name(kind)

    def text(self, text: str) -> str:
        self.left -= len(text) >> 8  # a long text may be shared as well, thousands of times
        return _well_formed(text)

    def array(self, values: Iterable[object], depth: int) -> list[Json] | str:
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        out: list[Json] = []
        for item in self.snapshot(values):
            if self.left <= 0:
                out.append(TOO_MANY)
                break
            self.left -= 1
            out.append(self.value(item, depth + 1))
        return out

    def members(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Json] | str:
        if depth >= MAX_DEPTH:
            return TOO_DEEP
        out: dict[str, Json] = {}
        repeats: dict[str, int] = {}
        for key, item in self.snapshot(pairs):
            cut = self.left <= 0
            name = "[cut]" if cut else self.key(key, depth)
            name = name if name not in out else _unused(name, out, repeats)
            out[name] = TOO_MANY if cut else self.value(item, depth + 1)
            if cut:
                break
            self.left -= 1
        return out

    def key(self, key: object, depth: int) -> str:
        if type(key) is str and len(key) < 256 and key.isascii() and "\0" not in key:
            return key
        cleaned = self.value(key, depth + 1)
        text = cleaned if type(cleaned) is str else encode(cleaned).decode()
        return FORBIDDEN_IN_KEYS.sub("\ufffd", text)

    def snapshot(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """All that may still be met, taken at once: somebody may change the container meanwhile."""
        return tuple(islice(values, max(self.left, 0) + 1))


def _well_formed(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return FORBIDDEN.sub("\ufffd", text)


def _unused(name: str, taken: Mapping[str, object], repeats: dict[str, int]) -> str:
    """``name#2``, ``name#3``, ...; without ``repeats`` equal keys would cost the square of their number."""
    number = repeats.get(name, 1) + 1
    while f"{name}#{number}" in taken:
        number += 1
    repeats[name] = number
    return f"{name}#{number}"


def _class_name(kind: type) -> str:
    try:
        return _well_formed(f"<{kind.__module__}.{kind.__qualname__}>"[:256])
    except Exception:  # noqa: BLE001  # the value's own code may raise anything
        return UNREADABLE


# --- One rule for each kind of value. Methods are the known base class's: a subclass may override its own.


def _integer(value: int) -> int | str:
    value = int.__int__(value)
    if -MAX_INTEGER <= value <= MAX_INTEGER:
        return value
    try:
        return str(value)
    except ValueError:  # more digits than sys.get_int_max_str_digits()
        return hex(value)


def _float(value: float) -> str:
    text = float.__repr__(value)
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        return datetime.isoformat(value, timespec="microseconds")
    try:
        return format_timestamp(value)
    except (ValueError, OverflowError):  # naive, or beyond year 1 or 9999 in UTC
        return datetime.isoformat(value, timespec="microseconds")


def _duration(value: timedelta) -> str:
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"{sign}P{value.days}DT{minutes // 60:02d}H{minutes % 60:02d}M{seconds:02d}{fraction}S"


def _octets(value: bytes | bytearray | memoryview) -> str:
    data = memoryview(value).tobytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()


def printed_address(value: _Address) -> str:
    """As ``ipaddress`` prints it; but IPv4 inside IPv6, which Python versions print differently, as IPv4."""
    return str(getattr(value, "ipv4_mapped", None) or value)


def _printed(value: object) -> str:
    return _MEMORY_ADDRESS.sub("", str.__str__(str(value)))


_SCALARS: Final[tuple[tuple[Any, Callable[[Any], int | str]], ...]] = (
    (str, str.__str__),
    (int, _integer),
    (float, _float),
    (Decimal, Decimal.__str__),
    (datetime, _moment),
    ((date, time), lambda value: (date if issubclass(type(value), date) else time).isoformat(value)),
    (timedelta, _duration),
    ((ipaddress.IPv4Address, ipaddress.IPv6Address), printed_address),
    ((UUID, PurePath, ipaddress.IPv4Network, ipaddress.IPv6Network), str),
    ((bytes, bytearray, memoryview), _octets),
)
# Of these very classes, which print nothing but ASCII.
_PRINTED: Final[dict[type, Callable[[Any], Any]]] = {
    kind: next(convert for base, convert in _SCALARS if issubclass(kind, base))
    for kind in (float, Decimal, datetime, date, timedelta, UUID)
}
_Rule: TypeAlias = Callable[[_Visit, Any, int], Json]


@lru_cache(maxsize=1024)
def _rule(kind: type) -> _Rule:
    """The rule for values of this class."""
    if issubclass(kind, Enum):
        return _enumerated
    for base, convert in _SCALARS:
        if issubclass(kind, base):
            return partial(_scalar, convert)
    if names := _field_names(kind):
        return partial(_object_of_fields, names)
    for base, rule in _CONTAINERS:
        if issubclass(kind, base):
            return rule
    return partial(_scalar, _printed if _has_text(kind) else lambda value: _class_name(type(value)))


def _scalar(convert: Callable[[Any], int | str], visit: _Visit, value: object, _depth: int) -> Json:
    result = convert(value)
    return visit.text(result) if isinstance(result, str) else result


def _printed_as(kind: Any, value: object) -> Json:
    """As ``_scalar`` does, without a walk."""
    try:
        return _PRINTED[kind](value)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001  # a time zone's own code may raise anything
        return _class_name(kind)


def _enumerated(visit: _Visit, value: Enum, depth: int) -> Json:
    if isinstance(value._value_, Enum):
        return _class_name(type(value))
    return visit.value(value._value_, depth)


def _field_names(kind: type) -> tuple[str, ...]:
    """The field names of a dataclass, attrs, msgspec, pydantic (2 and 1) or namedtuple class, else none."""
    if is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    if attributes := getattr(kind, "__attrs_attrs__", ()):
        return tuple(attribute.name for attribute in attributes)
    if issubclass(kind, tuple):
        return tuple(getattr(kind, "_fields", ()))
    for names in ("__struct_fields__", "model_fields", "__fields__"):
        found = getattr(kind, names, None)
        if isinstance(found, dict | tuple) and found:
            return tuple(found)
    return ()


def _object_of_fields(names: tuple[str, ...], visit: _Visit, value: object, depth: int) -> Json:
    pairs = [(name, _attribute(value, name)) for name in names]
    extra = _attribute(value, "__pydantic_extra__")
    return visit.members([*pairs, *extra.items()] if type(extra) is dict else pairs, depth)


def _attribute(value: object, name: str) -> Any:
    try:
        return getattr(value, name)
    except Exception:  # noqa: BLE001  # the value's own code may raise anything
        return UNREADABLE


def _sorted_array(visit: _Visit, values: Iterable[object], depth: int) -> Json:
    array = visit.array(values, depth)
    return sorted(array, key=encode) if type(array) is list else array


_CONTAINERS: Final[tuple[tuple[Any, _Rule], ...]] = (
    # not value.items(): of a Django or Werkzeug MultiDict that shows one value per key
    (dict, lambda visit, value, depth: visit.members(dict.items(value), depth)),
    (Mapping, lambda visit, value, depth: visit.members(value.items(), depth)),
    ((list, tuple, deque), _Visit.array),
    ((set, frozenset), _sorted_array),
)


def _has_text(kind: Any) -> bool:
    """Whether ``str()`` says something. Iterables need a ``__str__``: a query set's repr runs the query."""
    if kind.__str__ is not object.__str__:
        return True
    return kind.__repr__ is not object.__repr__ and not hasattr(kind, "__iter__")
