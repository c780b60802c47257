"""One WebSocket: its opening or refusal, and its end."""

from __future__ import annotations

from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocketDisconnect

from audit_core.requests.request import SocketAudit
from audit_fastapi.exchange import Exchange
from audit_fastapi.waiting import settled_anywhere

_NORMAL, _NO_CODE, _NO_GOODBYE = 1000, 1005, 1006  # RFC 6455 7.4.1
_OPENINGS = frozenset({"websocket.accept", "websocket.close", "websocket.http.response.start"})


class Socket(Exchange):
    """One WebSocket."""

    audit: SocketAudit
    make_audit = SocketAudit
    open = refused = said_here = False
    code: int | None = None  # of whoever said goodbye first

    async def run(self, app: ASGIApp) -> None:
        """Let the application handle it, and see how it ends."""
        with self.audit:
            try:
                await app(self.scope, self.receive, self.send)
            except BaseException as error:
                await self._ended(None if _is_goodbye(error) else error)
                raise
            await self._ended(None)

    async def _ended(self, failure: BaseException | None) -> None:
        if self.open:
            self.audit.end(self.code or _NO_GOODBYE, failure, said_here=self.said_here)
        elif not self.refused:
            self.find_route()
            written = self.audit.respond(500, failure)
            if failure is None or isinstance(failure, Exception):  # a task that is cancelled must not wait
                await settled_anywhere(written)

    async def receive(self) -> Message:
        """What the client says."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.code = self.code or message.get("code") or _NO_CODE
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
            await self._say_goodbye(message)
            return
        await self._send(message)

    async def _say_goodbye(self, message: Message) -> None:
        """The first code counts; not one that nobody has heard, nor another that Hypercorn tells of meanwhile."""
        says_first = self.code is None
        if says_first:
            self.code, self.said_here = message.get("code") or _NORMAL, True
        try:
            await self._send(message)
        except Exception:
            if says_first:  # nobody has heard it
                self.code, self.said_here = None, False
            raise


def _is_goodbye(error: BaseException) -> bool:
    """Whether the client's goodbye is all that it says, also where several tasks have heard it."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_goodbye, error.exceptions))
    return isinstance(error, WebSocketDisconnect)
