"""The context of the current request, task or command: one ContextVar that holds mutable objects.

A value that is set in a copied context (a synchronous FastAPI dependency runs in one) would reach neither the
endpoint nor the middleware; a change to the shared object reaches all of them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from audit_core.event import ActorType, Outcome
from audit_core.process.account import account, command

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
    logged_in: bool | None = None  # by a log-in in its course, or in vain; None where nobody tried
    tried_as: str | None = None  # who was known when a log-in failed
    tried_names: set[str] = field(default_factory=set)  # of the accounts, in small letters
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
    within: Mapping[str, Any] = field(default_factory=dict)  # {"command": "migrate"}: in the details of every event

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

    def was_kept_out(self) -> bool:
        """Whether a log-in failed, and nobody is known now who was not known then: by a token, say.

        Whoever names the account that was tried says who was kept out, and not who was let in.
        """
        if self.told.logged_in is not False:
            return False
        known = self.current_actor().id
        is_tried = self.actor is not None and known is not None and known.casefold() in self.told.tried_names
        return is_tried or known in {None, self.told.tried_as}


# Those that are entered and not left, the current one last. Blocks need not end in the order in which they began: a
# generator that is closed late takes out its own, and puts back nobody who has left meanwhile.
_entered: ContextVar[tuple[AuditContext, ...]] = ContextVar("audit_context", default=())
_OUTSIDE = AuditContext(actor=Actor(type=ActorType.SYSTEM.value))


def current() -> AuditContext:
    """The context of this request, task or command; outside of any, one that names the system as the actor."""
    return said() or _OUTSIDE


def said() -> AuditContext | None:
    """The context that somebody has entered, or that of whoever sits at the interpreter; None where nobody says."""
    if entered := _entered.get():
        return entered[-1]
    if hasattr(sys, "ps1") and threading.current_thread() is threading.main_thread():
        return of_command(command())
    return None


def of_command(name: str) -> AuditContext:
    """What the process's own account does with a command, or at a prompt."""
    return AuditContext(actor=Actor(account(), ActorType.SYSTEM.value), within={"command": name})


@contextmanager
def commanded(name: str) -> Iterator[None]:
    """In the block a command acts, where nobody has been named."""
    if said() is not None:
        yield
        return
    context = of_command(name)
    enter(context)
    try:
        yield
    finally:
        end(context)


def enter(context: AuditContext) -> None:
    """Make ``context`` the current one, until ``leave`` or ``end``."""
    _entered.set((*_entered.get(), context))


def leave(context: AuditContext) -> None:
    """It is not current any more. Does nothing where it was not entered: in another thread or task, say."""
    _entered.set(tuple([one for one in _entered.get() if one is not context]))


def end(context: AuditContext) -> None:
    """Leave it, and whatever was entered in its request or task and has not been left."""
    told = context.told
    _entered.set(tuple([one for one in _entered.get() if one.told is not told]))


class Resumed:
    """What was entered in a request is current in the block; the list then holds what of it has not been left.

    For a WSGI body: it is read piece by piece, and whoever reads it has contexts of his own in between. No generator,
    as there are several blocks for each request.
    """

    __slots__ = ("_before", "_own")

    def __init__(self, entered: list[AuditContext]) -> None:
        self._own = entered

    def __enter__(self) -> None:
        self._before = before = _entered.get()
        _entered.set((*before, *self._own))

    def __exit__(self, *error: object) -> None:
        now = _entered.get()
        there = set(map(id, now))
        kept = tuple(one for one in self._before if id(one) in there)
        _entered.set(kept)
        self._own[:] = now[len(kept) :]


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


def known_otherwise(actor: Actor) -> None:
    """He is the current request's actor, unless somebody is named, or found by the framework. For adapters."""
    if entered := _entered.get():
        context, find = entered[-1], entered[-1].find_actor
        context.find_actor = lambda: (find and find()) or actor


def log_in_tried(*, succeeded: bool, name: str | None = None) -> None:
    """Somebody tried to log in during the current request; one who succeeds makes up for all who failed. For adapters.

    Frameworks answer a wrong password with the form again, and that with status 200. ``name`` is the account's.
    """
    if entered := _entered.get():
        told = entered[-1].told
        told.logged_in = told.logged_in or succeeded
        told.tried_as = entered[-1].current_actor().id
        if name is not None:
            told.tried_names.add(name.casefold())


def set_outcome(outcome: str) -> None:
    """Say how the current request ended, where its status does not.

    Raises LookupError outside of a request, and ValueError for an outcome that there is not.
    """
    _inside().told.outcome = Outcome(outcome).value


def add_details(**details: object) -> None:
    """Add to the details of the current request's event. Raises LookupError outside of a request."""
    _inside().told.details.update(details)


class Acting:
    """Another actor for the length of a block, or of a function that it decorates; nests, and restores what was."""

    def __init__(self, actor_id: object, type: str, on_behalf_of: object) -> None:
        self._actor = _actor(actor_id, type, on_behalf_of)
        self._inner: AuditContext | None = None

    def __enter__(self) -> AuditContext:
        if self._inner is not None:
            raise RuntimeError("This actor has had its block: call trail.actor(...) again for another one.")
        outer = current()
        self._inner = replace(outer, actor=self._actor, told=outer.told if _entered.get() else Told())
        enter(self._inner)
        return self._inner

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inner is not None:
            leave(self._inner)

    def __call__(self, function: Callable[_P, _T]) -> Callable[_P, _T]:
        """Decorate a function, ``async`` or not. Raises TypeError for a generator: whoever reads it would act, too."""
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator: use `with trail.actor(...)` inside of it.")
        actor = self._actor

        @wraps(function)
        async def acts_later(*args: _P.args, **kwargs: _P.kwargs) -> Any:
            with Acting(actor.id, actor.type, actor.on_behalf_of):
                return await function(*args, **kwargs)  # type: ignore[misc]  # a coroutine function

        @wraps(function)
        def acts(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            with Acting(actor.id, actor.type, actor.on_behalf_of):
                return function(*args, **kwargs)

        return acts_later if iscoroutinefunction(function) else acts  # type: ignore[return-value]


def _inside() -> AuditContext:
    if not (entered := _entered.get()):
        raise LookupError("There is no audit context here: use `with trail.actor(...)` outside of a request.")
    return entered[-1]


def _actor(actor_id: object, type: str, on_behalf_of: object) -> Actor:
    return Actor(
        None if actor_id is None else str(actor_id),
        ActorType(type).value,
        None if on_behalf_of is None else str(on_behalf_of),
    )
