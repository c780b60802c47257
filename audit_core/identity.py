"""UUIDv7 (RFC 9562 5.7): ids that sort by the time they were made."""

from __future__ import annotations

import os
import time

_HEX = "%08x-%04x-%04x-%04x-%012x"


def new_event_id() -> str:
    """48 bits of Unix milliseconds, 74 random bits; the standard library has it from Python 3.14 on."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10))
    return _HEX % (
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        0x7000 | noise >> 68,
        0x8000 | noise >> 54 & 0x3FFF,
        noise & 0xFFFFFFFFFFFF,
    )
