"""UUIDv7 (RFC 9562 5.7): ids that sort by the time they were made."""

from __future__ import annotations

import os
import random
import time
from hashlib import sha256

_VERSION_7 = 0x7 << 76 | 0b10 << 62  # with the variant
_LOWER = (1 << 62) - 1

# Unique, not secret: a generator of our own asks the kernel once in a process, and nobody else seeds it.
_noise = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_noise.seed)


def new_event_id() -> str:
    """48 bits of Unix milliseconds, 74 random bits; the standard library has it from Python 3.14 on."""
    return _event_id(time.time_ns() // 1_000_000, _noise.getrandbits(74))


def event_id_of(nanoseconds: int, content: bytes) -> str:
    """The same one whenever the same thing is found: of a moment and of what was found."""
    return _event_id(nanoseconds // 1_000_000, int.from_bytes(sha256(content).digest()) >> 182)


def _event_id(milliseconds: int, noise: int) -> str:
    number = (milliseconds & 0xFFFFFFFFFFFF) << 80 | _VERSION_7 | noise >> 62 << 64 | noise & _LOWER
    digits = number.to_bytes(16, "big").hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
