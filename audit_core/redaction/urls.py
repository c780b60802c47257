"""Secrets in the parts of a URL: its path, and its query string."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import quote, unquote, unquote_plus

from audit_core.redaction.free_text import redact_text
from audit_core.redaction.rules import MEASURES, REDACTED, Rules, Treatment
from audit_core.redaction.sensitive_names import words_of

_SEPARATOR = re.compile("([&;?#])")
_LAYERS = 4  # of percent-encoding that are taken off: each proxy on the way may have added one
_URL = re.compile(r"[A-Za-z][\w+.-]{0,20}://[^/\\]*|(?=/)")  # up to its path
_SLASH = re.compile(r"([/\\])")
_HARMLESS = re.compile(r"[\w.~-]{0,10}")  # shorter than anything that free text is searched for
_LONG = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{20,}")
_LEADING = frozenset("activate confirm invitation invite recover reset unsubscribe verify".split())
_LONGEST_WORD = 64
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


# --- Query strings


def redact_query(text: str, rules: Rules, depth: int = 2) -> str:
    """A query string; values are looked through as text, and as query strings or URLs of their own."""
    parts = _SEPARATOR.split(text)
    treatment: Treatment | None = None
    for place in range(0, len(parts), 2):
        name, equals, value = parts[place].partition("=")
        if equals:
            treatment = rules.of(_decoded(name.replace("+", " ")), place="query")
            value = _treated(treatment, value, rules) if treatment else _looked_through(value, rules, depth)
            parts[place] = f"{name}={value}"
        elif treatment in {None, *MEASURES} or parts[place - 1] == "&":
            treatment = None
            parts[place] = _looked_through(name, rules, depth)
        elif name:
            parts[place] = REDACTED
    return "".join(parts)


def _treated(treatment: Treatment, value: str, rules: Rules) -> str:
    plain = unquote_plus(value)
    treated = rules.apply_to_text(treatment, plain)
    return _looked_through(value, rules, 0) if treated == plain else treated


def _looked_through(value: str, rules: Rules, depth: int) -> str:
    """The value without its secrets, encoded again if it was."""
    if _HARMLESS.fullmatch(value):
        return value
    plain = unquote_plus(value)
    if plain == value:
        return _redact_value(value, rules)
    redacted = _redact_value(redact_query(plain, rules, depth - 1) if depth else plain, rules)
    return value if redacted == plain else quote(redacted, safe="", errors="replace")


def _redact_value(text: str, rules: Rules) -> str:
    """A value as free text, and as a URL or path of its own: a link to ``/reset/`` is a secret in a query, too."""
    text = redact_text(text, rules)
    return _without_leading(text, rules) if _URL.match(text) else text


def _decoded(text: str) -> str:
    """The text without its percent-encoding, however often it was encoded."""
    for _ in range(_LAYERS):
        if "%" not in text or (plain := unquote(text)) == text:
            break
        text = plain
    return text


# --- Paths


def redact_unrouted(path: str, rules: Rules) -> str:
    """A path of which nothing is known, and which may be a route's with a slash too many or too few.

    Without what follows ``/reset-password/`` or ``/token/`` either, and what only a machine can have made. A path that
    was encoded once too often stays as it is, unless there is a secret in it.
    """
    plain = _decoded(path)
    redacted = _without_leading(redact_text(plain, rules), rules)
    return path if redacted == plain else redacted


def _without_leading(url: str, rules: Rules) -> str:
    """Without what follows a word of its path that leads to a secret."""
    start = match.end() if (match := _URL.match(url)) else 0
    parts = [url[:start], *_SLASH.split(url[start:])]
    leading = next((place for place, part in enumerate(parts) if place and leads_to_secret(part, rules)), len(parts))
    parts[leading + 1 :] = [REDACTED if part not in {"", "/", "\\"} else part for part in parts[leading + 1 :]]
    return _LONG.sub(lambda match: REDACTED if _looks_random(match[0]) else match[0], "".join(parts))


def leads_to_secret(segment: str, rules: Rules) -> bool:
    """Whether what follows this word of a path may be a secret: ``reset``, ``tokens``."""
    is_word = 1 < len(segment) < _LONGEST_WORD  # a slash is none
    return is_word and (rules.of(segment) is not None or not _LEADING.isdisjoint(words_of(segment)))


def _looks_random(text: str) -> bool:
    """Nobody's words: thirty-two letters and digits in turns, twenty where the letters are of both cases."""
    kinds = [kind for kind in map(_kind, text) if kind]
    turns = sum(one != other for one, other in pairwise(kinds))
    enough = 20 if len(set(kinds)) == 3 else 32
    return len(text) >= enough and turns * 5 >= len(text) and not _UUID.fullmatch(text)


def _kind(character: str) -> str | None:
    if character.isdigit():
        return "digit"
    return ("lower" if character.islower() else "upper") if character.isalpha() else None
