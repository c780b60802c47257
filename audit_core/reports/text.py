"""Values of the trail as text that is safe to show: many of them were chosen by whoever attacked the application."""

from __future__ import annotations

import re

# C0 and C1 controls, which a terminal obeys; what reorders or hides text; lone surrogates, which have no UTF-8.
# The joiners U+200C and U+200D stay where names in Persian and in Indian scripts need them: never among Latin letters.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
    "|(?<![\u0250-\U0010ffff])[\u200c\u200d]"
)
# Where a formula would begin: at the cell's beginning, and after what a spreadsheet of another country splits on.
# Spreadsheets take the wide forms, too.
_FORMULA = re.compile(r"""(^|[;|])(?=[\s"'\\]*[=+\-@＝＋－＠])""")  # noqa: RUF001
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(value: object) -> str:
    r"""One line of text in which every character that a terminal would act upon is written out: ``\x1b``."""
    return "" if value is None else _UNSAFE.sub(_escape, str(value))


def spreadsheet_cell(value: object) -> object:
    """``value`` as a cell in which no spreadsheet finds a formula (OWASP, CSV Injection)."""
    if not isinstance(value, str):
        return value
    cell = _FORMULA.sub(r"\1'", visible(value))
    return f"'{cell}" if value.startswith(("\t", "\r", "\n")) else cell


def spreadsheet_json(text: str) -> str:
    """The same for a cell of JSON, whose meaning stays: what it may be split on stands only in its strings."""
    return _FORMULA.sub(lambda match: f"\\u{ord(match[0]):04x}" if match[0] else "", text)


def safe_json(text: str) -> str:
    """JSON text with the same meaning and no such character in its strings; line breaks only lay it out."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else _in_json(match[0]), text)


def _in_json(character: str) -> str:
    """As RFC 8259 (7) writes it out: beyond the Basic Multilingual Plane as two surrogates."""
    if (code := ord(character) - 0x10000) < 0:
        return f"\\u{ord(character):04x}"
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    wide = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else wide)
