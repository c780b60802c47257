"""Redactor: what an application holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from audit_core.canonical import Json
from audit_core.redaction.declared import Rule
from audit_core.redaction.free_text import redact_text, redact_unmistakable
from audit_core.redaction.routes import RouteLook
from audit_core.redaction.rules import REDACTED, Rules, Treatment
from audit_core.redaction.urls import redact_query, redact_unrouted

_SHORTEST: Final = 11  # 078-05-1120
_LOWEST_CARD: Final = 10**14
_SIDES: Final = frozenset(("old", "new"))
_EXCLUDED: Final = object()
_LOOKS_KEPT: Final = 1_024
_AGENTS_KEPT: Final = 1_024
_ROUTES_KEPT: Final = 4_096
_FIELDS_KEPT, _LONGEST_KEPT = 1_024, 128


class Redactor:
    """Takes secrets out by their names, and out of free text.

    ``names`` are sensitive like the built-in ones. ``rules`` maps a field (``ssn``), or a field of one
    resource type (``patient.ssn``, which goes first), to

    * ``replace``: the value becomes ``[redacted]``;
    * ``mask``: the last four characters stay, if there are at least twelve: ``••••1234``;
    * ``hash``: ``hmac-sha256:`` and the HMAC of its canonical bytes under ``hash_key``;
    * ``keep``: it stays, though its name is sensitive;
    * ``exclude``: details have nothing of it, and an update of nothing else is no event. Elsewhere (a query, a path,
      the id of a resource) it is replaced;
    * ``private``: it stays outside of the record, from where it can be erased. That takes ``erasable``; else it is
      replaced.

    With ``erasable`` so do all whose names say that they are about a person (``email``), unless a rule keeps them.

    A rule for a type whose class an ORM knows holds for its subclasses, the nearest class first. Then come the rules
    that classes have by ``redacted``, then those of a field alone, then what its name says.

    Case and separators of names do not matter. A whole value is redacted, also where it is an object or an
    array; None stays None; what is redacted already stays as it is.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule] | None = None,
        hash_key: bytes | None = None,
        names: Iterable[str] = (),
        *,
        erasable: bool = False,
    ) -> None:
        self._rules = Rules(rules or {}, hash_key, names, erasable=erasable)
        self._look: Callable[[str | None], _Look] = self._rules.remembered(_LOOKS_KEPT, partial(_Look, self._rules))
        self._route: Callable[[str, str | None], RouteLook] = self._rules.remembered(
            _ROUTES_KEPT, partial(RouteLook, self._rules)
        )
        self._agent: Callable[[str], str] = self._rules.remembered(_AGENTS_KEPT, self.text)

    @property
    def rules(self) -> tuple[str, ...]:
        """What it has rules for, as they were given."""
        return self._rules.names

    def details(self, details: dict[str, Json], resource_type: str | None = None) -> dict[str, Json]:
        """Redact clean details at any depth; what is given stays as it is.

        Under ``changes``, the old and the new value of a sensitive field are redacted each on its own: it
        stays visible that the field changed, and whether it was or became None. In the other values, whatever
        their names are, private keys, JWTs, marked tokens (``sk_live_``), passwords in URLs, card numbers and US social
        security numbers are.
        """
        return self._look(resource_type).members(details)

    @property
    def erasable(self) -> bool:
        """Whether personal values are kept outside of the record."""
        return self._rules.erasable

    @property
    def has_key(self) -> bool:
        """Whether it can hash."""
        return self._rules.has_key

    def is_private(self, field: str, resource_type: str | None = None) -> bool:
        """Whether values of a field are kept outside of the record."""
        return self._rules.is_private(field, resource_type)

    def treatment(self, field: str, resource_type: str | None = None) -> Treatment | None:
        """What happens to values of a field, where that is decided beforehand; None where they stay."""
        return self._rules.of(field, resource_type)

    def rule(self, field: str, resource_type: str | None = None) -> Rule | None:
        """What a rule says of a field, be it that it is kept; None where only its name decides."""
        return self._rules.rule(field, resource_type)

    def identifier(self, identifier: str, resource_type: str | None = None, fields: Iterable[str] = ()) -> str:
        """Redact the id of a resource: the keyed hash of one that is itself a secret, the same in every event.

        That is one whose primary key has ``fields`` with a sensitive name, and one of a token, a credential and the
        like that is neither a number nor a UUID. Without a ``hash_key`` it is ``[redacted]``.
        """
        secret = self._rules.hides_id(identifier, resource_type, fields)
        return self._rules.hide_id(identifier) if secret else identifier

    def query(self, text: str) -> str:
        """Redact a query string; order, separators and all that is not secret stay as they are.

        A value is looked through as free text, and as a URL or query string of its own, encoded or not. After ``;``,
        ``?`` or ``#`` what has no name belongs to the value before it.
        """
        return redact_query(text, self._rules)

    def path(self, path: str, root: str = "") -> str:
        """Redact the path of a request without a route: as free text, and what looks like a long random token."""
        return redact_unrouted(root + path, self._rules)

    def routed_path(
        self,
        path: str,
        template: str,
        parameters: Mapping[str, Any],
        root: str = "",
        resource_type: str | None = None,
    ) -> str:
        """Redact a path below ``root``: the values of the template's sensitive parameters, and what is a credential.

        ``/tokens/{id}`` may have the very token in it: what is neither a number nor a UUID does not stay.
        """
        return self._route(template, resource_type).path(root, path, parameters)

    def parameters(
        self, parameters: Mapping[str, Any], resource_type: str | None = None, template: str = ""
    ) -> dict[str, Any]:
        """Redact the parameters of a route with this template, before they name a resource."""
        return self._route(template, resource_type).parameters(parameters)

    def text(self, text: str) -> str:
        """Redact free text, such as an exception's, in time proportional to its length.

        Values after a sensitive name (``name=``, ``name:``, ``"name":``), private keys, Bearer and Basic
        credentials, JWTs, passwords in URLs, card numbers and US social security numbers.
        """
        return redact_text(text, self._rules)

    def user_agent(self, text: str) -> str:
        """The same of what a client calls itself, with each of its requests."""
        return self._agent(text)

    def keyed_hash(self, value: Json) -> str:
        """``hmac-sha256:<hex>``, for what must stay comparable but unreadable: session ids, say."""
        return self._rules.keyed_hash(value)


def _are_harmless(values: Iterable[Json]) -> bool:
    """Whether values whose names say nothing are too short to be looked through. Most are."""
    for value in values:
        kind = type(value)
        if kind is str:
            if len(value) >= _SHORTEST:  # type: ignore[arg-type]
                return False
        elif kind is int:
            if value > _LOWEST_CARD:  # type: ignore[operator]
                return False
        elif value is not None and kind is not bool:
            return False
    return True


class _Look:
    """One look through the details of a resource of this type."""

    __slots__ = ("_apply", "_leaves_out", "_of", "_scope", "_sides_stay", "_staying")

    def __init__(self, rules: Rules, scope: str | None) -> None:
        self._of, self._apply, self._scope = rules.of, rules.apply, scope
        self._sides_stay = rules.of("old", scope) is None and rules.of("new", scope) is None
        self._leaves_out = False
        self._staying: set[str] = set()  # fields that no treatment is for

    def members(self, values: dict[str, Json]) -> dict[str, Json]:
        return self._without_excluded({name: self._member(name, value) for name, value in values.items()})

    def _without_excluded(self, told: dict[str, Any]) -> dict[str, Json]:
        if not self._leaves_out:
            return told
        return {name: value for name, value in told.items() if value is not _EXCLUDED}

    def _member(self, name: str, value: Json) -> Any:
        if treatment := self._of(name, self._scope):
            return self._excluded() if treatment == "exclude" else self._value(self._apply(treatment, value))
        if name == "changes" and isinstance(value, dict):
            return self._without_excluded({field: self._change(field, change) for field, change in value.items()})
        return self._value(value)

    def _change(self, field: str, change: Json) -> Any:
        if not (isinstance(change, dict) and change.keys() <= _SIDES):
            return self._member(field, change)
        if field not in self._staying:
            if treatment := self._of(field, self._scope):
                return self._treated(treatment, change)
            if not self._sides_stay:
                return self._member(field, change)
            if len(field) < _LONGEST_KEPT and len(self._staying) < _FIELDS_KEPT:
                self._staying.add(field)
        if _are_harmless(change.values()):
            return change
        return {side: self._value(value) for side, value in change.items()}

    def _treated(self, treatment: Treatment, change: dict[str, Json]) -> Any:
        if treatment == "exclude":
            return self._excluded()
        return {side: self._value(self._apply(treatment, value)) for side, value in change.items()}

    def _excluded(self) -> object:
        self._leaves_out = True
        return _EXCLUDED

    def _value(self, value: Json) -> Json:
        if isinstance(value, str):
            return value if len(value) < _SHORTEST else redact_unmistakable(value)
        if isinstance(value, dict):
            return self.members(value)
        if isinstance(value, list):
            return [self._value(item) for item in value]
        if isinstance(value, int) and value > _LOWEST_CARD and redact_unmistakable(str(value)) == REDACTED:
            return REDACTED
        return value
