"""Legal holds: what must be kept, whatever its retention says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from audit_core.compose import split_resource
from audit_core.integrity.retention import Hold
from audit_core.query import EventQuery
from audit_core.retention.months import next_month
from audit_core.stores import AuditStore


def held_in(store: AuditStore, month: str, holds: Iterable[Hold]) -> Hold | None:
    """The first hold that something in a month is under."""
    since, until = _start(month), _start(next_month(month))
    return next((hold for hold in holds if any(True for _ in store.select(query_of(hold, since, until)))), None)


def query_of(hold: Hold, since: datetime | None = None, until: datetime | None = None) -> EventQuery:
    """The events that a hold is about."""
    if hold.kind == "resource":
        kind, identifier = split_resource(hold.name)
        return EventQuery(resource_type=kind, resource_id=identifier, since=since, until=until)
    if hold.kind == "actor":
        return EventQuery(actor=hold.name, since=since, until=until)
    return EventQuery(tenant=hold.name, since=since, until=until)


def _start(month: str) -> datetime:
    return datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
