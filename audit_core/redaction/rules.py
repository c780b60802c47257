"""What happens to the values of a name."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from audit_core.canonical import Json, encode
from audit_core.clean import clean
from audit_core.errors import ConfigurationError
from audit_core.redaction.declared import Rule, check_rule, follow, lineage
from audit_core.redaction.personal_names import is_personal
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

# A measure: what is none is replaced.
Treatment: TypeAlias = Literal["replace", "mask", "hash", "exclude"] | Measure

REDACTED: Final = "[redacted]"
MASK: Final = "••••"
_HASH_PREFIX: Final = "hmac-sha256:"
_MASKED = re.compile(f"{MASK}.{{0,4}}", re.DOTALL)
_HASHED = re.compile(f"{_HASH_PREFIX}[0-9a-f]{{64}}")
MEASURES: Final = get_args(Measure)
_NO_SECRETS: Final = frozenset((None, *MEASURES))
_NO_SECRET_ID = re.compile(r"[0-9]{1,19}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_LONGEST_CACHED: Final = 128
_T = TypeVar("_T")


class Rules:
    """The application's rules, and behind them what a name says by itself."""

    def __init__(
        self, rules: Mapping[str, Rule], hash_key: bytes | None, names: Iterable[str], *, erasable: bool = False
    ) -> None:
        if not isinstance(rules, Mapping):
            raise ConfigurationError(f'Rules are by field, {{"patient.phone": "mask"}}, and not {rules!r}.')
        self.names, self.erasable = tuple(rules), erasable  # as they were given
        self._rules: dict[str, Rule] = {}
        self._scoped: dict[tuple[str, str], Rule] = {}
        self._hash_key = hash_key
        self._phrases = PHRASES.union(flat(name) for name in names)
        for name, rule in rules.items():
            self._add(name, rule)
        self._memories: list[Any] = []
        self._cached = self.remembered(4096, self._find)
        self._cached_private = self.remembered(4096, self._find_private)
        self._cached_secret_type = self.remembered(4096, self._find_secret_type)
        self.names_secret_inside = self.remembered(4096, self._names_secret_inside)
        follow(self)

    def remembered(self, size: int, find: Callable[..., _T]) -> Callable[..., _T]:
        """``find``, which keeps the last ``size`` answers until classes say something else of their fields."""
        self._memories.append(memory := lru_cache(size)(find))
        return memory

    def forget(self) -> None:
        """Classes say something else of their fields now."""
        for memory in self._memories:
            memory.cache_clear()

    def _add(self, name: str, rule: Rule) -> None:
        check_rule(name, rule)
        if rule == "hash" and not self._hash_key:
            raise ConfigurationError(f"redaction of {name!r} is 'hash': give the Redactor a hash_key")
        scope, _, field = name.rpartition(".")
        if scope:
            self._scoped[flat(scope), flat(field)] = rule
            self._scoped.setdefault((flat(scope.rpartition(".")[2]), flat(field)), rule)  # clinic.Patient.ssn
        else:
            self._rules[flat(field)] = rule

    # --- Which

    def of(self, name: str, scope: str | None = None, place: Place | None = None) -> Treatment | None:
        """How values of this name are treated; None where they stay."""
        return (self._cached if len(name) < _LONGEST_CACHED else self._find)(name, scope, place)

    def rule(self, name: str, scope: str | None = None) -> Rule | None:
        """What somebody has said of this name, be it that its values are kept."""
        kind, _, field = name.rpartition(".")
        return (self._rule(field, kind) if kind else None) or self._rule(name, scope)

    def is_private(self, name: str, scope: str | None = None) -> bool:
        """Whether values of this name, which no treatment is for, are kept outside of the record."""
        return (self._cached_private if len(name) < _LONGEST_CACHED else self._find_private)(name, scope)

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

    def _names_secret_inside(self, name: str) -> bool:
        """Whether a table of secrets may call the secret itself so, and no rule says otherwise."""
        return flat(name) in IN_SECRETS and flat(name) not in self._rules

    def _is_secret_type(self, kind: str) -> bool:
        return (self._cached_secret_type if len(kind) < _LONGEST_CACHED else self._find_secret_type)(kind)

    def _find_secret_type(self, kind: str) -> bool:
        return self.of(kind) == "replace" or (flat(kind) in SECRET_TYPES and self._rules.get(flat(kind)) != "keep")

    def _find(self, name: str, scope: str | None, place: Place | None) -> Treatment | None:
        rule = self.rule(name, scope)
        if rule == "private":
            return None if self.erasable else "replace"
        if rule is not None:
            return None if rule == "keep" else "replace" if rule == "hash" and not self._hash_key else rule
        whole = flat(name)
        if whole in self._phrases or (place == "query" and whole in IN_QUERIES):
            return "replace"
        kind, _, field = name.rpartition(".")
        kind = kind or scope or ""
        if kind and flat(field) in IN_SECRETS and self._is_secret_type(kind):
            return "replace"
        found = sensitivity(name, self._phrases, place)
        return "replace" if found == "secret" else found

    def _find_private(self, name: str, scope: str | None) -> bool:
        if not self.erasable or self.of(name, scope) is not None:
            return False
        rule = self.rule(name, scope)
        return rule == "private" or (rule is None and is_personal(name))

    def _rule(self, field: str, kind: str | None) -> Rule | None:
        """Of the nearest class that has one, else of the name alone."""
        wanted = flat(field)
        for one, said in lineage(kind) if kind else ():
            if rule := self._scoped.get((one, wanted)) or said.get(wanted):
                return rule
        return self._rules.get(wanted)

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

    @property
    def has_key(self) -> bool:
        """Whether there is one to hash with."""
        return bool(self._hash_key)

    def keyed_hash(self, value: Json) -> str:
        """The HMAC of the canonical bytes."""
        if not self._hash_key:
            raise ConfigurationError("no hash_key: give the Redactor one")
        return _HASH_PREFIX + hmac.digest(self._hash_key, encode(clean(value)), "sha256").hex()


def _mask(text: str) -> str:
    if _MASKED.fullmatch(text):
        return text
    return MASK + text[-4:] if len(text) >= 12 else MASK
