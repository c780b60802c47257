"""What free text may contain, found without a name or after one, in time proportional to its length."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

from audit_core.redaction.long_text import LIMIT, redact_long_text
from audit_core.redaction.rules import REDACTED, Rules

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_CREDENTIALS = re.compile(r"(?<![^\W\d_])(Bearer|Basic)([ \t]{1,8})([\w.~+/=-]{8,})", re.IGNORECASE)
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){0,3}")
_USERINFO = re.compile(r"(://[^\s/?#:@\"'<>]*:)[^\s/?#\"'<>]*@")
_BEARER = re.compile(r"(?<![^\W\d_])(Bearer[ \t]{1,8})[\w.~+/=-]{20,}", re.IGNORECASE)
_MARKED = re.compile(  # tokens of Stripe, GitHub, GitLab, Slack, AWS and Google say what they are
    r"(?<![A-Za-z0-9])(?:[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}|A[KS]IA[A-Z0-9]{16}|AIza[\w-]{35})"
)
_CARD_LIKE = re.compile(r"[2-6][0-9]{3}(?<![\w-]....)[ -]?[0-9]{4}[ -]?[0-9]{4}")
_SSN_LIKE = re.compile("[0-9][0-9][0-9]-[0-9]{2}-[0-9]{4}")  # written so, it is looked for twice as fast
_SSN = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")
# The same among other values, standing alone, and only as they are given out.
_PLAIN_SSN = re.compile(r"(?<![^\s,;:(])(?!000|666|9)[0-9]{3}-(?!00)[0-9]{2}-(?!0000)[0-9]{4}(?![^\s,;:.!)])")
# What a magnetic stripe holds after the number of the card: %B4111111111111111^DOE/ADA^2512101..., ;4111...=2512101...
_STRIPE = re.compile(
    r"(?<![0-9])([2-9][0-9]{12,18})(?:\^[^\^\r\n?]{2,40}\^|[=D])[0-9]{7}[0-9A-Z]{0,60}\??", re.IGNORECASE
)
# Cards do not begin with 0, nor with 1 as milliseconds since 1970 do. Grouped as on a card a number is found
# among others too (hence the lookahead: they overlap), grouped in another way only where it stands alone.
_GROUPED_CARDS = re.compile(
    r"(?<![0-9])(?=([2-9]"
    r"(?:[0-9]{12,18}|[0-9]{3}(?:[ -][0-9]{4}){3}|[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})"
    r")(?![0-9]))"
)
_OTHER_CARDS = re.compile(r"(?<![0-9])(?<![0-9][ -])(?=([2-9](?:[ -]?[0-9]){12,18})(?![ -]?[0-9]))")
# Among other values only as card companies number and print them: one in ten of all numbers passes Luhn's test.
_PLAIN_CARDS = re.compile(
    r"(?<![^\s,;:(])(4[0-9]{15}|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|6[0-9]{15}"
    r"|[2-6][0-9]{3}([ -])[0-9]{4}(?:\2[0-9]{4}){2})(?![^\s,;:.!)])"
)
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")

# A name (with the two words before it), a separator, and, looked for after sensitive names only, the value.
# Possessive (++) and starting only where a run starts: no text makes them read a character many times.
# ``token[]=``, ``"token[0]":`` and, encoded, ``token%5B%5D%3D`` have the value of one name, too.
_NAME = re.compile(
    r"(?<![\w.-])([\w.-]++(?: [\w.-]++){0,2})(?:[\\\"'\])]|\[[0-9]{0,9}\]|%5[bB][0-9]{0,9}%5[dD]){0,6}"
    r"[ \t]{0,8}(?:=>|[:=]{1,2}|%(?:25){0,4}3[dDaA]|\\u003[dDaA])[ \t]{0,8}"
)
_ELEMENT = re.compile(r"<((?:[\w.-]{1,40}:)?([\w.-]{1,80}))(?:\s[^<>]{0,200})?>(?<!/>)")
_CLOSED = re.compile(r"</((?:[\w.-]{1,40}:)?[\w.-]{1,80})>")  # <wsse:Password>...
_QUOTED = re.compile(r"""(\\*["'])(.*?)(?:(?<!\\)\1|\Z)""", re.DOTALL)
_WHOLE_LINE_NAME = re.compile(r"(?:cookies?|authorization)$", re.IGNORECASE)
_WHOLE_LINE = re.compile(r"[^\r\n]*+")
_BRACKET = re.compile(r"""["](?:[^"\\]++|\\.)*+["]?|['](?:[^'\\]++|\\.)*+[']?|([\[{(])|([\]})])""", re.DOTALL)
_BARE = re.compile(
    r"(?:(?:bearer|basic|digest|token|negotiate)[ \t]{1,8})?"
    r"(?:[^\s;&\"'<>,)\]}]++|[,)\]}](?![\s,;)\]}\"']|\Z|[\w.-]{1,40}=))*+",
    re.IGNORECASE,
)


def redact_text(text: str, rules: Rules) -> str:
    """Everything that looks like a secret."""
    text = _STRIPE.sub(_redact_stripe, _SSN.sub(REDACTED, redact_credentials(text, rules)))
    text = _redact_cards(_GROUPED_CARDS, text)
    return _redact_cards(_OTHER_CARDS, text)


def redact_credentials(text: str, rules: Rules) -> str:
    """The same without numbers of cards and social security, which in a path may be those of a resource."""
    if not _may_be_credentials(text):
        return text
    text = _redact_elements(_redact_assignments(_PEM.sub(REDACTED, text), rules), rules)
    text = _MARKED.sub(REDACTED, _CREDENTIALS.sub(_redact_credential, text))
    return _USERINFO.sub(rf"\1{REDACTED}@", _JWT.sub(REDACTED, text))


def redact_unmistakable(text: str) -> str:
    """What nothing else looks like, in a value whose name says nothing. Fast where there is none."""
    if len(text) > LIMIT:
        return redact_long_text(text, redact_unmistakable)
    if not _may_be_unmistakable(text):
        return text
    text = _BEARER.sub(rf"\1{REDACTED}", _PEM.sub(REDACTED, text))
    text = _USERINFO.sub(rf"\1{REDACTED}@", _MARKED.sub(REDACTED, _JWT.sub(REDACTED, text)))
    return _redact_cards(_PLAIN_CARDS, _PLAIN_SSN.sub(REDACTED, _STRIPE.sub(_redact_stripe, text)))


def _may_be_credentials(text: str) -> bool:
    """Most paths have none: what has a name has a separator, too, and what has none says what it is."""
    return (
        ":" in text or "=" in text or " " in text or "\t" in text or "%" in text or "\\" in text or "</" in text
        or "eyJ" in text or "-----BEGIN" in text or _may_be_marked(text)
    )  # fmt: skip


def _may_be_marked(text: str) -> bool:
    """``in`` is several times as fast as a pattern."""
    return (
        "k_" in text or "gh" in text or "b_pat_" in text or "glpat" in text
        or "xox" in text or "IA" in text or "AIza" in text
    )  # fmt: skip


def _may_be_unmistakable(text: str) -> bool:
    """Most values are not."""
    return (
        "://" in text or "eyJ" in text or "-----BEGIN" in text or "earer" in text or "EARER" in text
        or _may_be_marked(text)
        or _CARD_LIKE.search(text) is not None or ("^" in text and _STRIPE.search(text) is not None)
        or ("-" in text and _SSN_LIKE.search(text) is not None)
    )  # fmt: skip


def _redact_elements(text: str, rules: Rules) -> str:
    if "</" not in text:
        return text
    out: list[str] = []
    last = {found[1]: found.start() for found in _CLOSED.finditer(text)}  # nobody looks for one in vain
    done = 0
    for found in _ELEMENT.finditer(text):
        if found.start() >= done and (treatment := rules.of(found[2])):
            start, end = found.end(), _end_of_element(text, found, last)
            if start < end:
                out += text[done:start], rules.apply_to_text(treatment, text[start:end])
                done = end
    return "".join((*out, text[done:]))


def _end_of_element(text: str, found: re.Match[str], last: Mapping[str, int]) -> int:
    """Where it is closed, whatever is in it; up to the next one where it is not."""
    name, start = found[1], found.end()
    if last.get(name, -1) >= start:
        return text.index(f"</{name}>", start)
    return end if (end := text.find("<", start)) >= 0 else len(text)


def _redact_assignments(text: str, rules: Rules) -> str:
    out: list[str] = []
    done = position = 0
    while match := _NAME.search(text, position):
        position = match.end()
        if treatment := rules.of_spoken(match[1]):
            start, position = _secret_span(text, position, match[1])
            if start < position:
                out += text[done:start], rules.apply_to_text(treatment, text[start:position])
                done = position
    return "".join((*out, text[done:]))


def _secret_span(text: str, start: int, name: str) -> tuple[int, int]:
    """Where the value that begins here lies: in its quotes or brackets, or up to where a value must end."""
    if quoted := _QUOTED.match(text, start):
        return quoted.span(2)
    if _WHOLE_LINE_NAME.search(name):
        return _span(_WHOLE_LINE, text, start)
    if text.startswith(("[", "{", "("), start):
        end = _closing_bracket(text, start)
        return start, end if text.startswith((",", ")", "]", "}"), end) else _span(_BARE, text, end)[1]
    return _span(_BARE, text, start)


def _span(pattern: re.Pattern[str], text: str, start: int) -> tuple[int, int]:
    match = pattern.match(text, start)
    return match.span() if match else (start, start)


def _closing_bracket(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` is closed again; the end of the text if it is not."""
    level = 0
    for match in _BRACKET.finditer(text, start):
        level += bool(match[1]) - bool(match[2])
        if level == 0:
            return match.end()
    return len(text)


def _redact_credential(match: re.Match[str]) -> str:
    scheme, space, credential = match.groups()
    secret = _is_basic(credential) if scheme.lower() == "basic" else _is_random(credential)
    return f"{scheme}{space}{REDACTED}" if secret else match[0]


def _is_basic(credential: str) -> bool:
    """``user:password`` in base64, and not the next word of a sentence."""
    try:
        return b":" in base64.b64decode(credential + "==")
    except (binascii.Error, ValueError):
        return False


def _is_random(credential: str) -> bool:
    return len(credential) >= 20 or not credential.rstrip(".").isalpha()


def _redact_cards(cards: re.Pattern[str], text: str) -> str:
    out: list[str] = []
    done = 0
    for found in cards.finditer(text):
        start, end = found.span(1)
        if end > done and _passes_luhn(found[1]):
            out += text[done:start], REDACTED if start >= done else ""
            done = end
    return "".join((*out, text[done:]))


def _redact_stripe(match: re.Match[str]) -> str:
    return REDACTED if _passes_luhn(match[1]) else match[0]


def _passes_luhn(number: str) -> bool:
    digits = number.replace(" ", "").replace("-", "")[::-1]
    total = sum(digits[::2].encode()) + sum(digits[1::2].translate(_DOUBLED).encode())
    return (total - len(digits) * ord("0")) % 10 == 0
