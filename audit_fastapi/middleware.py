"""The ASGI middleware for FastAPI and Starlette."""

from __future__ import annotations

import sys
from typing import Any

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit_core import AuditTrail
from audit_core.requests.checks import checked_trail
from audit_core.requests.request import is_first, is_over
from audit_fastapi.exchange import Request
from audit_fastapi.websocket import Socket

_FRAMEWORK = "starlette"
_DEEPEST = 32  # middlewares, one around the other
_EXCHANGES: dict[str, type[Request | Socket]] = {"http": Request, "websocket": Socket}


class AuditMiddleware:
    """Records every request, before the first byte of its response leaves.

    At the end of the application's lifespan it closes the trail, so that what waits is sealed. Raises
    ConfigurationError for a trail that is none.
    """

    def __init__(self, app: ASGIApp, trail: AuditTrail) -> None:
        self.app = app
        self.trail = checked_trail(trail)
        self._root_path = _own_root_path(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI scope: a request, a WebSocket, or the application's life."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif (exchange := _EXCHANGES.get(scope["type"])) and is_first(scope, _FRAMEWORK, self.trail):
            try:
                root_path = self._root_path or scope.get("root_path", "")
                await exchange(self.trail, scope, receive, send, root_path).run(self.app)
            finally:
                is_over(scope, _FRAMEWORK, self.trail)
        else:
            await self.app(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                try:
                    await anyio.to_thread.run_sync(self.trail.close)
                finally:
                    await send(message)
            else:
                await send(message)

        await self.app(scope, receive, closing)


def _own_root_path(app: Any) -> str:
    """That of a FastAPI application that this middleware is around, which sets it over the server's; else ""."""
    fastapi = sys.modules.get("fastapi")
    for _ in range(_DEEPEST):
        if fastapi is not None and isinstance(app, fastapi.FastAPI):
            return str(app.root_path)
        app = getattr(app, "app", None)
    return ""
