"""How Django routed a request, in the words of every framework."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.contrib.admindocs.utils import (
    remove_non_capturing_groups,
    replace_metacharacters,
    replace_named_groups,
    replace_unnamed_groups,
)
from django.http import HttpRequest
from django.urls import ResolverMatch

from audit_core.policy import Route, naming_of, resource_name

_PARAMETER = re.compile(r"<(?:[^<>:]+:)?(\w+)>")
_REGEX = re.compile(r"[\^$(\\]")


def route_of(request: HttpRequest) -> Route | None:
    """The route of a request that has passed the resolver; None where nothing fitted."""
    match = request.resolver_match
    if match is None:
        return None
    parameters = match.kwargs or ({"var": match.args[-1]} if match.args else {})
    endpoint = _endpoint(match.func, request.method or "")
    return Route(template_of(match.route or ""), parameters, endpoint, _resource_of_admin(match))


def _resource_of_admin(match: ResolverMatch) -> tuple[str, str | None] | None:
    """What a page of the admin is about: its paths say ``add``, and ``invoiceline`` for an ``InvoiceLine``."""
    admin = getattr(match.func, "model_admin", None)
    if admin is None:
        return None
    from django.contrib.admin.utils import unquote

    key = match.kwargs.get("object_id", match.kwargs.get("id"))
    return resource_name(admin.model._meta.concrete_model.__name__), None if key is None else unquote(key)


@lru_cache(maxsize=4096)
def template_of(route: str) -> str:
    """``patients/<int:patient_id>/`` and ``^patients/(?P<patient_id>[0-9]+)/$`` are ``/patients/{patient_id}/``.

    A group of a regular expression that has no name is ``{var}``.
    """
    if _REGEX.search(route):
        route = replace_unnamed_groups(replace_named_groups(remove_non_capturing_groups(route)))
        route = replace_metacharacters(route).replace("\\", "")
    return "/" + _PARAMETER.sub(r"{\1}", route).removeprefix("/")


def _endpoint(view: Any, method: str) -> object:
    """The view, or the marked method of a REST framework's view set, which has names of its own for methods."""
    actions: dict[str, str] = getattr(view, "actions", None) or {}
    handler = getattr(getattr(view, "cls", None), actions.get(method.lower(), ""), None)
    return handler if handler is not None and naming_of(handler, method) else view
