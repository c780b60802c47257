"""Events and chains to test with, among them the events at the edges of what the format allows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from audit_core.canonical import encode_record
from audit_core.chain import AuditChain
from audit_core.clean import MAX_DEPTH, MAX_INTEGER
from audit_core.draft import MAX_DRAFT_BYTES, draft_of, place
from audit_core.event import AuditEvent
from audit_core.identity import new_event_id
from audit_core.keys import LocalSigner
from audit_core.normalise import FIELD_LIMITS, normalise
from audit_core.stores import AuditStore, StoredCheckpoint

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORIGIN = "example.com/test"


def make_event(number: int = 0, **fields: Any) -> AuditEvent:
    """A plain event, ``number`` seconds after noon."""
    moment = NOON + timedelta(seconds=number)
    usual: dict[str, Any] = {"event_id": new_event_id(), "timestamp": moment, "action": "test.event"}
    return AuditEvent(**(usual | fields))


def make_chain(store: AuditStore) -> AuditChain:
    """A chain over ``store`` with a key of its own."""
    signer = LocalSigner(b"k" * 32)
    return AuditChain(store, lambda: signer, ORIGIN)


def seal(chain: AuditChain, events: Sequence[AuditEvent]) -> StoredCheckpoint:
    """Append events in a transaction of their own."""
    with chain.store.transaction(patient=True) as connection:
        return chain.append(events, connection)


# --- The edges


def _normal(**fields: Any) -> AuditEvent:
    """An event of values that come from outside."""
    return make_event(**normalise(**{"action": "test.edge", **fields}))


def _longest_fields() -> AuditEvent:
    """Every field as long as it may be, of characters that take four bytes each and cannot be compressed."""
    chance = random.Random(1)
    texts: dict[str, Any] = {
        name: "".join(chr(chance.randrange(0x20000, 0x2A6D0)) for _ in range(n))
        for name, n in FIELD_LIMITS.items()
        if name not in {"actor_type", "outcome"}
    }
    return make_event(**texts)


def _longest_record() -> AuditEvent:
    """As long as a record may be before it has its place in the chain."""
    event = make_event(details={"text": ""})
    room = MAX_DRAFT_BYTES - len(encode_record(place(draft_of(event), 0, ""), ""))
    return make_event(event_id=event.event_id, details={"text": "x" * room})


def _nested(levels: int) -> dict[str, Any]:
    details: dict[str, Any] = {"level": "deepest"}
    for _ in range(levels - 1):
        details = {"level": details}
    return details


_HOSTILE = (
    "'; DROP TABLE audit_events; -- \" \\ \\u0000 %s ? :a $1 {} \x01\x1f\x7f\x85\u2028\ufeff\uffff \U0001f9d1\U0010ffff"
)
_OPTIONAL = [name for name in FIELD_LIMITS if name not in {"action", "actor_type", "outcome"}]
EDGES = {
    "hostile text": _normal(action=_HOSTILE, actor_id=_HOSTILE, user_agent=_HOSTILE, details={_HOSTILE: _HOSTILE}),
    "right to left": _normal(
        actor_id="\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", details={"\u05d0": "\u0627"}
    ),
    "composed and not": _normal(actor_id="\xe9", on_behalf_of="e\u0301", details={"\xe9": 1, "e\u0301": 2}),
    "NUL and lone surrogates": _normal(actor_id="a\0b", resource_id="\ud800", details={"a\0": "\0\udfff"}),
    "empty texts": _normal(**dict.fromkeys(_OPTIONAL, ""), details={"": ""}),
    "nothing at all": _normal(details={"none": None, "list": [], "object": {}}),
    "names in every order": _normal(details={"b": 1, "aaa": 2, "B": 3, "10": 4, "9": 5, "_": 6, "\u20ac": 7}),
    "the largest integers": _normal(details={"n": [MAX_INTEGER, -MAX_INTEGER, 0, -1, MAX_INTEGER + 1, True, False]}),
    "numbers as text": _normal(details={"n": [1.5, 1e300, float("nan"), "1", "1.0", "null"]}),
    "the deepest details": make_event(details=_nested(MAX_DEPTH)),
    "a whole second": make_event(timestamp=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
    "the first moment": make_event(timestamp=datetime(1, 1, 1, tzinfo=UTC)),
    "the last moment": make_event(timestamp=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    "an address": _normal(ip_address="2001:0DB8:0:0::1"),
    "an address with a zone": _normal(ip_address="fe80::1%eth0"),
    "no address": _normal(ip_address="unix:"),
    "the longest fields": _longest_fields(),
    "the longest record": _longest_record(),
}
"""Events that a store or an outbox gives back as they were, by what is special about them."""
