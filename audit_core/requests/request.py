"""One request, from its first line to its event. An adapter answers what its framework knows; this decides.

audit = RequestAudit(trail, method=..., path=..., ...)
with audit:                              # its context is current, its end releases everything
    ... the framework handles it, and says audit.route = Route(...)
    audit.respond(status)                # what ``Answer`` says, before the first byte of the response leaves
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from audit_core.context import Actor, AuditContext, Resumed, end, enter
from audit_core.event import AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.normalise import FIELD_LIMITS, clean_text
from audit_core.policy import Route, outcome_of, outcome_of_code

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail

_MOMENT_SECONDS = 0.001  # after which an event loop tries again to begin a request
_MARKS = "audit_core.recorded_by"  # in an ASGI scope or a WSGI environment: who records this request already
_Mark: TypeAlias = tuple[str, "AuditTrail"]
_FindActor = Callable[[], Actor | None]
_FindSession = Callable[[], str | None]
_T = TypeVar("_T")
NOT_STORED = "refused: its event could not be stored"
_TRY_AGAIN_LATER = 1013  # IANA's registry of close codes (RFC 6455 11.7)
logger = logging.getLogger("audit_core")


def is_first(carrier: MutableMapping[str, Any], framework: str, trail: AuditTrail) -> bool:
    """Whether no other middleware of this framework, around this one, records this request in the same trail.

    ``carrier`` is what belongs to the request alone and is handed down: the ASGI scope, the WSGI environment. One of
    another framework knows neither the route nor the actor of what is mounted in it.
    """
    marks: tuple[_Mark, ...] = carrier.get(_MARKS, ())
    carrier[_MARKS] = (*marks, (framework, trail))
    return (framework, trail) not in marks


def is_over(carrier: MutableMapping[str, Any], framework: str, trail: AuditTrail) -> None:
    """The first has ended: whoever hands down the same once more (to try again, say) makes another request."""
    carrier[_MARKS] = tuple([mark for mark in carrier.get(_MARKS, ()) if mark != (framework, trail)])


class _Names(NamedTuple):
    route: Route | None
    action: str
    resource: tuple[str | None, str | None]
    path: str


class RequestAudit:
    """What is recorded of one request, once. The adapter says where it was routed to, and as which method."""

    route: Route | None = None
    holds_gate = True
    _names: _Names | None = None

    def __init__(
        self,
        trail: AuditTrail,
        *,
        method: str,
        path: str,
        root: str = "",
        query: str = "",
        peer: str | None = None,
        header: Callable[[str], str | None],
        find_actor: _FindActor | None = None,
        find_session: _FindSession | None = None,
    ) -> None:
        """``header`` gives a request header by its lower-case name, several values joined with commas.

        ``root`` is where the application is mounted: it is in front of the recorded path, and patterns of the policy
        do not see it. ``find_actor`` and ``find_session`` (the session's id) are asked when an event is recorded.
        """
        self._trail, self._path, self._query = trail, path, query
        self.method = method  # an application's own middleware may make another one of it, which counts then
        self._root = root
        self._find_session = find_session
        proxies = trail.proxies
        is_trusted = proxies.trusts(peer)  # else nothing that it says of the request is looked at
        self._trace_id = proxies.trace_id(peer, header("traceparent")) if is_trusted else None
        forwarded = header(proxies.header) if is_trusted else None
        self._began = time.perf_counter()
        self._recorded = self._open = False
        self.context = AuditContext(
            find_actor=find_actor and partial(_guarded, find_actor),
            find_client=partial(_client, trail, peer, forwarded or "", header("user-agent")),
            request_id=(proxies.request_id(peer, header("x-request-id")) if is_trusted else None) or new_event_id(),
        )
        self._entered = [self.context]

    def __enter__(self) -> Self:
        self.begin()
        enter(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end(self.context)
        self.finish()

    def begin(self, *, wait: bool = True) -> bool:
        """For a WSGI body, which is read long after its application has returned: ``begin``, ``active``, ``finish``.

        Without ``wait`` it may answer that this is not the moment.
        """
        if self.holds_gate and not self._open:
            self._open = self._trail.opened(wait=wait)
        return self._open or not self.holds_gate

    async def begin_async(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """The same in an event loop, whose other requests must not wait until a commit of ours has ended.

        ``sleep`` is that loop's, where it may be another one than asyncio's.
        """
        while not self.begin(wait=False):
            await sleep(_MOMENT_SECONDS)

    def active(self) -> Resumed:
        """Its context is current inside of the block."""
        return Resumed(self._entered)

    def finish(self) -> None:
        """Nothing of the application runs for this request any more. May be called again."""
        if self._open:
            self._open = False
            self._trail.closed()
        self.context.settle_actor()
        self._find_session = None

    def respond(self, status: int, error: BaseException | None = None) -> Future[AuditEvent] | None:
        """Record the request's event: how it ends is known. None when it leaves none, or nobody waits for it."""
        outcome = self._outcome(status, error)
        if self._recorded or not self._trail.policy.audits(self.method, self._path, self.route, outcome):
            return None
        self._recorded = True
        return self._submit(self._named.action, outcome, {**self._how_it_went(status, error), "method": self.method})

    def raise_(self, error: BaseException) -> Future[AuditEvent] | None:
        """The application raised, before its response or in the midst of it."""
        return self.break_off(type_of(error)) if self._recorded else self.respond(500, error)

    def break_off(self, why: str, **details: object) -> Future[AuditEvent] | None:
        """The response did not go as its event says: a second one tells how."""
        if not self._recorded:
            return None
        details = {"method": self.method, "path": self._named.path, "reason": why, **details}
        return self._submit("response.broken", Outcome.FAILURE, details)

    def _outcome(self, status: int, error: BaseException | None) -> str:
        """What the handler said, unless it failed after that; a log-in in vain is denied, whatever its status."""
        if error is not None or status >= 500:
            return Outcome.FAILURE
        said = self.context.told.outcome
        return said or (Outcome.DENIED if self.context.was_kept_out() else outcome_of(status))

    def _how_it_went(self, status: int, error: BaseException | None) -> dict[str, Any]:
        return {
            **self.context.told.details,  # what was observed goes over what was said
            "path": self._named.path,
            "status": status,
            "duration_ms": self._elapsed(),
            **({"query": self._trail.redactor.query(self._query)} if self._query else {}),
            **({"trace_id": self._trace_id} if self._trace_id else {}),
            **({"exception": type_of(error)} if error is not None else {}),
        }

    @property
    def _named(self) -> _Names:
        """What the policy calls it where it was routed to, without the secrets that the route has as parameters."""
        if self._names is None or self._names.route is not self.route:
            self._names = self._name()
        return self._names

    def _name(self) -> _Names:
        policy, redactor, route = self._trail.policy, self._trail.redactor, self.route
        action, kind, identifier = policy.name(self.method, route)
        if route is None:
            return _Names(None, action, (None, None), redactor.path(self._path, self._root))
        path = redactor.routed_path(self._path, route.template, route.parameters, self._root, kind)
        parameters = redactor.parameters(route.parameters, kind, route.template)
        if parameters != route.parameters:
            _, kind, identifier = policy.name(self.method, route._replace(parameters=parameters))
        return _Names(route, action, (kind, identifier), path)

    def _elapsed(self) -> int:
        return round((time.perf_counter() - self._began) * 1000)

    def _submit(self, action: str, outcome: str, details: dict[str, Any]) -> Future[AuditEvent] | None:
        if self.context.session_id is None and self._find_session and (session := _guarded(self._find_session)):
            self.context.session_id = self._trail.redactor.keyed_hash(session)
        future = self._trail.submit(
            action, resource=self._named.resource, outcome=outcome, details=details, context=self.context
        )
        return future if self._trail.durable else None


class SocketAudit(RequestAudit):
    """What is recorded of one WebSocket: its opening or refusal, and its end.

    It may stay open for days, so it does not keep others from writing.
    """

    holds_gate = False

    def respond(self, status: int = 101, error: BaseException | None = None) -> Future[AuditEvent] | None:
        """It is accepted, or refused with another status."""
        if self._recorded or self._trail.policy.skips(self._path):
            return None
        self._recorded = True
        details = self._how_it_went(status, error)
        outcome = self._outcome(status, error)
        self.context.told.outcome = None  # that was of the opening
        return self._submit("websocket.open", outcome, self._with_route(details))

    def end(self, code: int, error: BaseException | None = None, *, said_here: bool = False) -> None:
        """It was open, and has ended with this code (RFC 6455 7.4), which the application said or somebody else."""
        if error is not None:
            self._close(code, Outcome.FAILURE, exception=type_of(error))
            return
        by_code = outcome_of_code(code, said_here=said_here)
        self._close(code, by_code if by_code == Outcome.FAILURE else self.context.told.outcome or by_code)

    def refuse(self) -> int:
        """Its opening is kept, but durable nowhere: it is closed with this code, and a second event says so."""
        self._close(_TRY_AGAIN_LATER, Outcome.FAILURE, reason=NOT_STORED)
        return _TRY_AGAIN_LATER

    def _close(self, code: int, outcome: str, **more: object) -> None:
        if self._recorded:
            details = {"path": self._named.path, "code": code, "duration_ms": self._elapsed(), **more}
            self._submit("websocket.close", outcome, self._with_route(details))

    def _with_route(self, details: dict[str, Any]) -> dict[str, Any]:
        return details if self.route is None else {"route": self.route.template, **details}


def _client(
    trail: AuditTrail, peer: str | None, forwarded: str, user_agent: str | None
) -> tuple[str | None, str | None]:
    """Its address, and what it calls itself: anything. That is cut first, since redacting takes as long as the text."""
    if user_agent is not None:
        user_agent = trail.redactor.user_agent(clean_text(user_agent, FIELD_LIMITS["user_agent"]))
    return trail.proxies.client(peer, forwarded), user_agent


def type_of(error: BaseException) -> str:
    """The exception's type; of a task group that wraps a single one, that one's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return type(error).__qualname__


def _guarded(find: Callable[[], _T | None]) -> _T | None:
    """What goes wrong in an application's user object must not break its request."""
    try:
        return find()
    except Exception:
        logger.exception("The actor or session of a request cannot be found.")
        return None
