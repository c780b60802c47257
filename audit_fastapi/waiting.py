"""Waiting in whichever event loop Starlette runs in, which may be Trio's: of asyncio it takes only what it needs."""

from __future__ import annotations

import asyncio

import anyio.to_thread

from audit_core.requests import answer
from audit_core.requests.answer import Written


async def settled(written: Written) -> bool:
    """Whether the event is durable, once that is known."""
    if written is None or _is_asyncio():
        return await answer.settled_async(written)
    return await anyio.to_thread.run_sync(answer.settled, written)


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
