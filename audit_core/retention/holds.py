"""Legal holds: what must be kept, whatever its retention says. To add and to lift one are signed statements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from audit_core.chain import AuditChain
from audit_core.compose import split_resource
from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.integrity.retention import KINDS, Hold
from audit_core.integrity.statement import HELD, LIFTED
from audit_core.normalise import FIELD_LIMITS, clean_text
from audit_core.query import EventQuery
from audit_core.retention.months import interval_of
from audit_core.stores import AuditStore


def holds(chain: AuditChain) -> list[Hold]:
    """Those that were not lifted, in order."""
    ring = chain.keyring
    return list(ring.holds.values()) if ring else []


def find_hold(
    chain: AuditChain,
    *,
    actor: str | None = None,
    resource_type: str | None = None,
    resource_id: str | None = None,
    tenant: str | None = None,
) -> Hold | None:
    """The first hold that keeps what is about all that is given: whoever purges asks first."""
    asked = {"actor": actor, "resource_type": resource_type, "resource_id": resource_id, "tenant": tenant}
    return next((hold for hold in holds(chain) if hold.covers(**asked)), None)


def held_in(store: AuditStore, month: str, holds: Iterable[Hold]) -> Hold | None:
    """The first hold that something in a month is under."""
    since, until = interval_of(month)
    return next(
        (hold for hold in holds if any(any(store.select(query)) for query in queries_of(hold, since, until))), None
    )


def queries_of(hold: Hold, since: datetime | None = None, until: datetime | None = None) -> Iterator[EventQuery]:
    """The events that a hold is about; the first query is the one that an index has."""
    about: dict[str, Any] = {"since": since, "until": until}
    if hold.kind == "resource":
        kind, identifier = split_resource(hold.name)
        yield EventQuery(resource_type=kind, resource_id=identifier, **about)
    elif hold.kind == "tenant":
        yield EventQuery(tenant=hold.name, **about)
    else:
        yield EventQuery(actor=hold.name, **about)
        yield EventQuery(on_behalf_of=hold.name, **about)


def add(chain: AuditChain, what: tuple[str, str], reason: str, event: AuditEvent, connection: Any) -> int:
    """Hold an actor, a resource or a tenant; the number of the hold, by which it is lifted.

    Raises ConfigurationError for what cannot be held, and what ``AuditChain.state`` raises.
    """
    kind, name = what
    if kind not in KINDS or not name.partition(":" if kind == "resource" else "\0")[0].strip():
        raise ConfigurationError("A hold is of an actor, a resource (patient:42, or patient for all) or a tenant.")
    says = {"kind": kind, "name": _as_recorded(kind, name), "reason": clean_text(reason)}
    return chain.state(HELD, says, event, connection).tree_size - 1


def _as_recorded(kind: str, name: str) -> str:
    """The name as events have it, in which one that is too long is cut."""
    if kind != "resource":
        return clean_text(name, FIELD_LIMITS["actor_id" if kind == "actor" else "tenant_id"])
    type_, identifier = split_resource(name)
    type_ = clean_text(type_)
    return type_ if identifier is None else f"{type_}:{clean_text(identifier, FIELD_LIMITS['resource_id'])}"


def lift(chain: AuditChain, number: int, reason: str, event: AuditEvent, connection: Any) -> None:
    """Lift a hold. Raises ConfigurationError where there is none of this number, and as ``add`` does."""
    if number not in {hold.sequence for hold in holds(chain)}:
        raise ConfigurationError(f"There is no hold {number}: `audit hold list` shows those that there are.")
    chain.state(LIFTED, {"hold": number, "reason": clean_text(reason)}, event, connection)
