"""The end of an ASGI server: its process dies of the signal that stopped it, before anything else could seal.

Django refuses the ASGI lifespan; with this it takes part in it, and has nothing else to do there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from typing import Any

from django.core.handlers.asgi import ASGIHandler

from audit_django.trail import close_trail

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def install() -> None:
    """Answer the lifespan, from now on. May be repeated."""
    original: Any = ASGIHandler.__call__
    if hasattr(original, "__audit__"):
        return

    @wraps(original)
    async def call(self: ASGIHandler, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            await original(self, scope, receive, send)

    call.__audit__ = True  # type: ignore[attr-defined]
    ASGIHandler.__call__ = call  # type: ignore[assignment,method-assign]


async def _live(receive: Receive, send: Send) -> None:
    message = await receive()
    while message["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
        message = await receive()
    await asyncio.to_thread(close_trail)
    await send({"type": "lifespan.shutdown.complete"})
