"""What a summary says of a statement: its condition with names where its values were, and the values by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Model, QuerySet, Value
from django.db.models.expressions import Col
from django.db.models.lookups import Lookup
from django.db.models.sql import Query
from django.db.models.sql.where import WhereNode

from audit_core.orm.bulk import Summary
from audit_django.capture.links import is_link, owner_of
from audit_django.rows import kind_of

CASCADE = "deleted or changed along with others"
_LINKS = {"create": "link", "delete": "unlink"}


def summary_of(action: str, model: type[Model], source: Any) -> Summary:
    """Of no rows yet. ``source`` is a compiler or a query set; None where there is no condition to tell."""
    if is_link(model):
        action, model = _LINKS.get(action, action), owner_of(model)
    query = getattr(source, "query", None)
    if query is None or hasattr(query, "objs"):
        return Summary(action, kind_of(model), 0, CASCADE if action == "delete" else "")
    parameters: dict[str, list[Any]] = {}
    criteria = _text(query.where, parameters, "value")
    written = {field.attname: _written(field, value) for field, _, value in _values(query)}
    told = {name: values[0] if len(values) == 1 else values for name, values in parameters.items()}
    return Summary(action, kind_of(model), 0, criteria, told, written)


def _values(query: Any) -> Iterator[tuple[Any, Any, Any]]:
    yield from getattr(query, "values", ())
    for several in getattr(query, "related_updates", {}).values():
        yield from several


def _written(field: Any, value: Any) -> Any:
    """A value as it is; an expression as its text, with ``:name`` where it has values."""
    if hasattr(value, "resolve_expression"):
        return _text(value, {}, field.attname)
    return getattr(value, "pk", value)


def _text(node: Any, parameters: dict[str, list[Any]], name: str) -> str:
    """``parameters`` collects the values, each by the name of the field that it is compared with."""
    if isinstance(node, WhereNode):
        parts = [_text(child, parameters, name) for child in node.children]
        joined = f" {node.connector} ".join(parts)
        joined = f"({joined})" if len(parts) > 1 else joined
        return f"NOT {joined}" if node.negated else joined
    if isinstance(node, Lookup):
        name = _name(node.lhs) or name
        return f"{_text(node.lhs, parameters, name)} {node.lookup_name} {_text(node.rhs, parameters, name)}"
    if isinstance(node, Col):
        return node.target.attname
    if isinstance(node, Query | QuerySet):
        query: Any = node if isinstance(node, Query) else node.query
        return f"({kind_of(query.model)}: {_text(query.where, parameters, name)})"
    if hasattr(node, "get_source_expressions") and not isinstance(node, Value):
        sources = [_text(one, parameters, name) for one in node.get_source_expressions() if one is not None]
        inner = f" {node.connector} " if hasattr(node, "connector") else ", "
        kind = "" if hasattr(node, "connector") else type(node).__name__
        return f"{kind}({inner.join(sources)})"
    value = node.value if isinstance(node, Value) else node
    parameters.setdefault(name, []).append(getattr(value, "pk", value))
    return f":{name}"


def _name(node: Any) -> str | None:
    """Of the field that a side of a comparison is about."""
    if isinstance(node, Col):
        return str(node.target.attname)
    sources = node.get_source_expressions() if hasattr(node, "get_source_expressions") else []
    return next((found for one in sources if (found := _name(one))), None)
