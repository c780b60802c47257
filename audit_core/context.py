"""The context of the current request: one ContextVar that holds one mutable object.

A value that is set in a copied context (a synchronous FastAPI dependency runs in one) would reach neither the
endpoint nor the middleware; a change to the shared object reaches all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from typing import Any

from audit_core.event import ActorType, Outcome


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, and for whom."""

    id: str | None = None
    type: str = ActorType.ANONYMOUS.value
    on_behalf_of: str | None = None


@dataclass(slots=True)
class Told:
    """What is told of the request itself, whoever acts in it meanwhile: by the application, and that it has ended."""

    outcome: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    ended: bool = False


@dataclass(slots=True)
class AuditContext:
    """What every event of the current request shares. Who and from where is asked when an event is recorded."""

    actor: Actor | None = None
    find_actor: Callable[[], Actor | None] | None = None
    find_client: Callable[[], tuple[str | None, str | None]] | None = None  # the address and the user agent
    tenant_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    session_id: str | None = None
    told: Told = field(default_factory=Told)

    def current_actor(self) -> Actor:
        """Whom the application named, else whom the framework knows by now, else nobody."""
        if self.actor is not None:
            return self.actor
        found = self.find_actor() if self.find_actor else None
        return found or Actor()

    def settle_client(self) -> None:
        """From where is known from now on: most requests leave no event, and need not know it."""
        if (find := self.find_client) is not None:
            self.ip_address, self.user_agent = find()
            self.find_client = None

    def settle_actor(self) -> None:
        """The request ends: who it was stays known to what it has started, and the request itself is let go.

        A request that were kept by its own context would have to wait for the garbage collector, which then stops
        all the others.
        """
        self.told.ended = True
        find, self.find_actor = self.find_actor, None
        if self.actor is None and find is not None:
            self.actor = find()


_current: ContextVar[AuditContext | None] = ContextVar("audit_context", default=None)
_OUTSIDE = AuditContext(actor=Actor(type=ActorType.SYSTEM.value))


def current() -> AuditContext:
    """The context of this request or task; outside of any, one that names the system as the actor."""
    return _current.get() or _OUTSIDE


def said() -> AuditContext | None:
    """The context that somebody has entered; None outside of any."""
    return _current.get()


def enter(context: AuditContext) -> Token[AuditContext | None]:
    """Make ``context`` the current one; ``leave`` undoes it."""
    return _current.set(context)


def leave(token: Token[AuditContext | None]) -> None:
    """Put back what was current before ``enter``."""
    with suppress(ValueError):  # closed in another context than it was opened in: that one has nothing of ours
        _current.reset(token)


def set_actor(
    actor_id: object, *, type: str = ActorType.USER, on_behalf_of: object = None, tenant_id: object = None
) -> None:
    """Name the actor of the current request and his tenant, from wherever the application learns it.

    Raises LookupError outside of a request (``with trail.actor(...)`` is for there), and ValueError for a type of actor
    that there is not.
    """
    context = _inside()
    actor, before = _actor(actor_id, type, on_behalf_of), context.actor
    if tenant_id is not None or (before is not None and before.id != actor.id):  # another one is not in his tenant
        context.tenant_id = None if tenant_id is None else str(tenant_id)
    context.actor = actor


def set_outcome(outcome: str) -> None:
    """Say how the current request ended, where its status does not.

    Raises LookupError outside of a request, and ValueError for an outcome that there is not.
    """
    _inside().told.outcome = Outcome(outcome).value


def add_details(**details: object) -> None:
    """Add to the details of the current request's event. Raises LookupError outside of a request."""
    _inside().told.details.update(details)


@contextmanager
def acting(actor_id: object, type: str, on_behalf_of: object) -> Iterator[AuditContext]:
    """Another actor for the length of a block; nests, and restores what was."""
    outer = current()
    inner = replace(outer, actor=_actor(actor_id, type, on_behalf_of), told=Told() if outer is _OUTSIDE else outer.told)
    token = enter(inner)
    try:
        yield inner
    finally:
        leave(token)


def _inside() -> AuditContext:
    if (context := _current.get()) is None:
        raise LookupError("There is no audit context here: use `with trail.actor(...)` outside of a request.")
    return context


def _actor(actor_id: object, type: str, on_behalf_of: object) -> Actor:
    return Actor(
        None if actor_id is None else str(actor_id),
        ActorType(type).value,
        None if on_behalf_of is None else str(on_behalf_of),
    )
