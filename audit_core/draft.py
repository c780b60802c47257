"""An event as it can be sealed: its columns, checked, and still without a place in the chain.

What stands in an outbox or a spill file may have been written by anybody. Nothing of it is believed: a draft has
exactly the fields of an event, each of its type and in its one form, and fits into a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import product
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final, TypeAlias

from audit_core.canonical import (
    MAX_RECORD_BYTES,
    NULLABLE,
    RECORD_COLUMNS,
    Row,
    decode,
    encode,
    encode_record,
    format_timestamp,
)
from audit_core.clean import FORBIDDEN, FORBIDDEN_IN_KEYS, MAX_DEPTH, MAX_INTEGER
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.private import VALUES_AT_MOST, Aside, commit, has_place, put_back, take_out

Draft: TypeAlias = tuple[Any, ...]  # texts and None in the order of DRAFT_COLUMNS


class PrivateDraft(tuple[Any, ...]):  # noqa: SLOT001 - a tuple can have none
    """A draft, and the values that are kept outside of its record, which commits to them."""

    aside: tuple[Aside, ...] = ()


DRAFT_COLUMNS: Final = tuple(name for name in RECORD_COLUMNS if name not in {"previous_hash", "sequence"})
EVENT_ID: Final = DRAFT_COLUMNS.index("event_id")
ACTION: Final = DRAFT_COLUMNS.index("action")
_DETAILS: Final = DRAFT_COLUMNS.index("details")
_TIMESTAMP: Final = DRAFT_COLUMNS.index("timestamp")
_ACTOR_TYPE: Final = DRAFT_COLUMNS.index("actor_type")
_OUTCOME: Final = DRAFT_COLUMNS.index("outcome")
_PRIVATE: Final = DRAFT_COLUMNS.index("private")
_BEFORE_HASH: Final = RECORD_COLUMNS.index("previous_hash")
_BEFORE_SEQUENCE: Final = RECORD_COLUMNS.index("sequence") - 1

MAX_DRAFT_BYTES: Final = MAX_RECORD_BYTES - 1_400  # for the place: an origin of 200 characters, a hash, a sequence
_SURELY_SHORT: Final = 10_000  # in characters, of which JSON makes at most six bytes each
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)
_ENDINGS: Final = frozenset(product((kind.value for kind in ActorType), (outcome.value for outcome in Outcome)))

_values_of_object = itemgetter(*DRAFT_COLUMNS)
_values_of_event = attrgetter(*DRAFT_COLUMNS)
_known_kinds: set[tuple[type, ...]] = set()


def parse_draft(text: str) -> Draft:
    """The event that waits in an outbox as ``text``. Raises ValueError if it is none that we would have written."""
    if len(text) > MAX_RECORD_BYTES:
        raise ValueError(f"more than {MAX_RECORD_BYTES} characters")
    waiting = decode(text)
    try:
        values = _values_of_object(waiting)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no event, or one without a field: {error}") from error
    plain = "\\u" not in text and text.isascii()
    if "aside" in waiting:
        aside = _parse_aside(waiting, plain=plain)
        return _with_aside(values, aside, plain=plain)
    if len(waiting) != len(values):
        raise ValueError("an event with unknown fields")
    return _checked(values, plain=plain)


def draft_of(event: AuditEvent) -> Draft:
    """The event as it can be sealed. Raises ValueError or TypeError where its values are not normalised."""
    fields = dict(zip(DRAFT_COLUMNS, _values_of_event(event), strict=True))
    fields["timestamp"] = format_timestamp(event.timestamp)
    if event.salts:
        aside = take_out(fields, event.salts)
        return _with_aside(fields.values(), aside, plain=False)
    return _checked(fields.values(), plain=False)


def event_of(draft: Draft) -> AuditEvent:
    """The event that is not sealed yet."""
    fields = dict(zip(DRAFT_COLUMNS, draft, strict=True))
    fields["details"], fields["timestamp"] = decode(fields["details"]), datetime.fromisoformat(fields["timestamp"])
    if aside := aside_of(draft):
        put_back(fields, {one.name: decode(one.value) for one in aside})
        fields |= {"private": "", "salts": {one.name: one.salt for one in aside}}
    return AuditEvent(**fields)


def aside_of(draft: Draft) -> tuple[Aside, ...]:
    """What is kept outside of its record."""
    return draft.aside if isinstance(draft, PrivateDraft) else ()


def place(draft: Draft, sequence: int, previous_hash: str) -> Row:
    """The columns of the record, with the draft's place in the chain."""
    return (
        *draft[:_BEFORE_HASH],
        previous_hash,
        *draft[_BEFORE_HASH:_BEFORE_SEQUENCE],
        sequence,
        *draft[_BEFORE_SEQUENCE:],
    )


def draft_of_row(row: Row) -> Draft:
    """What a stored record was before it got its place."""
    place_of = {"previous_hash", "sequence"}
    return tuple(value for name, value in zip(RECORD_COLUMNS, row, strict=False) if name not in place_of)


def _parse_aside(waiting: dict[str, Any], *, plain: bool) -> list[Aside]:
    """The values that wait beside the record. Raises ValueError unless each has a place in it, and a salt."""
    if len(waiting) != len(DRAFT_COLUMNS) + 1:
        raise ValueError("an event with unknown fields")
    found = waiting["aside"]
    if type(found) is not dict or not 1 <= len(found) <= VALUES_AT_MOST:
        raise ValueError("values beside the record that are none")
    aside = []
    for name, pair in found.items():
        if not (type(pair) is list and len(pair) == 2 and type(pair[0]) is str and has_place(waiting, name)):
            raise ValueError(f"a value beside the record that has no place in it: {name}")
        _check_values(pair[1:], MAX_DEPTH, plain=plain)
        aside.append(Aside(name, pair[0], encode(pair[1]).decode()))
    return aside


def _with_aside(values: Iterable[Any], aside: Iterable[Aside], *, plain: bool) -> PrivateDraft:
    """The record commits to what is beside it here, where both are known: nobody else's word counts."""
    columns, kept = list(values), tuple(aside)
    if columns[_PRIVATE] != "":
        raise ValueError("commitments of an event that is not sealed")
    columns[_PRIVATE] = commit(kept)
    draft = PrivateDraft(_checked(columns, plain=plain, commits=True))
    draft.aside = kept
    return draft


def _checked(values: Iterable[Any], *, plain: bool, commits: bool = False) -> Draft:
    """``plain`` says that no text among the values, however deep, can have a character that is not allowed."""
    columns = list(values)
    kinds = tuple(map(type, columns))
    if kinds not in _known_kinds:
        _check_kinds(kinds)
    if not _ID.fullmatch(columns[EVENT_ID]):
        raise ValueError("event_id is no UUID in lower case")
    if not _MOMENT.fullmatch(columns[_TIMESTAMP]):
        raise ValueError("timestamp is not in the form YYYY-MM-DDTHH:MM:SS.ffffffZ")
    datetime.fromisoformat(columns[_TIMESTAMP])  # or a ValueError: a date that there is not
    if (columns[_ACTOR_TYPE], columns[_OUTCOME]) not in _ENDINGS:
        raise ValueError("an actor_type or an outcome that there is not")
    _check_members(columns[_DETAILS], MAX_DEPTH - 1, plain=plain)
    columns[_DETAILS] = encode(columns[_DETAILS]).decode()
    if columns[_PRIVATE] and not commits:  # nobody could ever show what they were made of
        raise ValueError("commitments without their values")
    texts = "".join(filter(None, columns))
    if not plain and FORBIDDEN.search(texts):
        raise ValueError("a text with a NUL or a lone surrogate")
    draft = tuple(columns)
    if len(texts) > _SURELY_SHORT and len(encode_record(place(draft, 0, ""), "")) > MAX_DRAFT_BYTES:
        raise ValueError("an event that is too long for a record")
    return draft


def _check_kinds(kinds: tuple[type, ...]) -> None:
    """Accept events of these types from now on, or raise ValueError."""
    for name, kind in zip(DRAFT_COLUMNS, kinds, strict=True):
        expected = dict if name == "details" else str
        if kind is not expected and not (kind is NoneType and name in NULLABLE):
            raise ValueError(f"{name} must be {expected.__name__}, not {kind.__name__}")
    _known_kinds.add(kinds)


def _check_members(members: dict[str, Any], levels: int, *, plain: bool) -> None:
    if not plain and any(map(FORBIDDEN_IN_KEYS.search, members)):
        raise ValueError("a name with a character that is not allowed")
    _check_values(members.values(), levels, plain=plain)


def _check_values(values: Iterable[Any], levels: int, *, plain: bool) -> None:
    """Raise ValueError unless ``clean`` could have made the values; ``levels`` more containers may follow."""
    for value in values:
        kind = type(value)
        if kind is str:
            if not plain and FORBIDDEN.search(value):
                raise ValueError("a text with a NUL or a lone surrogate")
        elif kind is dict or kind is list:
            if not levels:
                raise ValueError(f"nested deeper than {MAX_DEPTH}")
            if kind is dict:
                _check_members(value, levels - 1, plain=plain)
            else:
                _check_values(value, levels - 1, plain=plain)
        elif kind is int:
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise ValueError("an integer beyond 2^53 - 1")
        elif kind is not bool and value is not None:
            raise ValueError(f"a {kind.__name__}")
