"""Values that may have to be erased one day: each is kept beside the record, which holds a salted commitment to it.

A value is named by its place in the event, as a JSON Pointer (RFC 6901) writes it: ``/ip_address``,
``/details/changes/email/new``. The commitment is HMAC-SHA256, under 32 random bytes of its own, of the value's
canonical bytes: who has the record alone can neither read the value nor try whether it is one that he suspects, nor see
that two are the same. Without the value and its salt nothing is left of it.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from audit_core.canonical import Json, decode, encode

PRIVATE: Final = "[private]"  # what the record's details have in the value's place
ERASED: Final = "[erased]"  # what is read where there is no value any more
MISSING: Final = "[missing]"  # the same, where no statement says that it was erased
CHANGED: Final = "[not what was sealed]"
NOT_THERE: Final = frozenset({ERASED, MISSING, CHANGED})
FIELDS: Final = ("ip_address", "user_agent")  # that are kept apart; in the record they are null
DETAILS: Final = "/details"
VALUES_AT_MOST: Final = 64  # that one event keeps one by one: else its details are one value
COMMITMENTS_AT_MOST: Final = 6_000  # bytes, the same
ROOM: Final = 2 * COMMITMENTS_AT_MOST  # bytes by which details are shorter where some of them are kept apart
_SALT_BYTES: Final = 32
_LONGEST_COMMITMENT: Final = 50  # bytes, with what is around it

IsPrivate = Callable[[str], bool]  # whether values of this name are kept apart


class Aside(NamedTuple):
    """A value of an event that is not sealed yet."""

    name: str
    salt: str  # base64 of 32 random bytes
    value: str  # canonical JSON


class KeptValue(NamedTuple):
    """A value of a sealed event, as it is stored: it may be anything."""

    sequence: int
    name: str
    salt: str
    value: str


# --- Which values, and their salts


def make_salts(fields: Mapping[str, Any], is_private: IsPrivate) -> dict[str, str]:
    """A new salt for each value of an event that is to be kept apart."""
    names = [f"/{field}" for field in FIELDS if fields.get(field) is not None]
    details = fields["details"]
    inside = list(_find(details, DETAILS, is_private)) if details else []
    length = sum(len(encode(name)) + _LONGEST_COMMITMENT for name in inside)
    if len(inside) > VALUES_AT_MOST - len(FIELDS) or length > COMMITMENTS_AT_MOST - 200:
        inside = [DETAILS]
    return {name: base64.b64encode(secrets.token_bytes(_SALT_BYTES)).decode() for name in (*names, *inside)}


def _find(values: Mapping[str, Json], place: str, is_private: IsPrivate) -> Iterator[str]:
    for name, value in values.items():
        here = f"{place}/{_escaped(name)}"
        if name == "changes" and isinstance(value, dict):
            for field, change in value.items():
                yield from _find_in_change(field, change, f"{here}/{_escaped(field)}", is_private)
        else:
            yield from _find_in_value(name, value, here, is_private)


def _find_in_change(field: str, change: Json, here: str, is_private: IsPrivate) -> Iterator[str]:
    """It stays visible that the field changed, and whether it was or became None."""
    if isinstance(change, dict) and change.keys() <= {"old", "new"} and is_private(field):
        yield from (f"{here}/{side}" for side, value in change.items() if value is not None)
    else:
        yield from _find_in_value(field, change, here, is_private)


def _find_in_value(name: str, value: Json, here: str, is_private: IsPrivate) -> Iterator[str]:
    if value is None:
        return
    if is_private(name):
        yield here
    elif isinstance(value, dict):
        yield from _find(value, here, is_private)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                yield from _find(item, f"{here}/{number}", is_private)


# --- Out of the event, and back into it


def take_out(fields: dict[str, Any], salts: Mapping[str, str]) -> list[Aside]:
    """Take the values with these salts out of ``fields``, whose details become others. Raises LookupError."""
    fields["details"] = _copied(fields["details"])
    taken = []
    for name, salt in salts.items():
        within, key = _place(fields, name)
        taken.append(Aside(name, salt, encode(within[key]).decode()))
        within[key] = _left(name)
    return taken


def put_back(fields: dict[str, Any], values: Mapping[str, Json]) -> None:
    """Put values in their places; where the record has another form than ours, they are left out."""
    for name, value in values.items():
        try:
            within, key = _place(fields, name)
            within[key] = value if name != DETAILS or isinstance(value, dict) else {DETAILS[1:]: value}
        except LookupError:
            continue


def has_place(fields: dict[str, Any], name: str) -> bool:
    """Whether a value of this name has been taken out of ``fields``."""
    try:
        within, key = _place(fields, name)
        return bool(within[key] == _left(name))
    except LookupError:
        return False


def _left(name: str) -> Json:
    """What is there instead."""
    return {} if name == DETAILS else None if name.count("/") == 1 else PRIVATE


def _place(fields: dict[str, Any], name: str) -> tuple[Any, Any]:
    """What holds the value, and under which key. Raises LookupError."""
    first, *others = (part.replace("~1", "/").replace("~0", "~") for part in name.split("/")[1:])
    if not ((first in FIELDS and not others) or first == DETAILS[1:]):
        raise LookupError(name)
    within, key = fields, first
    for part in others:
        within = within[key]
        if isinstance(within, list) and part.isdecimal() and part.isascii():
            key = int(part)  # type: ignore[assignment]
        elif isinstance(within, dict):
            key = part
        else:
            raise LookupError(name)
    within[key]
    return within, key


def _copied(value: Any) -> Any:
    """With containers of its own."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


# --- Commitments


def commitment(salt: str, value: str) -> str:
    """Base64 of the HMAC. Raises ValueError for a salt that is not 32 bytes in base64, or what has no UTF-8."""
    key = base64.b64decode(salt, validate=True)
    if len(key) != _SALT_BYTES or base64.b64encode(key).decode() != salt:
        raise ValueError("a salt that is not the base64 of 32 bytes")
    return base64.b64encode(hmac.digest(key, value.encode(), "sha256")).decode()


def commit(values: Iterable[Aside]) -> str:
    """What the record says of them: canonical JSON of names and commitments, "" where there are none."""
    found: Json = {value.name: commitment(value.salt, value.value) for value in values}
    return encode(found).decode() if found else ""


def parse_commitments(text: object) -> dict[str, str] | None:
    """Names and commitments of a record; None where there are none that we have written."""
    if not isinstance(text, str) or not text.startswith("{"):
        return None
    try:
        found = decode(text)
        is_ours = bool(found) and all(type(value) is str for value in found.values()) and encode(found) == text.encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return found if is_ours else None


def fits(value: KeptValue, committed: str) -> bool:
    """Whether it is the value that was sealed."""
    try:
        return commitment(value.salt, value.value) == committed
    except (ValueError, TypeError, AttributeError):
        return False
