"""The values of an event: clean, and none too long for the record."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from audit_core.canonical import MAX_RECORD_BYTES, Json, encode
from audit_core.clean import MAX_INTEGER, clean, printed_address
from audit_core.event import ActorType, Outcome

FIELD_LIMITS: Final = {
    "action": 512,
    "actor_id": 512,
    "actor_type": 128,
    "on_behalf_of": 512,
    "tenant_id": 256,
    "resource_type": 256,
    "resource_id": 512,
    "outcome": 128,
    "source": 256,
    "ip_address": 128,
    "user_agent": 1024,
    "request_id": 256,
    "session_id": 256,
}  # in characters; each of them may take six bytes, as in \u0001
_FEW: Final = 64  # values
KEPT: Final = 256  # characters, of a text that is cut for want of room
_ENVELOPE: Final = 2_048  # names, hashes, times, numbers, and an origin of 200 bytes, were they all escaped
DETAILS_BUDGET: Final = MAX_RECORD_BYTES - 6 * sum(FIELD_LIMITS.values()) - _ENVELOPE


class Clean(dict[str, Any]):
    """Details that are clean already, as a whole: nothing in them lies too deep, and there is not too much of it."""


def clean_text(value: object, limit: int = 512) -> str:
    """Clean a value into a text of at most ``limit`` characters.

    What is no text becomes its canonical JSON, None becomes "". A longer one keeps its beginning and ends in
    ``…[cut: <bytes> bytes, sha256:<hex>]``, both of the whole.
    """
    if type(value) is str and len(value) <= limit and value.isascii() and "\0" not in value:
        return value
    cleaned = "" if value is None else clean(value)
    text = cleaned if type(cleaned) is str else encode(cleaned).decode()
    if len(text) <= limit:
        return text
    marker = cut_marker(text)
    return (text[: max(limit - len(marker), 0)] + marker)[:limit]


def cut_marker(text: str, *, size: int | None = None) -> str:
    """What a text that is cut ends in; ``size`` in bytes, where it was longer before it was redacted."""
    data = text.encode()
    return f"…[cut: {len(data) if size is None else size} bytes, sha256:{sha256(data).hexdigest()}]"


def clean_address(value: object) -> str | None:
    """Clean an IP address into the one form that ``ipaddress`` prints, zone kept, IPv4 inside IPv6 as IPv4.

    What is no address stays as ``clean_text`` has it: ``testclient``, ``unix:``.
    """
    if value is None:
        return None
    text = clean_text(value, FIELD_LIMITS["ip_address"])
    return _parsed_address(text)


@lru_cache(maxsize=4096)
def _parsed_address(text: str) -> str:
    try:
        return clean_text(printed_address(ipaddress.ip_address(text)), FIELD_LIMITS["ip_address"])
    except ValueError:
        return text


def normalise(
    *,
    action: object,
    actor_id: object = None,
    actor_type: object = ActorType.ANONYMOUS,
    on_behalf_of: object = None,
    tenant_id: object = None,
    resource_type: object = None,
    resource_id: object = None,
    outcome: object = Outcome.SUCCESS,
    details: object = None,
    source: object = None,
    ip_address: object = None,
    user_agent: object = None,
    request_id: object = None,
    session_id: object = None,
) -> dict[str, Any]:
    """Clean the fields of an event that come from outside. Never raises, whatever the values are.

    None stays None, but for ``action`` (""), ``actor_type`` and ``outcome`` (their defaults). Details that
    are no object become ``{"value": ...}``. Redact next, then ``fit(details, DETAILS_BUDGET)``: then the
    record is within ``MAX_RECORD_BYTES``, for an origin of up to 200 bytes.
    """
    return {
        **normal_deed(action, resource_type, resource_id, outcome, details),
        **normal_surroundings(
            actor_id=actor_id,
            actor_type=actor_type,
            on_behalf_of=on_behalf_of,
            tenant_id=tenant_id,
            source=source,
            ip_address=ip_address,
            user_agent=user_agent,
            request_id=request_id,
            session_id=session_id,
        ),
    }


def normal_deed(
    action: object, resource_type: object, resource_id: object, outcome: object, details: object
) -> dict[str, Any]:
    """What was done: the part of an event that is its own."""
    return {
        "action": clean_text(action, FIELD_LIMITS["action"]),
        "resource_type": _optional(resource_type, "resource_type"),
        "resource_id": _optional(resource_id, "resource_id"),
        "outcome": _optional(outcome, "outcome") or Outcome.SUCCESS.value,
        "details": clean_details(details),
    }


def normal_surroundings(*, actor_type: object, ip_address: object, **others: object) -> dict[str, Any]:
    """Who did it and from where: all events of one moment share it."""
    return {
        **{field: None if value is None else clean_text(value, FIELD_LIMITS[field]) for field, value in others.items()},
        "actor_type": _optional(actor_type, "actor_type") or ActorType.ANONYMOUS.value,
        "ip_address": clean_address(ip_address),
    }


def _optional(value: object, field: str) -> str | None:
    return None if value is None else clean_text(value, FIELD_LIMITS[field])


def clean_details(details: object) -> dict[str, Any]:
    """Clean details, into a new object."""
    if details is None:
        return {}
    if type(details) is Clean:
        return dict(details)
    if type(details) is dict and _is_plain(copied := details.copy()):
        return copied
    cleaned: Any = clean(details)
    if type(cleaned) is not dict:
        cleaned = clean({"value": details})
    return cleaned  # type: ignore[no-any-return]


def _is_plain(details: dict[Any, Any]) -> bool:
    """Whether they are as ``clean`` would leave them, seen at one look: most are a few short texts and numbers."""
    if len(details) > _FEW:
        return False
    for name, value in details.items():
        kind = type(value)
        if not (type(name) is str and len(name) < KEPT and name.isascii() and "\0" not in name):
            return False
        if kind is str:
            if not (len(value) < KEPT and value.isascii() and "\0" not in value):
                return False
        elif kind is int:
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                return False
        elif value is not None and kind is not bool:
            return False
    return True


# --- What is too long


def fit(details: dict[str, Json], budget: int) -> dict[str, Json]:
    """Cut details (already clean) whose canonical bytes are more than ``budget``, which is at least 4,096.

    First every text of more than 1,024 characters keeps 256 of them and a marker as in ``clean_text``. Where
    that is not enough, the details become ``{"cut": {"bytes": n, "sha256": hex, "keys": [...]}}``: size and
    hash of their canonical bytes, and the first of their names.
    """
    data = encode(details)
    return details if len(data) <= budget else _cut(details, data, budget)


def encode_fitting(details: dict[str, Json], budget: int) -> bytes:
    """The canonical bytes of what ``fit`` leaves."""
    data = encode(details)
    return data if len(data) <= budget else encode(_cut(details, data, budget))


def _cut(details: dict[str, Json], data: bytes, budget: int) -> dict[str, Json]:
    shorter = {name: _shorten(value) for name, value in details.items()}
    if len(encode(shorter)) <= budget:
        return shorter
    return {"cut": {"bytes": len(data), "sha256": sha256(data).hexdigest(), "keys": _first_names(details)}}


def _shorten(value: Json) -> Json:
    if isinstance(value, str):
        return value if len(value) <= 1024 else value[:KEPT] + cut_marker(value)
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    if isinstance(value, dict):
        return {name: _shorten(item) for name, item in value.items()}
    return value


def _first_names(details: dict[str, Json], room: int = 2_048) -> list[Json]:
    names: list[Json] = []
    for name in details:
        short = clean_text(name, 128)
        room -= len(encode(short)) + 1
        if room < 0:
            break
        names.append(short)
    return names
