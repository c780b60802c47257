"""Values of the trail as text that is safe to show: many of them were chosen by whoever attacked the application."""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import category, name

# C0 and C1 controls, which a terminal obeys; what reorders or hides text (Unicode's Default_Ignorable_Code_Point); lone
# surrogates, which have no UTF-8. The page of a bundle has the same rules, as far as Python knows scripts and emoji.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_JOINERS, _VARIANTS = "\u200c\u200d", "\ufe0e\ufe0f"
_ALIKE = ("LATIN ", "GREEK ", "CYRILLIC ", "COMBINING ")  # where a joiner shows nothing and makes another name
# Where a formula would begin: at the cell's beginning, and after what a spreadsheet of another country splits on.
# Spreadsheets take the wide forms, too.
_FORMULA = re.compile(r"""(^|[;|])(?=[\s"'\\]*[=+\-@＝＋－＠])""")  # noqa: RUF001
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(value: object) -> str:
    r"""One line of text in which every character that a terminal would act upon is written out: ``\x1b``."""
    return "" if value is None else _written_out(str(value), _escape)


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
    return _written_out(text, lambda character: "\n" if character == "\n" else _in_json(character))


def _written_out(text: str, write: Callable[[str], str]) -> str:
    return _UNSAFE.sub(lambda match: match[0] if _may_stand(match) else write(match[0]), text)


def _may_stand(match: re.Match[str]) -> bool:
    """Joiners after a letter where Persian and Indian scripts need them, and in emoji; which emoji it is behind one."""
    before = match.string[max(0, match.start() - 2) : match.start()]
    if match[0] in _VARIANTS:
        return _is_picture(before[-1:])
    if match[0] not in _JOINERS:
        return False
    return _is_joined(before[-1:]) or (match[0] == "\u200d" and _is_picture(before.removesuffix("\ufe0f")[-1:]))


def _is_joined(letter: str) -> bool:
    return letter != "" and category(letter)[0] in "LM" and not name(letter, "").startswith(_ALIKE)


def _is_picture(character: str) -> bool:
    is_among_emoji = "\U0001f000" <= character <= "\U0001faff"
    return is_among_emoji or (character >= "\u2000" and category(character) == "So")


def _in_json(character: str) -> str:
    """As RFC 8259 (7) writes it out: beyond the Basic Multilingual Plane as two surrogates."""
    if (code := ord(character) - 0x10000) < 0:
        return f"\\u{ord(character):04x}"
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape(character: str) -> str:
    code = ord(character)
    wide = f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else wide)
