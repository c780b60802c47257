"""One HTTP request: what ASGI knows of it, told to the core."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit_core import AuditTrail
from audit_core.context import Actor
from audit_core.requests.actors import actor_of
from audit_core.requests.answer import REQUEST_ID_HEADER, Answer
from audit_core.requests.request import RequestAudit
from audit_fastapi.routing import route_of
from audit_fastapi.waiting import settled_anywhere

_BODIES = frozenset({"http.response.body", "http.response.zerocopysend", "http.response.pathsend"})
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()


class Exchange:
    """What requests and WebSockets have in common."""

    audit: RequestAudit
    make_audit = RequestAudit

    def __init__(self, trail: AuditTrail, scope: Scope, receive: Receive, send: Send, root_path: str) -> None:
        self.scope, self._receive, self._send, self.root_path = scope, receive, send, root_path
        self.audit = self.make_audit(
            trail,
            method=scope.get("method", "GET"),
            path=_below(scope["path"], self.root_path),
            root=self.root_path,
            query=scope.get("query_string", b"").decode("latin-1"),
            peer=str(scope["client"][0]) if scope.get("client") else None,
            header=self._header,
            find_actor=self._actor,
            find_session=lambda: getattr(scope.get("session"), "session_id", None),
        )
        self.answer = Answer(self.audit)

    def find_route(self) -> None:
        """Ask where the request was routed, and as what, now that its answer is there."""
        self.audit.method = self.scope.get("method", self.audit.method)
        self.audit.route = route_of(self.scope, self.root_path)

    def with_request_id(self, message: Message) -> Message:
        """The message with our header, unless the application has set it."""
        headers = list(message.get("headers", ()))
        if _REQUEST_ID in [name.lower() for name, _ in headers]:
            return message
        headers.append((_REQUEST_ID, str(self.audit.context.request_id).encode()))
        return {**message, "headers": headers}

    def _header(self, name: str) -> str | None:
        wanted = name.encode()
        values = [value for key, value in self.scope.get("headers", ()) if key == wanted]
        return b", ".join(values).decode("latin-1") if values else None

    def _actor(self) -> Actor | None:
        state: Any = self.scope.get("state") or {}
        return actor_of(self.scope.get("user")) or actor_of(state.get("user"))


class Request(Exchange):
    """One HTTP request."""

    gone = False

    async def run(self, app: ASGIApp) -> None:
        """Let the application handle it, and see how it ends."""
        if not self.audit.begin(wait=False):  # nearly always it may: no coroutine for that
            await self.audit.begin_async(anyio.sleep)
        with self.audit:
            try:
                await app(self.scope, self.receive, self.send)
            except BaseException as error:
                await self._raised(error)
                raise
            if not self.answer.started:  # the server answers with an error of its own
                await self._start(500)
            elif written := self.answer.close(is_client_gone=self.gone):
                await settled_anywhere(written)

    async def receive(self) -> Message:
        """What the server tells the application."""
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """What the application answers; its first byte waits for the event."""
        if message["type"] == "http.response.start" and not self.answer.started:
            await self._start(message["status"])
            message = self.with_request_id(message)
        if self.answer.refused:
            return
        was_gone = self.gone
        await self._send(message)
        # BaseHTTPMiddleware ends a response also when its client has left in the midst of it.
        if message["type"] in _BODIES and not message.get("more_body", False) and not was_gone:
            self.answer.end()

    async def _start(self, status: int) -> None:
        self.find_route()
        if (written := self.answer.start(status)) and not await settled_anywhere(written):
            await self._refuse()

    async def _raised(self, error: BaseException) -> None:
        was_started = self.answer.started
        if not self.answer.ended:
            self.find_route()
        written = self.answer.fail(error)
        if not isinstance(error, Exception):  # a task that is cancelled must not wait: the writer has the event
            return
        with suppress(anyio.get_cancelled_exc_class()):  # nor take the application's error away
            if not await settled_anywhere(written) and not was_started:
                await self._refuse()

    async def _refuse(self) -> None:
        status, headers, body = self.answer.refuse()
        await self._send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
        await self._send({"type": "http.response.body", "body": body})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def _below(path: str, root_path: str) -> str:
    """The path that the application's routes see."""
    if not root_path:
        return path
    below = path.removeprefix(root_path)
    return below if below.startswith("/") else path
