"""Changes of one moment, as the JSON of events that wait in an outbox: what they share is written once for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from audit_core.canonical import encode, format_timestamp
from audit_core.clean import clean
from audit_core.compose import salts_of, surroundings_of, within
from audit_core.context import AuditContext
from audit_core.event import AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import DETAILS_BUDGET, clean_details, clean_text, encode_fitting, fit, normal_deed
from audit_core.private import ROOM
from audit_core.redaction import Redactor
from audit_core.rows import to_json

_OWN: Final = ("details", "event_id", "resource_id", "timestamp")  # what each event has for itself, in JSON's order
_PLACE: Final = encode("\0").decode()  # no value of an event is written so

_ALWAYS_TOLD: Final = frozenset(("create", "delete"))  # others only if something is left that is not excluded


class ToldChange(Protocol):
    """A change, as an ORM hook tells it."""

    @property
    def action(self) -> str:
        """What was done."""

    @property
    def details(self) -> Mapping[str, Any]:
        """The event's details."""

    def resource(self, redactor: Redactor) -> tuple[str, str | None]:
        """What it was done to, without what is secret in its id."""


class _Kind(NamedTuple):
    """What the events of one action on one type of resource share."""

    resource_type: str
    template: str  # the event's JSON, with %s in the place of what is its own


def events_as_json(
    changes: Iterable[ToldChange],
    more: Mapping[str, object],
    *,
    context: AuditContext,
    source: str | None,
    redactor: Redactor,
) -> Iterator[str]:
    """The event of each change, with ``more`` details: what ``to_json(compose(...))`` gives, for a part of its price.

    The actor is asked once. Each event is made when it is asked for, so that thousands do not lie in memory.
    """
    surroundings: dict[str, Any] | None = None
    kinds: dict[tuple[str, str], _Kind] = {}
    below, added = within(context), {name: clean(value) for name, value in more.items()}
    if context.told.ended:  # see compose
        added["after_request"] = True
    for change in changes:
        resource_type, identifier = change.resource(redactor)
        kind = kinds.get((change.action, resource_type))
        if kind is None:
            surroundings = surroundings or surroundings_of(context, source)
            kind = kinds[change.action, resource_type] = _kind(change.action, resource_type, surroundings)
        details = {**below, **clean_details(change.details), **added}
        details = redactor.details(details, kind.resource_type)
        if change.action not in _ALWAYS_TOLD and details.get("changes") == {}:
            continue
        if identifier is not None:
            identifier = clean_text(identifier)
        if redactor.erasable:
            deed = {"action": change.action, "resource_type": resource_type, "resource_id": identifier}
            yield _private_json({**deed, "details": details}, surroundings or {}, redactor)
            continue
        yield kind.template % (
            encode_fitting(details, DETAILS_BUDGET).decode(),
            f'"{new_event_id()}"',
            encode(identifier).decode(),
            f'"{format_timestamp(datetime.now(UTC))}"',
        )


def _private_json(deed: Mapping[str, Any], surroundings: Mapping[str, Any], redactor: Redactor) -> str:
    """The event of one change, some of whose values are kept outside of its record."""
    fields = {**surroundings, **normal_deed(deed["action"], deed["resource_type"], None, Outcome.SUCCESS.value, None)}
    fields |= {"resource_id": deed["resource_id"], "details": fit(deed["details"], DETAILS_BUDGET - ROOM)}
    salts = salts_of(fields, redactor)
    return to_json(AuditEvent(event_id=new_event_id(), timestamp=datetime.now(UTC), **fields, salts=salts))


def _kind(action: str, resource_type: str, surroundings: Mapping[str, Any]) -> _Kind:
    deed = normal_deed(action, resource_type, None, Outcome.SUCCESS.value, None)
    text = encode({**surroundings, **deed, "private": "", **dict.fromkeys(_OWN, "\0")}).decode()
    return _Kind(deed["resource_type"], text.replace("%", "%%").replace(_PLACE, "%s"))
