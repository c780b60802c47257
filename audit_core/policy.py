"""What is audited, and what it is called. Decided here once, for every framework."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from audit_core.errors import ConfigurationError
from audit_core.event import Outcome

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 9.2.1: they ask for no change
UNROUTED = "(unrouted)"
ROWS_TOLD = 1_000  # of one statement, each by itself; more are one summary
_DENIALS = frozenset({1008, 3000, 3003})  # a policy is violated, unauthorized, forbidden
# The protocol or the data is wrong, an internal error, try again later, bad gateway.
_FAILURES = frozenset({1002, 1003, 1007, 1009, 1010, 1011, 1013, 1014})
_PARAMETER = re.compile(r"\{(\w+)\}")
_ATTRIBUTE = "__audited__"
logger = logging.getLogger("audit_core")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Naming:
    """What one route's events are called; a resource like ``patient:{patient_id}`` is filled in per request."""

    action: str | None = None
    resource: str | None = None


def audited(action: str | None = None, *, resource: str | None = None) -> Callable[[_F], _F]:
    """Audit this route whatever its method, and name its action and resource. Goes below the route's decorator."""
    naming = Naming(action, resource)

    def mark(endpoint: _F) -> _F:
        setattr(endpoint, _ATTRIBUTE, naming)
        return endpoint

    return mark


def naming_of(endpoint: object, method: str) -> Naming | None:
    """What ``audited`` left on a route's function, on its class, or on the class's method for this request."""
    view = getattr(endpoint, "view_class", endpoint)
    marked = [endpoint, view] if view is not endpoint else [endpoint]
    if isinstance(view, type):
        names = ("head", "get") if method == "HEAD" else (method.lower(),)  # one without `head` answers it with `get`
        marked = [*(getattr(view, name, None) for name in names), *marked]
    for one in marked:
        if isinstance(naming := getattr(one, _ATTRIBUTE, None), Naming):
            return naming
    return None


@dataclass(frozen=True, slots=True)
class AuditRule:
    """What ``audited`` says, for routes whose code is not yours.

    ``route`` is a template or a pattern (``/patients/{patient_id}``, ``/admin/*``), and ``methods`` those of which the
    rule speaks; none are all. Raises ConfigurationError for a route that can match nothing.
    """

    route: str
    action: str | None = None
    resource: str | None = None
    methods: Iterable[str] = ()

    def __post_init__(self) -> None:
        if not self.route.startswith(("/", "*")):
            raise ConfigurationError(f"AuditRule(route={self.route!r}): a route's template begins with a slash.")
        methods = [self.methods] if isinstance(self.methods, str) else self.methods
        object.__setattr__(self, "methods", frozenset(method.upper() for method in methods))

    def matches(self, method: str, template: str) -> bool:
        """Whether it speaks of this request. What answers a GET answers HEAD."""
        named = not self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)
        return named and (template == self.route or fnmatchcase(template, self.route))


class Route(NamedTuple):
    """How the framework routed a request: the template with ``{name}`` parameters, and their values.

    ``resource`` is its type and id where the framework knows better than the template.
    """

    template: str
    parameters: Mapping[str, Any] = MappingProxyType({})
    endpoint: object = None
    resource: tuple[str, str | None] | None = None


@dataclass(frozen=True)
class AuditPolicy:
    """Which requests leave an event.

    Every method that is not safe does, known or not. ``reads`` names resource types (``patient``) or route templates
    (``/reports/*``) whose GET and HEAD do too. A request that was refused (401, 403) does whatever its method. ``skip``
    are paths that never do (``/health``, ``/static/*``). Of the ``rules`` the first that matches counts, where the
    route's own function is not marked with ``audited``.
    """

    reads: Iterable[str] = ()
    skip: Iterable[str] = ()
    rules: Iterable[AuditRule] = ()

    def __post_init__(self) -> None:
        for name in ("reads", "skip"):
            if isinstance(value := getattr(self, name), str):
                raise ConfigurationError(f"AuditPolicy({name}={value!r}): give a list of strings, [{value!r}].")
            object.__setattr__(self, name, tuple(value))
        rules = [self.rules] if isinstance(self.rules, AuditRule) else list(self.rules)
        if strange := [rule for rule in rules if not isinstance(rule, AuditRule)]:
            raise ConfigurationError(f"AuditPolicy(rules=...): {strange[0]!r} is no AuditRule.")
        object.__setattr__(self, "rules", tuple(rules))

    def skips(self, path: str) -> bool:
        """Whether nothing is ever audited at this path."""
        for pattern in self.skip:  # noqa: SIM110 - most trails have none, and any() would make a generator each time
            if fnmatchcase(path, pattern):
                return True
        return False

    def audits(self, method: str, path: str, route: Route | None, outcome: str) -> bool:
        """Whether this request leaves an event."""
        if self.skips(path):
            return False
        if method not in SAFE or outcome == Outcome.DENIED:
            return True
        if route is None or method == "OPTIONS":  # which the framework answers by itself, and reads nothing
            return False
        return self._naming(method, route) is not None or (method in {"GET", "HEAD"} and self._reads(route))

    def name(self, method: str, route: Route | None) -> tuple[str, str | None, str | None]:
        """The action, resource type and resource id of a request."""
        if route is None:
            return f"{method} {UNROUTED}", None, None
        naming = self._naming(method, route) or Naming()
        kind, identifier = _resource(route) if naming.resource is None else _fill(naming.resource, route)
        return naming.action or f"{method} {route.template}", kind, identifier

    def stated(self) -> dict[str, Any]:
        """What the trail keeps of it, so that a report can tell what was never audited."""
        rules = [
            {"route": one.route, "action": one.action, "resource": one.resource, "methods": sorted(one.methods)}
            for one in self.rules
        ]
        return {"reads": list(self.reads), "skip": list(self.skip), "rules": rules}

    def _naming(self, method: str, route: Route) -> Naming | AuditRule | None:
        if marked := naming_of(route.endpoint, method):
            return marked
        for rule in self.rules:
            if rule.matches(method, route.template):
                return rule
        return None

    def _reads(self, route: Route) -> bool:
        return any(
            fnmatchcase(route.template, wanted) if wanted.startswith("/") else _resource(route)[0] == wanted
            for wanted in self.reads
        )


def outcome_of(status: int) -> Outcome:
    """Below 400 success, 401 and 403 denied, the rest failure."""
    if status < 400:
        return Outcome.SUCCESS
    return Outcome.DENIED if status in {401, 403} else Outcome.FAILURE


def outcome_of_code(code: int, *, said_here: bool) -> Outcome:
    """How a WebSocket that ends with this code went (RFC 6455 7.4, and IANA's registry of what came later).

    Only who serves it can deny something: a client says what it likes.
    """
    if said_here and code in _DENIALS:
        return Outcome.DENIED
    return Outcome.FAILURE if code in _FAILURES else Outcome.SUCCESS


@lru_cache(maxsize=4096)
def resource_name(name: str) -> str:
    """The one name of a resource: a class ``InvoiceLine`` is ``invoice_line``, everywhere."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def is_about(pattern: str, resource_type: str) -> bool:
    """Whether a route's template or pattern, or a path's, has this type of resource in it."""
    return any(_singular(segment) == resource_type for segment in pattern.split("/"))


def _resource(route: Route) -> tuple[str | None, str | None]:
    """The last parameter of the route names the resource: /patients/{patient_id}/notes is about a patient."""
    if route.resource is not None:
        return route.resource
    kind, parameter = _resource_of_template(route.template)
    value = None if parameter is None else route.parameters.get(parameter)
    return kind, None if value is None else str(value)


@lru_cache(maxsize=4096)
def _resource_of_template(template: str) -> tuple[str | None, str | None]:
    segments = [segment for segment in template.split("/") if segment]
    for place in range(len(segments) - 1, -1, -1):
        if match := _PARAMETER.fullmatch(segments[place]):
            before = segments[max(place - 1, 0)]  # the parameter itself where nothing stands before it
            return _singular(before if not _PARAMETER.fullmatch(before) else match[1].removesuffix("_id")), match[1]
    return (_singular(segments[-1]) if segments else None), None


def _singular(word: str) -> str:
    """``patients`` is about a ``patient``; a decorator says what this guess gets wrong."""
    word = resource_name(word.replace("-", "_"))
    for plural, singular in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(plural) and len(word) > len(plural) + 1:
            return word.removesuffix(plural) + singular
    is_plural = len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural else word


def _fill(resource: str, route: Route) -> tuple[str, str | None]:
    """``patient:{patient_id}`` with the request's parameters; one that it has not becomes empty."""
    kind, _, identifier = resource.partition(":")
    names = _PARAMETER.findall(identifier)
    if not all(name in route.parameters for name in names):
        _warn_of_unknown(resource, route.template, tuple(route.parameters))
    filled = _PARAMETER.sub(lambda match: str(route.parameters.get(match[1], "")), identifier)
    return kind, filled or None


@lru_cache(maxsize=4096)
def _warn_of_unknown(resource: str, template: str, names: tuple[str, ...]) -> None:
    """Once for each route."""
    known = ", ".join(f"{{{name}}}" for name in names) or "none"
    logger.warning(
        "@audited(resource=%r) names a parameter that the route %s has not (it has %s): its events name no such id.",
        resource, template, known,
    )  # fmt: skip
