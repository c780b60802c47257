"""How Starlette or FastAPI routed a request: read from the scope, where the router leaves what it chose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, Host, Match, Mount
from starlette.types import Scope

from audit_core.policy import Route

_MOUNTS = (Mount, Host)


def route_of(scope: Scope, root_path: str) -> Route | None:
    """The route, with ``root_path`` being that of the application itself. None where nothing matches.

    Where the router was not reached (a middleware answered, or passed on a copy of the scope), what it would choose.
    """
    chosen = _chosen(scope)
    if chosen is None:
        try:
            found = _match(_routes(scope), _afresh(scope, root_path))
        except Exception:  # noqa: BLE001 - a converter that raises on this path has raised before us
            return None
        if found is None:
            return None
        scope, chosen = found, found["route"]
    is_mount = isinstance(chosen, _MOUNTS)
    parameters: dict[str, Any] = scope.get("path_params", {})
    mounted = scope.get("root_path", "").removeprefix(root_path)
    if mounted:
        own = {} if is_mount else getattr(chosen, "param_convertors", {})
        mounted = _template(mounted, {name: value for name, value in parameters.items() if name not in own})
    path = "/{path}" if is_mount else getattr(chosen, "path_format", "")
    return Route(mounted + path, parameters, scope.get("endpoint"))


def _chosen(scope: Scope) -> Any:
    """The route of the endpoint in the scope. FastAPI keeps the one with its routers' prefixes elsewhere."""
    if "endpoint" not in scope:
        return None
    context = scope.get("fastapi", {}).get("effective_route_context")
    for route in (getattr(context, "starlette_route", None), context, scope.get("route")):
        if route is not None and scope["endpoint"] is getattr(route, "endpoint", getattr(route, "app", None)):
            return route
    return None


def _routes(scope: Scope) -> Iterable[BaseRoute]:
    return getattr(scope.get("router") or scope.get("app"), "routes", ())


def _afresh(scope: Scope, root_path: str) -> Scope:
    """The scope as the outermost router got it."""
    names = ("type", "method", "path", "headers")
    return {**{name: scope[name] for name in names if name in scope}, "root_path": root_path}


def _match(routes: Iterable[Any], scope: Scope) -> Scope | None:
    """The scope as routing would leave it."""
    partial: Scope | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match is Match.NONE:
            continue
        inner: Any = {**scope, **child, "route": getattr(route, "starlette_route", None) or route}
        if hasattr(route, "effective_route_contexts"):  # FastAPI's included routers
            inner = _match(route.effective_route_contexts(), scope) or inner
        elif below := getattr(route, "routes", None):
            inner = _match(below, inner) or inner
        if match is Match.FULL:
            return inner  # type: ignore[no-any-return]
        partial = partial or inner
    return partial


def _template(mounted: str, parameters: dict[str, Any]) -> str:
    """The path of the mounts with the names of their parameters, which it has only with their values."""
    segments = mounted.split("/")
    for name, value in reversed(parameters.items()):
        for place in range(len(segments) - 1, 0, -1):
            if segments[place] == str(value):
                segments[place] = f"{{{name}}}"
                break
    return "/".join(segments)
