"""What happens to the values of a name."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal, TypeAlias, get_args

from audit_core.canonical import Json, encode
from audit_core.clean import clean
from audit_core.errors import ConfigurationError
from audit_core.redaction.sensitive_names import (
    IN_QUERIES,
    IN_SECRETS,
    PHRASES,
    SECRET_TYPES,
    Measure,
    Place,
    flat,
    is_measure,
    sensitivity,
    spoken,
)

Rule: TypeAlias = Literal["replace", "mask", "hash", "keep"]
Treatment: TypeAlias = Literal["replace", "mask", "hash"] | Measure  # a measure: what is none is replaced

REDACTED: Final = "[redacted]"
MASK: Final = "••••"
_HASH_PREFIX: Final = "hmac-sha256:"
_MASKED = re.compile(f"{MASK}.{{0,4}}", re.DOTALL)
_HASHED = re.compile(f"{_HASH_PREFIX}[0-9a-f]{{64}}")
MEASURES: Final = get_args(Measure)
_NO_SECRETS: Final = frozenset((None, *MEASURES))
_NO_SECRET_ID = re.compile(r"[0-9]{1,19}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGEST_CACHED: Final = 128


class Rules:
    """The application's rules, and behind them what a name says by itself."""

    def __init__(self, rules: Mapping[str, Rule], hash_key: bytes | None, names: Iterable[str]) -> None:
        self._rules: dict[str, Rule] = {}
        self._scoped: dict[tuple[str, str], Rule] = {}
        self._hash_key = hash_key
        self._phrases = PHRASES.union(flat(name) for name in names)
        for name, rule in rules.items():
            self._add(name, rule)
        self._cached: Callable[[str, str | None, Place | None], Treatment | None] = lru_cache(4096)(self._find)
        self._cached_secret_type: Callable[[str], bool] = lru_cache(4096)(self._find_secret_type)

    def _add(self, name: str, rule: Rule) -> None:
        if rule not in get_args(Rule):
            choices = ", ".join(get_args(Rule))
            raise ConfigurationError(f"redaction of {name!r} is {rule!r}: choose from {choices}")
        if rule == "hash" and not self._hash_key:
            raise ConfigurationError(f"redaction of {name!r} is 'hash': give the Redactor a hash_key")
        scope, _, field = name.rpartition(".")
        if scope:
            self._scoped[flat(scope), flat(field)] = rule
        else:
            self._rules[flat(field)] = rule

    # --- Which

    def of(self, name: str, scope: str | None = None, place: Place | None = None) -> Treatment | None:
        """How values of this name are treated; None where they stay."""
        return (self._cached if len(name) < _LONGEST_CACHED else self._find)(name, scope, place)

    def of_spoken(self, name: str) -> Treatment | None:
        """The same for words of a sentence: of the last one, or of ``api key`` and the like."""
        if found := self.of(name.rpartition(" ")[2]):
            return found
        return "replace" if any(phrase in self._phrases for phrase in spoken(name)) else None

    def hides_id(self, identifier: str, kind: str | None, fields: Iterable[str]) -> bool:
        """Whether the id of a resource is a secret: a field of its key is, or it may be the very token."""
        if any(self.of(field, kind) not in _NO_SECRETS for field in fields):
            return True
        return kind is not None and self._is_secret_type(kind) and not _NO_SECRET_ID.fullmatch(identifier)

    def names_secret_inside(self, name: str) -> bool:
        """Whether a table of secrets may call the secret itself so, and no rule says otherwise."""
        return flat(name) in IN_SECRETS and flat(name) not in self._rules

    def _is_secret_type(self, kind: str) -> bool:
        return (self._cached_secret_type if len(kind) < _LONGEST_CACHED else self._find_secret_type)(kind)

    def _find_secret_type(self, kind: str) -> bool:
        return self.of(kind) == "replace" or (flat(kind) in SECRET_TYPES and self._rules.get(flat(kind)) != "keep")

    def _find(self, name: str, scope: str | None, place: Place | None) -> Treatment | None:
        whole = flat(name)
        rule = self._scoped_rule(name, scope) or self._rules.get(whole)
        if rule is not None:
            return None if rule == "keep" else rule
        if whole in self._phrases or (place == "query" and whole in IN_QUERIES):
            return "replace"
        if whole in IN_SECRETS and scope is not None and self._is_secret_type(scope):
            return "replace"
        found = sensitivity(name, self._phrases, place)
        return "replace" if found == "secret" else found

    def _scoped_rule(self, name: str, scope: str | None) -> Rule | None:
        if not self._scoped:
            return None
        head, _, tail = name.rpartition(".")
        inside = self._scoped.get((flat(head), flat(tail)))
        return inside or self._scoped.get((flat(scope or ""), flat(name)))

    # --- What it does

    def apply(self, treatment: Treatment, value: Json) -> Json:
        """The value as it is recorded. None stays None."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.apply_to_text(treatment, value)
        if treatment == "hash":
            return self.keyed_hash(value)
        if treatment == "mask":
            return MASK if isinstance(value, dict | list) else _mask(encode(value).decode())
        is_scalar = not isinstance(value, dict | list)
        return value if is_scalar and is_measure(encode(value).decode(), treatment) else REDACTED

    def apply_to_text(self, treatment: Treatment, text: str) -> str:
        """The same, where it is a text. What is redacted already stays as it is."""
        if treatment == "mask":
            return _mask(text)
        if treatment == "hash":
            return text if _HASHED.fullmatch(text) else self.keyed_hash(text)
        return text if is_measure(text, treatment) else REDACTED

    def hide_id(self, identifier: str) -> str:
        """The same text for the same id, where there is a key to hash with."""
        if identifier == REDACTED or _HASHED.fullmatch(identifier):
            return identifier
        return self.keyed_hash(identifier) if self._hash_key else REDACTED

    def keyed_hash(self, value: Json) -> str:
        """The HMAC of the canonical bytes."""
        if not self._hash_key:
            raise ConfigurationError("no hash_key: give the Redactor one")
        return _HASH_PREFIX + hmac.digest(self._hash_key, encode(clean(value)), "sha256").hex()


def _mask(text: str) -> str:
    if _MASKED.fullmatch(text):
        return text
    return MASK + text[-4:] if len(text) >= 12 else MASK
