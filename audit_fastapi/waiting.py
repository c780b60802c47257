"""Waiting in whichever event loop Starlette runs in, which may be Trio's: of asyncio it takes only what it needs."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from audit_core.requests import answer
from audit_core.requests.answer import Written


async def settled_anywhere(written: Written) -> bool:
    """Whether the event is durable, once that is known."""
    if written is None or _is_asyncio():
        return await answer.settled_async(written)
    await _finished_in_trio(written)
    return answer.settled(written)


async def _finished_in_trio(future: Future[Any]) -> None:
    """Not in a thread of AnyIO's: those are the application's, and may all be waiting for a database."""
    import trio

    event, token = trio.Event(), trio.lowlevel.current_trio_token()

    def ring(_: object) -> None:
        with suppress(trio.RunFinishedError):  # nobody waits any more
            token.run_sync_soon(event.set)

    future.add_done_callback(ring)
    await event.wait()


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
