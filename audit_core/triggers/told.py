"""What a trigger has put into an outbox, as the event that is sealed.

A trigger writes down only what the database knows, each value as the text that PostgreSQL prints: whoever changes
rows shall not wait for more. Here that becomes an event as the ORMs write it. Nothing of it is believed: anybody who
may insert into the outbox can have written it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

from audit_core.canonical import Json, decode
from audit_core.clean import clean, printed_address
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.normalise import DETAILS_BUDGET, clean_text, fit, normalise
from audit_core.redaction import Redactor
from audit_core.triggers.arrays import parse_array

VERSION: Final = 1
BEGINNING: Final = f'{{"trigger": {VERSION}, '
CONTEXT_FIELDS: Final = (
    "actor_id", "actor_type", "on_behalf_of", "tenant_id", "source", "ip_address", "user_agent", "request_id",
    "session_id",
)  # fmt: skip
WITHIN: Final = ("command", "task")
_ACTIONS = frozenset(("create", "update", "delete"))
_INTERVAL = re.compile(
    r"(?:(-?\d+) years? ?)?(?:([-+]?\d+) mons? ?)?(?:([-+]?\d+) days? ?)?"
    r"(?:([-+]?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
)
_redactor = Redactor()


def read_told(text: str) -> AuditEvent:
    """The event of a row that a trigger wrote. Raises ValueError if none of ours can have written it."""
    told = decode(text)
    try:
        fields, details = _who(told)
        kind, key_fields = clean_text(told["resource_type"], 256), [str(name) for name in told["key_fields"]]
        if told["action"] not in _ACTIONS:
            raise ValueError("an action that no trigger has")
        more = {"database": clean_text(told["database"], 256)} if "database" in told else {}
        details = {**details, **_what(told), **more}
        key = _key(told, key_fields)
        made = normalise(
            action=told["action"], outcome=Outcome.SUCCESS, resource_type=kind, details=details,
            resource_id=None if key is None else _redactor.identifier(key, kind, key_fields), **fields,
        )  # fmt: skip
        made["details"] = fit(made["details"], DETAILS_BUDGET)
        moment = datetime.fromisoformat(told["timestamp"]).astimezone(UTC)
        return AuditEvent(event_id=told["event_id"], timestamp=moment, **made)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no event of a trigger: {error}") from error


def _who(told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The actor, and what else is known of him: what the application said, else who it was at the database."""
    if "context" in told and (said := _context(told["context"])) is not None:
        within, ended = said.pop("within"), said.pop("after_request", None)
        return said, {**within, **({"after_request": True} if ended is True else {})}
    if "context" in told:
        return {"actor_type": ActorType.ANONYMOUS}, {"context": {"unreadable": told["context"]}}
    there = told["connection"]
    known = {name: there[name] for name in ("user", "application_name", "address") if there.get(name)}
    kind = ActorType.ADMIN if there.get("superuser") == "on" else ActorType.SERVICE
    fields = {"actor_id": there["user"], "actor_type": kind, "ip_address": there.get("address")}
    return fields, {"connection": known}


def _context(text: str) -> dict[str, Any] | None:
    try:
        said = decode(text)
        ActorType(said["actor_type"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    known = {name: said[name] for name in (*CONTEXT_FIELDS, "after_request") if said.get(name) is not None}
    within = said["within"] if type(said.get("within")) is dict else {}
    return {**known, "within": {name: within[name] for name in WITHIN if name in within}}


def _what(told: Mapping[str, Any]) -> dict[str, Any]:
    if "bulk" in told:
        return {"bulk": {name: told["bulk"][name] for name in ("rows", "criteria") if name in told["bulk"]}}
    changes, kinds = {}, told["kinds"]
    for name, (old, new) in told["changes"].items():
        values = {"old": _read(kinds.get(name, ""), old), "new": _read(kinds.get(name, ""), new)}
        changes[name] = _redactor.details({side: clean(value) for side, value in values.items()})
    return {"changes": changes}


def _key(told: Mapping[str, Any], fields: list[str]) -> str | None:
    """As ``orm.changes.resource_id`` writes it."""
    if not told.get("key"):
        return None
    kinds = told["kinds"]
    names = fields if len(fields) == len(told["key"]) else [""] * len(told["key"])
    texts = [clean_text(_read(kinds.get(name, ""), value)) for name, value in zip(names, told["key"], strict=True)]
    return texts[0] if len(texts) == 1 else ",".join(t.replace("\\", "\\\\").replace(",", "\\,") for t in texts)


def _read(kind: str, value: Json) -> Any:
    """The value of a text. What does not read as what the column was stays a text: it may have been cut."""
    if type(value) is not str or not kind:
        return value
    try:
        if kind.endswith("[]"):
            return parse_array(value, _READERS.get(kind[:-2], str))
        return _READERS.get(kind, str)(value)
    except (ValueError, ArithmeticError, RecursionError):
        return value


def _interval(text: str) -> timedelta:
    """As psycopg reads it: a year has 365 days, a month 30."""
    if not text or (found := _INTERVAL.fullmatch(text)) is None:
        raise ValueError(text)
    years, months, days = (int(part or 0) for part in found.groups()[:3])
    sign, hours, minutes, seconds, fraction = found.groups()[3:]
    clock = timedelta(
        hours=int(hours or 0), minutes=int(minutes or 0), seconds=int(seconds or 0),
        microseconds=int((fraction or "").ljust(6, "0")),
    )  # fmt: skip
    return timedelta(days=365 * years + 30 * months + days) + (-clock if sign == "-" else clock)


def _json(text: str) -> Json:
    return clean(json.loads(text))


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "int": int,
    "bool": lambda text: {"t": True, "f": False}.get(text, text),
    "decimal": Decimal,
    "float": float,
    "datetime": datetime.fromisoformat,
    "time": time.fromisoformat,
    "interval": _interval,
    "bytes": lambda text: bytes.fromhex(text.removeprefix("\\x")),
    "json": _json,
    "address": lambda text: printed_address(ipaddress.ip_address(text)),
}
