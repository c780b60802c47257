"""One request, from its first line to its event. An adapter answers what its framework knows; this decides.

audit = RequestAudit(trail, method=..., path=..., ...)
with audit:                              # its context is current, its end releases everything
    ... the framework handles it, and says audit.route = Route(...)
    await or wait for audit.respond(status)      # before the first byte of the response leaves
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from audit_core.context import Actor, AuditContext, current, enter, leave
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.identity import new_event_id
from audit_core.policy import Route, outcome_of

if TYPE_CHECKING:
    from audit_core.trail import AuditTrail

REQUEST_ID_HEADER = "X-Request-ID"
MOMENT_SECONDS = 0.001  # after which an event loop tries again to begin a request
REFUSED_STATUS = 503  # the answer where an event must be durable and cannot be
REFUSED_BODY = b"The audit trail cannot record this request. Try again later.\n"
_ID_NAMES = ("pk", "id", "identity", "username", "display_name", "get_id")
_ADMIN_NAMES = ("is_superuser", "is_staff", "is_admin")
_FindActor = Callable[[], Actor | None]
_FindSession = Callable[[], str | None]
_T = TypeVar("_T")
logger = logging.getLogger("audit_core")


class RequestAudit:
    """What is recorded of one request, once."""

    route: Route | None = None
    holds_gate = True

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
        self._trail, self._method, self._path, self._query = trail, method, path, query
        self._root = root
        self._find_session = find_session
        self._trace_id = trail.proxies.trace_id(peer, header("traceparent"))
        self._began = time.perf_counter()
        self._recorded = self._open = False
        self._token: Token[AuditContext | None] | None = None
        self.context = AuditContext(
            find_actor=find_actor and _guarded(find_actor),
            ip_address=trail.proxies.client(peer, header("x-forwarded-for") or ""),
            user_agent=header("user-agent"),
            request_id=trail.proxies.request_id(peer, header("x-request-id")) or new_event_id(),
        )

    def __enter__(self) -> Self:
        self.begin()
        self._token = enter(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None and current() is self.context:  # else this is another thread, at work for another request
            leave(token)
        self.finish()

    def begin(self, *, wait: bool = True) -> bool:
        """For a WSGI body, which is read long after its application has returned: ``begin``, ``active``, ``finish``.

        Without ``wait`` it may answer that this is not the moment: an event loop tries again.
        """
        if self.holds_gate and not self._open:
            self._open = self._trail.opened(wait=wait)
        return self._open or not self.holds_gate

    @contextmanager
    def active(self) -> Iterator[None]:
        """Its context is current inside of the block."""
        token = enter(self.context)
        try:
            yield
        finally:
            leave(token)

    def finish(self) -> None:
        """Nothing of the application runs for this request any more. May be called again."""
        if self._open:
            self._open = False
            self._trail.closed()
        self.context.settle_actor()
        self._find_session = None

    def respond(self, status: int, error: BaseException | None = None) -> Future[AuditEvent] | None:
        """Record the request's event: how it ends is known. None when it leaves none."""
        outcome = self.context.outcome or outcome_of(status)
        if self._recorded or not self._trail.policy.audits(self._method, self._path, self.route, outcome):
            return None
        self._recorded = True
        action, _, _ = self._trail.policy.name(self._method, self.route)
        return self._submit(action, outcome, {"method": self._method, **self._how_it_went(status, error)})

    def raise_(self, error: BaseException, *, answered: bool = False) -> Future[AuditEvent] | None:
        """The application raised: before its response, in the midst of it, or (``answered``) when it had ended."""
        if self._recorded or answered:
            return self.break_off(_type_of(error) + (" after the response" if answered else ""))
        return self.respond(500, error)

    def break_off(self, why: str) -> Future[AuditEvent] | None:
        """The response began, and did not end as it should: a second event says so."""
        if not self._recorded:
            return None
        details = {"method": self._method, "path": self._root + self._path, "reason": why}
        return self._submit("response.broken", Outcome.FAILURE, details)

    def _how_it_went(self, status: int, error: BaseException | None) -> dict[str, Any]:
        return {
            "path": self._root + self._path,
            "status": status,
            "duration_ms": self._elapsed(),
            **({"query": self._trail.redactor.query(self._query)} if self._query else {}),
            **({"trace_id": self._trace_id} if self._trace_id else {}),
            **({"exception": _type_of(error)} if error is not None else {}),
            **self.context.details,
        }

    def _elapsed(self) -> int:
        return round((time.perf_counter() - self._began) * 1000)

    def _submit(self, action: str, outcome: str, details: dict[str, Any]) -> Future[AuditEvent]:
        _, kind, identifier = self._trail.policy.name(self._method, self.route)
        if self.context.session_id is None and self._find_session and (session := _guarded(self._find_session)()):
            self.context.session_id = self._trail.redactor.keyed_hash(session)
        return self._trail.submit(
            action, resource=(kind, identifier), outcome=outcome, details=details, context=self.context
        )


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
        return self._submit("websocket.open", self.context.outcome or outcome_of(status), self._with_route(details))

    def end(self, code: int, error: BaseException | None = None) -> Future[AuditEvent] | None:
        """It was open, and has ended with this code (RFC 6455 7.4)."""
        if not self._recorded:
            return None
        details: dict[str, Any] = {
            "path": self._root + self._path,
            "code": code,
            "duration_ms": self._elapsed(),
            **({"exception": _type_of(error)} if error is not None else {}),
        }
        outcome = Outcome.SUCCESS if error is None else Outcome.FAILURE
        return self._submit("websocket.close", outcome, self._with_route(details))

    def _with_route(self, details: dict[str, Any]) -> dict[str, Any]:
        return details if self.route is None else {"route": self.route.template, **details}


def _type_of(error: BaseException) -> str:
    """The exception's type; of a task group that wraps a single one, that one's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return type(error).__qualname__


def actor_of(user: object) -> Actor | None:
    """The actor of a framework's user object, by the attributes that all of them share; None if not logged in."""
    state: Any = getattr(user, "_sa_instance_state", None)
    if state is not None and state.expired_attributes and (identity := state.identity):  # to read it would be a query
        return Actor("/".join(map(str, identity)), ActorType.ADMIN if _is_admin(vars(user)) else ActorType.USER)
    if isinstance(user, str | int) and not isinstance(user, bool):
        return Actor(str(user), ActorType.USER) if user != "" else None
    authenticated = _attribute(user, "is_authenticated")
    if user is None or (authenticated is not None and not authenticated):
        return None
    found = next((value for name in _ID_NAMES if (value := _attribute(user, name)) is not None and value != ""), None)
    return None if found is None else Actor(str(found), ActorType.ADMIN if _is_admin(user) else ActorType.USER)


def _is_admin(user: object) -> bool:
    return any(_attribute(user, name) for name in _ADMIN_NAMES)


def _attribute(user: object, name: str) -> Any:
    """One attribute or item of a user, called if it is a method; None where there is none."""
    try:
        is_row = hasattr(type(user), "keys") and hasattr(type(user), "__getitem__")  # a dict, a sqlite3.Row
        value = user[name] if is_row else getattr(user, name, None)  # type: ignore[index]
        return value() if callable(value) else value
    except Exception:  # noqa: BLE001 - Starlette's `identity` raises NotImplementedError; a row has no such key
        return None


def _guarded(find: Callable[[], _T | None]) -> Callable[[], _T | None]:
    """What goes wrong in an application's user object must not break its request."""

    def found() -> _T | None:
        try:
            return find()
        except Exception:
            logger.exception("The actor or session of a request cannot be found.")
            return None

    return found
