"""From what happened to an event: context filled in, normalised, redacted, cut to size."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from audit_core.clean import clean
from audit_core.context import AuditContext
from audit_core.errors import ConfigurationError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import DETAILS_BUDGET, clean_text, fit, normal_deed, normal_surroundings
from audit_core.private import ROOM, make_salts
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

    Raises ValueError for an outcome or an actor type that there is not, and for a resource that is none.
    """
    surroundings = surroundings_of(context, source)
    kind, identifier = split_resource(resource)
    fields = normal_deed(action, kind, identifier, Outcome(outcome).value, {} if details is None else details)
    fields["details"] = {**within(context), **fields["details"]}
    if context.told.ended:  # a task that the request has started and that lives on acts for an actor who has left
        fields["details"]["after_request"] = True
    if fields["resource_id"] is not None:
        fields["resource_id"] = redactor.identifier(fields["resource_id"], fields["resource_type"])
    budget = DETAILS_BUDGET - ROOM if redactor.erasable else DETAILS_BUDGET
    fields["details"] = fit(redactor.details(fields["details"], fields["resource_type"]), budget)
    fields |= surroundings
    if redactor.erasable:
        fields["salts"] = salts_of(fields, redactor)
    return AuditEvent(event_id=new_event_id(), timestamp=datetime.now(UTC), **fields)


def salts_of(fields: Mapping[str, Any], redactor: Redactor) -> dict[str, str]:
    """A salt for each value of an event that is kept outside of its record."""
    return make_salts(fields, partial(redactor.is_private, resource_type=fields["resource_type"]))


def surroundings_of(context: AuditContext, source: str | None) -> dict[str, Any]:
    """Who acts, and from where: the fields that all events of one moment share."""
    context.settle_client()
    actor = context.current_actor()
    return normal_surroundings(
        actor_id=actor.id,
        actor_type=ActorType(actor.type).value,
        on_behalf_of=actor.on_behalf_of,
        tenant_id=context.tenant_id,
        source=source,
        ip_address=context.ip_address,
        user_agent=context.user_agent,
        request_id=context.request_id,
        session_id=context.session_id,
    )


def within(context: AuditContext) -> dict[str, Any]:
    """Details that all events of this context have, under what the event itself says by the same name."""
    cleaned: Any = clean(dict(context.within)) if context.within else {}
    return cleaned  # type: ignore[no-any-return]


def split_resource(resource: Resource) -> tuple[str | None, object]:
    """The type and the id of a resource, however it is written. Raises ValueError for what is none."""
    if isinstance(resource, str):
        kind, _, identifier = resource.partition(":")
        return kind, identifier or None
    if resource is None:
        return None, None
    if not isinstance(resource, tuple | list) or len(resource) != 2:
        raise ValueError(f'A resource is ("invoice", "42") or "invoice:42", and not this {type(resource).__name__}.')
    return resource[0], resource[1]


def whole_resource(resource: Resource) -> tuple[str, str]:
    """Its type and id. Raises ConfigurationError where one of the two is missing."""
    kind, identifier = split_resource(resource)
    if not kind or identifier is None:
        raise ConfigurationError('Say which resource: ("patient", "7"), or "patient:7".')
    return kind, clean_text(identifier)
