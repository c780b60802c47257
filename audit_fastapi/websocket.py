"""One WebSocket: its opening or refusal, and its end."""

from __future__ import annotations

from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocketDisconnect

from audit_core.requests.request import SocketAudit
from audit_fastapi.exchange import Exchange
from audit_fastapi.waiting import settled_anywhere

_OPENINGS = frozenset({"websocket.accept", "websocket.close", "websocket.http.response.start"})


class Socket(Exchange):
    """One WebSocket."""

    audit: SocketAudit
    make_audit = SocketAudit
    open = refused = False
    code = 1006  # RFC 6455 7.1.5: nobody said goodbye

    async def run(self, app: ASGIApp) -> None:
        """Let the application handle it, and see how it ends."""
        with self.audit:
            try:
                await app(self.scope, self.receive, self.send)
            except WebSocketDisconnect:  # the client has said goodbye
                await self._ended(None)
                raise
            except BaseException as error:
                await self._ended(error)
                raise
            await self._ended(None)

    async def _ended(self, failure: BaseException | None) -> None:
        if self.open:
            self.audit.end(self.code, failure)
        elif not self.refused:
            self.find_route()
            written = self.audit.respond(500, failure)
            if failure is None or isinstance(failure, Exception):  # a task that is cancelled must not wait
                await settled_anywhere(written)

    async def receive(self) -> Message:
        """What the client says."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.code = message.get("code") or 1005
        return message

    async def send(self, message: Message) -> None:
        """What the application answers; the handshake waits for the event."""
        if self.refused:
            return
        kind = message["type"]
        if kind in _OPENINGS and not self.open:
            self.find_route()
            status = 101 if kind == "websocket.accept" else message.get("status", 403)
            self.open = kind == "websocket.accept"  # also where it is cancelled while it waits
            if not await settled_anywhere(self.audit.respond(status)):
                self.open, self.refused = False, True
                message = {"type": "websocket.close", "code": self.audit.refuse()}
            elif kind != "websocket.close":
                message = self.with_request_id(message)
        elif kind == "websocket.close":
            self.code = message.get("code", 1000)
        await self._send(message)
