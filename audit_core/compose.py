"""From what happened to an event: context filled in, normalised, redacted, cut to size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from audit_core.clean import clean
from audit_core.context import AuditContext
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import DETAILS_BUDGET, fit, normal_deed, normal_surroundings
from audit_core.redaction import Redactor

Resource = tuple[str | None, object] | str | None  # ("invoice", 42) or "invoice:42"
Deed = tuple[str, Resource, str, Mapping[str, Any]]  # action, resource, outcome, details


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
    deed = (action, resource, outcome, {} if details is None else details)
    return compose_all([deed], context=context, source=source, redactor=redactor)[0]


def compose_all(
    deeds: Iterable[Deed], *, context: AuditContext, source: str | None, redactor: Redactor
) -> list[AuditEvent]:
    """The events of what happens now, all in one context, which is asked once."""
    context.settle_client()
    actor = context.current_actor()
    surroundings = normal_surroundings(
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
    within: Any = clean(dict(context.within)) if context.within else {}
    return [_event(deed, surroundings, redactor, within, ended=context.told.ended) for deed in deeds]


def _event(
    deed: Deed, surroundings: dict[str, Any], redactor: Redactor, within: dict[str, Any], *, ended: bool
) -> AuditEvent:
    action, resource, outcome, details = deed
    kind, identifier = split_resource(resource)
    fields = normal_deed(action, kind, identifier, Outcome(outcome).value, details)
    if within:  # under what the application says by the same name
        fields["details"] = {**within, **fields["details"]}
    if ended:  # a task that the request has started and that lives on acts for an actor who has left
        fields["details"]["after_request"] = True
    if fields["resource_id"] is not None:
        fields["resource_id"] = redactor.identifier(fields["resource_id"], fields["resource_type"])
    fields["details"] = fit(redactor.details(fields["details"], fields["resource_type"]), DETAILS_BUDGET)
    return AuditEvent(event_id=new_event_id(), timestamp=datetime.now(UTC), **fields, **surroundings)


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
