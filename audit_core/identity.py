"""UUIDv7 (RFC 9562 5.7): ids that sort by the time they were made."""

from __future__ import annotations

import os
import random
import time

_HEX = "%08x-%04x-%04x-%04x-%012x"

# Unique, not secret: a generator of our own asks the kernel once in a process, and nobody else seeds it.
_noise = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_noise.seed)


def new_event_id() -> str:
    """48 bits of Unix milliseconds, 74 random bits; the standard library has it from Python 3.14 on."""
    milliseconds = time.time_ns() // 1_000_000
    noise = _noise.getrandbits(74)
    return _HEX % (
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        0x7000 | noise >> 62,
        0x8000 | noise >> 48 & 0x3FFF,
        noise & 0xFFFFFFFFFFFF,
    )
