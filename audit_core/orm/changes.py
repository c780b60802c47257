r"""What a change is, and how its values are written: the same for every ORM. Pure.

A change names one row, its resource type and id, and per field its old and its new value. Values are written as
``clean.clean`` has them (a date as ISO 8601, a decimal and a float as decimal text, a UUID as text, an
enumeration as its value, bytes as their text or as ``base64:...``, JSON as it is), and

=======================  ==================================================================================
a file                   its name
a range                  an object: ``lower``, ``upper``, ``bounds`` (``[)``) and ``empty``; in an array, too
a foreign key            the key's value, under the name of the field that holds it
a field that is None     in a create and in a delete it is left out: absent means None on both sides
a single key             its text: ``42``, ``c0ffee00-...``
a composite key          the texts in the order of the key's columns, joined with ``,``; a ``,`` or ``\`` inside
                         one of them has a ``\`` before it, so that two keys never have the same id
a changed key            the id is the new one, and the key's fields are among the changes
=======================  ==================================================================================

Two values that are written alike are the same, and so are two numbers that are equal: 1, 1.0 and Decimal("1.00").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any

from audit_core.canonical import Json, encode
from audit_core.clean import MAX_DEPTH, MAX_NODES, UNREADABLE, clean
from audit_core.normalise import Clean, clean_text
from audit_core.redaction import Redactor

Values = Mapping[str, object]
Changes = dict[str, dict[str, Json]]
FIELDS_AT_MOST = 1_000  # of one row: with more, an event's details are cleaned as a whole
_CONTAINERS = frozenset((dict, list))


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row. ``action`` is create, update, delete, link or unlink."""

    action: str
    resource_type: str
    resource_id: str
    changes: Changes
    key_fields: Sequence[str] = ()  # the names of the key's fields: they say whether the id is a secret

    def resource(self, redactor: Redactor) -> tuple[str, str]:
        """What the event is about; an id that is a secret is told as its hash."""
        return self.resource_type, redactor.identifier(self.resource_id, self.resource_type, self.key_fields)

    @property
    def details(self) -> Mapping[str, Any]:
        """The event's details."""
        return Clean(changes=self.changes) if _is_clean(self.changes) else {"changes": self.changes}


def created(resource_type: str, key: Sequence[object], new: Values, key_fields: Sequence[str] = ()) -> Change:
    """A row that was not there; ``new`` is what the database holds now."""
    return Change("create", resource_type, resource_id(key), _all_of("new", new), key_fields)


def updated(
    resource_type: str, key: Sequence[object], old: Values, new: Values, key_fields: Sequence[str] = ()
) -> Change | None:
    """A row that was there, with the fields that were written; None when all of them hold what they held."""
    changes = changed(old, new)
    return Change("update", resource_type, resource_id(key), changes, key_fields) if changes else None


def deleted(resource_type: str, key: Sequence[object], old: Values, key_fields: Sequence[str] = ()) -> Change:
    """A row that is gone; ``old`` is what it held."""
    return Change("delete", resource_type, resource_id(key), _all_of("old", old), key_fields)


def linked(
    resource_type: str,
    key: Sequence[object],
    field: str,
    others: Sequence[Sequence[object]],
    key_fields: Sequence[str] = (),
) -> Change:
    """A row got links to ``others``, each given by its key, in the many-to-many field ``field``."""
    changes: Changes = {field: {"old": None, "new": [resource_id(other) for other in others]}}
    return Change("link", resource_type, resource_id(key), changes, key_fields)


def unlinked(
    resource_type: str,
    key: Sequence[object],
    field: str,
    others: Sequence[Sequence[object]],
    key_fields: Sequence[str] = (),
) -> Change:
    """A row lost its links to ``others``."""
    changes: Changes = {field: {"old": [resource_id(other) for other in others], "new": None}}
    return Change("unlink", resource_type, resource_id(key), changes, key_fields)


def resource_id(key: Sequence[object]) -> str:
    """The one text of a primary key, given as the values of its columns in their order."""
    if len(key) == 1:
        return _text(key[0])
    return ",".join(_text(value).replace("\\", "\\\\").replace(",", "\\,") for value in key)


def changed(old: Values, new: Values) -> Changes:
    """The fields that differ, each with its old and its new value; one that is absent on a side is None there."""
    changes: Changes = {}
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if before is after or _equal_numbers(before, after):
            continue
        change = {"old": field_value(before), "new": field_value(after)}
        if not _written_alike(change["old"], change["new"]):
            changes[_clean_name(name)] = change
    return changes


def _all_of(side: str, values: Values) -> Changes:
    """``changed``, where the other side has nothing."""
    changes: Changes = {}
    for name, value in values.items():
        if (written := field_value(value)) is not None:
            changes[_clean_name(name)] = {**_NOTHING, side: written}
    return changes


def field_value(value: object) -> Json:
    """One value as it is written; what the value is later does not reach it."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return clean(value)
    if _is_file(kind):
        return clean(getattr(value, "name", None))
    return clean(_with_ranges(value) if kind is list else _told(value))


def unread(value: object) -> object:
    """What is told of a value that cannot be read as what it is, given as the driver gives it.

    A document is not, nor are bytes, which may be one: only a reader of its names finds the secrets in it.
    """
    is_hidden = isinstance(value, bytes | bytearray | memoryview) or str(value).lstrip().startswith(("{", "["))
    return UNREADABLE if is_hidden else value


def _is_clean(changes: Changes) -> bool:
    """Whether to clean them as a whole would change nothing, as each value is clean by itself."""
    if len(changes) > FIELDS_AT_MOST:
        return False
    nested = [value for change in changes.values() for value in change.values() if type(value) in _CONTAINERS]
    return not nested or (
        max(map(_levels, nested)) <= MAX_DEPTH - 3 and len(encode([*changes.values()])) <= MAX_NODES // 2
    )


def _levels(value: Json) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_levels, inside), default=0)


def _text(value: object) -> str:
    return clean_text(field_value(value))


def _written_alike(one: Json, other: Json) -> bool:
    """Python's ``==`` takes True for 1, at any depth."""
    if type(one) is not type(other):
        return False
    return encode(one) == encode(other) if isinstance(one, dict | list) else one == other


def _equal_numbers(one: object, other: object) -> bool:
    return type(one) in _NUMBERS and type(other) in _NUMBERS and _compare(one, other)


def _compare(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ArithmeticError:  # a signalling NaN
        return False


_NUMBERS = frozenset((int, float, Decimal))  # not bool
_NOTHING: Mapping[str, Json] = {"old": None, "new": None}
_PLAIN = frozenset((str, int, bool, NoneType))
_clean_name = lru_cache(4096)(clean_text)  # the fields' names come again with every row


@lru_cache(maxsize=1024)
def _is_range(kind: Any) -> bool:
    """Those of SQLAlchemy, psycopg and psycopg2 have these in common."""
    return all(hasattr(kind, name) for name in ("lower", "upper", "lower_inc", "upper_inc", "isempty"))


def _told(value: object) -> object:
    kind: Any = type(value)
    return _range(value) if _is_range(kind) else value


def _with_ranges(array: Any) -> list[object]:
    return [_told(one) for one in array[: MAX_NODES + 1]]  # more than these nobody is told


def _range(value: Any) -> dict[str, object]:
    empty = bool(value.isempty)
    bounds = f"{'[' if value.lower_inc and not empty else '('}{']' if value.upper_inc and not empty else ')'}"
    return {"lower": value.lower, "upper": value.upper, "bounds": bounds, "empty": empty}


@lru_cache(maxsize=1024)
def _is_file(kind: Any) -> bool:
    """The class is asked, never the value: to look at a stored file's ``read`` may open it."""
    return hasattr(kind, "read") and hasattr(kind, "seek") and not issubclass(kind, Enum)
