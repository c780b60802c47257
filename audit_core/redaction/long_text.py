"""A text that no record can hold as a whole. To look through all of it would hold up the transaction that changes it.

It is cut sooner or later to its first characters, its size and its hash. Where there may be a secret in it, only its
beginning is looked through, and the rest is not hashed either: whoever knew what stands around the secret could find
it by trying.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from audit_core.normalise import KEPT, cut_marker
from audit_core.redaction.rules import REDACTED

LIMIT: Final = 65_536  # characters; no record has room for so many
_TORN: Final = 256  # at the end of what is looked through half a secret may stand, and is not recognised
_MARKED: Final = (
    "-----BEGIN ", "k_live_", "k_test_", "gho_", "ghp_", "ghr_", "ghs_", "ghu_", "b_pat_", "glpat-", "xox", "AKIA",
    "ASIA", "AIza",
)  # fmt: skip
_JWT: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]")
_USERINFO: Final = re.compile(r"://[^\s/?#:@\"'<>]*:[^\s/?#\"'<>]*@")
# Digits become 0, and what may stand between or behind those of a card becomes one character for all.
_SHAPES: Final = bytes.maketrans(b"123456789 ^Dd", b"000000000-===")
_CARDS: Final = tuple(shape.encode() for shape in ("0" * 15, "-".join(["0000"] * 4), "0" * 13 + "=", "000-00-0000"))


def redact_long_text(text: str, redact: Callable[[str], str]) -> str:
    """A text of more than ``LIMIT`` characters: as it is, or cut, without what ``redact`` takes out of shorter ones."""
    if not may_hold_secrets(text):
        return text
    kept = redact(text[:LIMIT])[:-_TORN] + REDACTED
    return kept[:KEPT] + cut_marker(kept, size=len(text.encode()))


def may_hold_secrets(text: str) -> bool:
    """Whether anything in it may be unmistakable; some of what looks so is none. In a fraction of a pattern's time."""
    if any(sign in text for sign in _MARKED) or _USERINFO.search(text) or ("eyJ" in text and _JWT.search(text)):
        return True
    lower = text.lower()
    if "bearer " in lower or "bearer\t" in lower:
        return True
    shapes = text.encode("utf-8", "replace").translate(_SHAPES)
    return any(shape in shapes for shape in _CARDS)
