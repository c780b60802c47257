"""Ctrl-C, and what else ends a process from outside: always in order, the server first."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def install() -> None:
    """Let the first signal raise SystemExit; whoever is impatient cannot break that off.

    Python drops what a handler raises where it interrupts the callback of a weak reference. The collector runs most of
    those, and a demonstration is short enough to do without it.
    """
    gc.disable()
    for number in STOPS:
        signal.signal(number, _leave)


@contextmanager
def deferred() -> Iterator[None]:
    """What arrives during the block is heard at its end: nothing is left half started or half stopped."""
    arrived: list[int] = []
    before = {number: signal.signal(number, lambda number, _: arrived.append(number)) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _leave(number: int, _: FrameType | None) -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
