"""The bytes that are hashed (RFC 8785), with the standard library or with orjson: the same ones.

The values are in the domain that ``clean`` brings them into.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring as _quote
from types import NoneType
from typing import Any, Final, TypeAlias

try:
    import orjson
except ImportError:  # the extra "speed" is not installed
    orjson = None  # type: ignore[assignment]

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"
Row: TypeAlias = tuple[Any, ...]

FORMAT_VERSION: Final = 1
MAX_RECORD_BYTES: Final = 65_535

RECORD_COLUMNS: Final = (
    "action",
    "actor_id",
    "actor_type",
    "details",
    "event_id",
    "ip_address",
    "on_behalf_of",
    "outcome",
    "previous_hash",
    "private",
    "request_id",
    "resource_id",
    "resource_type",
    "sequence",
    "session_id",
    "source",
    "tenant_id",
    "timestamp",
    "user_agent",
)  # every field of the record in canonical order, but for ``log`` and ``v``


# --- Times


def format_timestamp(value: datetime) -> str:
    """``YYYY-MM-DDTHH:MM:SS.ffffffZ``. A naive time is a ValueError: nobody knows which moment it is."""
    if value.tzinfo is not UTC:
        if value.utcoffset() is None:
            raise ValueError(f"{value!r} has no time zone")
        value = value.astimezone(UTC)
    if orjson and value.microsecond and type(value) is datetime:  # five times as fast as isoformat
        return orjson.dumps(value, option=orjson.OPT_UTC_Z)[1:-1].decode()
    return datetime.isoformat(value, timespec="microseconds")[:-6] + "Z"


def parse_timestamp(text: str) -> datetime:
    """The inverse of ``format_timestamp``; whatever that cannot have written is a ValueError."""
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is UTC and format_timestamp(value) == text:
            return value
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{text!r} is no timestamp in the form YYYY-MM-DDTHH:MM:SS.ffffffZ")


# --- Bytes, with the standard library


_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _encode_with_json(value: Json) -> bytes:
    """RFC 8785 bytes of a value of the domain."""
    return _ENCODER.encode(value).encode()


def _decode_with_json(data: bytes | str) -> Any:
    """Read JSON; a ValueError for what is none."""
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")  # json.loads would accept UTF-16
        return json.loads(text, parse_constant=_refuse_constant)
    except (RecursionError, TypeError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


NULLABLE: Final = frozenset(
    {
        *("actor_id", "on_behalf_of", "tenant_id", "resource_type", "resource_id"),
        *("source", "ip_address", "user_agent", "request_id", "session_id"),
    }
)
_PLACES: Final = ",".join(f'"{name}":%s' for name in sorted((*RECORD_COLUMNS, "log")))
_TEMPLATE: Final = f'{{{_PLACES},"v":{FORMAT_VERSION}}}'
_DETAILS: Final = RECORD_COLUMNS.index("details")
_LOG: Final = RECORD_COLUMNS.index("on_behalf_of")  # "log" comes before it
_known_kinds: set[tuple[type, ...]] = set()


def _check_kinds(kinds: tuple[type, ...]) -> None:
    """Accept rows of these column types from now on (there are 2^10 such), or raise TypeError.

    The columns may come from a database that somebody edited. Each must have exactly the honest type: a
    value of another one (a BLOB for a text, a subclass of str) could have the honest record's bytes.
    """
    if len(kinds) != len(RECORD_COLUMNS):
        raise TypeError(f"a record has {len(RECORD_COLUMNS)} columns, not {len(kinds)}")
    for name, kind in zip(RECORD_COLUMNS, kinds, strict=True):
        expected = int if name == "sequence" else str
        if kind is not expected and not (kind is NoneType and name in NULLABLE):
            raise TypeError(f"column {name} must be {expected.__name__}, not {kind.__name__}")
    _known_kinds.add(kinds)


def _encode_record_with_json(row: Sequence[Any], log: str) -> bytes:
    """The bytes that are hashed: see the comment on splicing in ``_encode_record_with_orjson``."""
    kinds = tuple(map(type, row))
    if kinds not in _known_kinds:
        _check_kinds(kinds)
    parts = [value if type(value) is int else "null" if value is None else _quote(value) for value in row]
    parts[_DETAILS] = row[_DETAILS]
    parts.insert(_LOG, _quote(log))
    return (_TEMPLATE % tuple(parts)).encode()


# --- Bytes, with orjson


def _encode_with_orjson(value: Json) -> bytes:
    """RFC 8785 bytes of a value of the domain."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _decode_with_orjson(data: bytes | str) -> Any:
    """Read JSON; a ValueError for what is none."""
    return orjson.loads(data)


def _encode_record_with_orjson(row: Sequence[Any], log: str) -> bytes:
    """The bytes that are hashed: RFC 8785 JSON of the columns, ``log`` and ``v``.

    The row is in the order of ``RECORD_COLUMNS``; ``details`` is its canonical JSON text, ``timestamp`` its
    canonical string. A column of a wrong type, or a text that is not Unicode, is a TypeError or a ValueError:
    two rows that differ never have the same bytes.
    """
    kinds = tuple(map(type, row))
    if kinds not in _known_kinds:
        _check_kinds(kinds)
    (
        action, actor_id, actor_type, details, event_id, ip_address, on_behalf_of, outcome, previous_hash,
        private, request_id, resource_id, resource_type, sequence, session_id, source, tenant_id, timestamp,
        user_agent,
    ) = row  # fmt: skip
    return orjson.dumps(
        {
            "action": action,
            "actor_id": actor_id,
            "actor_type": actor_type,
            # Spliced in as it is, unchecked, and still unambiguous: whatever this text contains, the last
            # `,"event_id":` of the record is ours, as the texts after it cannot contain a quote that is not
            # escaped.
            "details": orjson.Fragment(details),
            "event_id": event_id,
            "ip_address": ip_address,
            "log": log,
            "on_behalf_of": on_behalf_of,
            "outcome": outcome,
            "previous_hash": previous_hash,
            "private": private,
            "request_id": request_id,
            "resource_id": resource_id,
            "resource_type": resource_type,
            "sequence": sequence,
            "session_id": session_id,
            "source": source,
            "tenant_id": tenant_id,
            "timestamp": timestamp,
            "user_agent": user_agent,
            "v": FORMAT_VERSION,
        }
    )


encode: Final[Callable[[Json], bytes]] = _encode_with_orjson if orjson else _encode_with_json
decode: Final[Callable[[bytes | str], Any]] = _decode_with_orjson if orjson else _decode_with_json
encode_record: Final[Callable[[Sequence[Any], str], bytes]] = (
    _encode_record_with_orjson if orjson else _encode_record_with_json
)
