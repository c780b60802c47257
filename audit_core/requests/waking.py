"""How an event loop learns what another thread has finished."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any


class _Bell:
    """Wakes one event loop, once for all that is finished by then: one commit finishes many requests."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._finished: deque[asyncio.Future[None]] = deque()
        self._rung = False

    def ring(self, waiting: asyncio.Future[None], _: object) -> None:
        """From any thread."""
        self._finished.append(waiting)
        if not self._rung and not self.loop.is_closed():
            self._rung = True
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._rung = False  # first: who rings from now on is heard
        while self._finished:
            if not (waiting := self._finished.popleft()).done():
                waiting.set_result(None)


_here = threading.local()


async def finished(future: Future[Any]) -> None:
    """Wait until it is, however it is. A task that is cancelled meanwhile takes nothing along."""
    if future.done():
        return
    loop = asyncio.get_running_loop()
    bell: _Bell | None = getattr(_here, "bell", None)
    if bell is None or bell.loop is not loop:
        bell = _here.bell = _Bell(loop)
    waiting: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(partial(bell.ring, waiting))
    await waiting
