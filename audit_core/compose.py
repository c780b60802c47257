"""From what happened to an event: context filled in, normalised, redacted, cut to size."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from audit_core.context import AuditContext
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import DETAILS_BUDGET, fit, normalise
from audit_core.redaction import Redactor

Resource = tuple[str | None, object] | str | None  # ("invoice", 42) or "invoice:42"


def compose(
    action: str,
    resource: Resource,
    outcome: str,
    details: Mapping[str, Any] | None,
    *,
    context: AuditContext,
    source: str | None,
    redactor: Redactor,
) -> AuditEvent:
    """The event of what happens now. Whatever the values are, it can be sealed.

    Raises ValueError for an outcome or an actor type that there is not.
    """
    actor = context.current_actor()
    kind, identifier = split_resource(resource)
    fields = normalise(
        action=action,
        actor_id=actor.id,
        actor_type=ActorType(actor.type).value,
        on_behalf_of=actor.on_behalf_of,
        tenant_id=context.tenant_id,
        resource_type=kind,
        resource_id=identifier,
        outcome=Outcome(outcome).value,
        details=details or {},
        source=source,
        ip_address=context.ip_address,
        user_agent=context.user_agent,
        request_id=context.request_id,
        session_id=context.session_id,
    )
    if context.told.ended:  # a task that the request has started and that lives on acts for an actor who has left
        fields["details"]["after_request"] = True
    if fields["resource_id"] is not None:
        fields["resource_id"] = redactor.identifier(fields["resource_id"], fields["resource_type"])
    fields["details"] = fit(redactor.details(fields["details"], fields["resource_type"]), DETAILS_BUDGET)
    return AuditEvent(event_id=new_event_id(), timestamp=datetime.now(UTC), **fields)


def split_resource(resource: Resource) -> tuple[str | None, object]:
    """The type and the id of a resource, however it is written."""
    if isinstance(resource, str):
        kind, _, identifier = resource.partition(":")
        return kind, identifier or None
    return (None, None) if resource is None else resource
