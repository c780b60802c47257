"""Secrets in the paths of one route, and in its parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from audit_core.redaction.free_text import redact_credentials
from audit_core.redaction.rules import REDACTED, Rules, Treatment
from audit_core.redaction.urls import leads_to_secret, redact_unrouted

_PARAMETER = re.compile(r"\{(\w+)\}")


class RouteLook:
    """What is secret in the paths of one template, with resources of this type: known before any of them comes."""

    def __init__(self, rules: Rules, template: str, scope: str | None) -> None:
        self._rules, self._template, self._scope = rules, template, scope
        self._literals = _PARAMETER.split(template)[::2]
        self._pattern = re.compile("([^/]+)".join(map(re.escape, self._literals)))
        self._leading = _leading_words(template)
        self._treatments = {name: self._treatment(name, word) for name, word in self._leading.items()}
        # Of each parameter in its place: its name, and of what the segment before it says that it is the id.
        self._places = [(name, self._leading[name].removesuffix("s")) for name in _PARAMETER.findall(template)]

    def path(self, root: str, path: str, parameters: Mapping[str, Any]) -> str:
        """A path below its root without the values of the route's sensitive parameters."""
        if match := self._pattern.fullmatch(path):
            path = redact_credentials(self._without_secrets(match.groups()), self._rules)
        elif any(self._treatments.values()):
            path = self._template  # the values cannot be told apart
        else:  # a parameter that takes several segments: a file, or an application of its own that is mounted there
            path = redact_unrouted(path, self._rules)
        secrets = {str(value) for name, value in parameters.items() if self._of(name) == "replace"}
        whole = f"{root}{path}"
        if secrets:  # the root may have parameters too
            whole = "/".join(REDACTED if segment in secrets else segment for segment in whole.split("/"))
        return whole

    def parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A route's parameters as they name a resource."""
        return {name: self._parameter(name, value) for name, value in parameters.items()}

    def _parameter(self, name: str, value: Any) -> Any:
        if treatment := self._of(name):
            return self._rules.apply_to_text(treatment, str(value))
        if not isinstance(value, str):
            return value
        return redact_unrouted(value, self._rules) if "/" in value else redact_credentials(value, self._rules)

    def _of(self, name: str) -> Treatment | None:
        return self._treatments[name] if name in self._treatments else self._treatment(name, "")

    def _treatment(self, name: str, leading: str) -> Treatment | None:
        """By its own name, or by what it is called where a secret may be expected: ``key`` after ``/reset/``."""
        found = self._rules.of(name, self._scope, "path")
        if found or not self._rules.names_secret_inside(name) or not leads_to_secret(leading, self._rules):
            return found
        return "replace"

    def _without_secrets(self, values: Sequence[str]) -> str:
        out = self._literals[0]
        for (name, kind), value, literal in zip(self._places, values, self._literals[1:], strict=True):
            treatment = self._treatments[name]
            if treatment is None and self._rules.hides_id(value, kind, ()):
                treatment = "replace"
            out += (self._rules.apply_to_text(treatment, value) if treatment else value) + literal
        return out


def _leading_words(template: str) -> dict[str, str]:
    """The last fixed segment before each parameter: ``tokens`` of ``/users/{user}/tokens/{key}``."""
    words, word = {}, ""
    for segment in template.split("/"):
        if names := _PARAMETER.findall(segment):
            words.update(dict.fromkeys(names, word))
        elif segment:
            word = segment
    return words
