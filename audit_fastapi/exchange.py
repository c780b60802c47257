"""One HTTP request: what ASGI knows of it, told to the core."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit_core import AuditEvent, AuditTrail
from audit_core.context import Actor
from audit_core.errors import StoreUnavailableError
from audit_core.requests import MOMENT_SECONDS, REFUSED_BODY, REFUSED_STATUS, REQUEST_ID_HEADER, RequestAudit, actor_of
from audit_fastapi.routing import route_of

_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_BODIES = frozenset({"http.response.body", "http.response.zerocopysend", "http.response.pathsend"})


class Exchange:
    """What requests and WebSockets have in common."""

    audit: RequestAudit
    make_audit = RequestAudit

    def __init__(self, trail: AuditTrail, scope: Scope, receive: Receive, send: Send) -> None:
        self.trail, self.scope, self._receive, self._send = trail, scope, receive, send
        self.root_path: str = scope.get("root_path", "")
        self.refused = False
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

    async def recorded(self, future: Future[AuditEvent] | None) -> None:
        """Wait for the event, if there is one to wait for. A client that goes away takes nothing along."""
        if future is not None and self.trail.durable:
            await asyncio.shield(asyncio.wrap_future(future))

    def find_route(self) -> None:
        """Ask where the request was routed, now that its answer is there."""
        self.audit.route = route_of(self.scope, self.root_path)

    def with_request_id(self, message: Message) -> Message:
        """The message with our header, unless the application has set it."""
        headers = list(message.get("headers", ()))
        if any(bytes(name).lower() == _REQUEST_ID for name, _ in headers):
            return message
        return {**message, "headers": [*headers, (_REQUEST_ID, str(self.audit.context.request_id).encode())]}

    def _header(self, name: str) -> str | None:
        wanted = name.encode()
        values = [value.decode("latin-1") for key, value in self.scope["headers"] if key == wanted]
        return ", ".join(values) if values else None

    def _actor(self) -> Actor | None:
        state: Any = self.scope.get("state") or {}
        return actor_of(self.scope.get("user")) or actor_of(state.get("user"))


class Request(Exchange):
    """One HTTP request."""

    started = ended = gone = False
    status = 500

    async def run(self, app: ASGIApp) -> None:
        """Let the application handle it, and see how it ends."""
        # Other requests must not wait with this one until a commit of ours has ended.
        while not self.audit.begin(wait=False):  # noqa: ASYNC110 - it may be another process that commits
            await asyncio.sleep(MOMENT_SECONDS)
        with self.audit:
            try:
                await app(self.scope, self.receive, self.send)
            except BaseException as error:
                await self._raised(error)
                raise
            if not self.started:  # the server answers with an error of its own
                self.find_route()
                await self._settle(self.audit.respond(500))
            elif not self.ended:
                await self._settle(self.audit.break_off("client disconnected" if self.gone else "not completed"))

    async def receive(self) -> Message:
        """What the server tells the application."""
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """What the application answers; its first byte waits for the event."""
        if message["type"] == "http.response.start" and not self.started:
            self.status = message["status"]
            self.find_route()
            await self._settle(self.audit.respond(self.status))
            self.started = True
            message = self.with_request_id(message)
        if self.refused:
            return
        await self._send(message)
        if message["type"] in _BODIES and not message.get("more_body", False):
            self.ended = True

    async def _raised(self, error: BaseException) -> None:
        if not self.ended:
            self.find_route()
            future = self.audit.raise_(error)
        elif self.status < 500:  # a background task; a server error is raised again after its response
            future = self.audit.raise_(error, answered=True)
        else:
            return
        if isinstance(error, Exception):  # a task that is cancelled must not wait: the writer has the event
            await self._settle(future)

    async def _settle(self, future: Future[AuditEvent] | None) -> None:
        """Wait for the event; where it is durable nowhere, nothing of the application's response leaves."""
        try:
            await self.recorded(future)
        except StoreUnavailableError:
            if not self.started:
                await self._refuse()

    async def _refuse(self) -> None:
        self.refused = self.started = self.ended = True
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(REFUSED_BODY)).encode())]
        start = {"type": "http.response.start", "status": REFUSED_STATUS, "headers": headers}
        await self._send(self.with_request_id(start))
        await self._send({"type": "http.response.body", "body": REFUSED_BODY})


def _below(path: str, root_path: str) -> str:
    """The path that the application's routes see."""
    below = path.removeprefix(root_path)
    return below if below.startswith("/") else path
