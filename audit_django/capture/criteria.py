"""What a summary says of a statement: its condition with names where its values were, and the values by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model, QuerySet, Value
from django.db.models.constants import OnConflict
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
    written = model
    if is_link(model):
        action, model = _LINKS.get(action, action), owner_of(model)
    query = getattr(source, "query", None)
    if query is None or hasattr(query, "objs"):
        return Summary(action, kind_of(model), 0, CASCADE if action == "delete" else "")
    text = _Text(written)
    criteria = text.of(query.where, "value")
    values = {field.attname: _written(field, value, text) for field, _, value in _values(query)}
    told = {name: found[0] if len(found) == 1 else found for name, found in text.parameters.items()}
    return Summary(action, kind_of(model), 0, criteria, told, values)


def conflict_of(query: Any) -> str:
    """What an upsert does with the rows in its way, in names of fields: a summary of it is called a create."""
    if query.on_conflict != OnConflict.UPDATE:
        return ""
    found, written = (", ".join(field.attname for field in some) for some in (query.unique_fields, query.update_fields))
    return f"on conflict ({found}) update ({written})"


def _values(query: Any) -> Iterator[tuple[Any, Any, Any]]:
    yield from getattr(query, "values", ())
    for several in getattr(query, "related_updates", {}).values():
        yield from several


def _written(field: Any, value: Any, text: _Text) -> Any:
    """A value as it is; an expression as its text, with ``:name`` where it has values."""
    if hasattr(value, "resolve_expression"):
        return _Text(text.model).of(value, field.attname)
    return getattr(value, "pk", value)


@dataclass(slots=True)
class _Text:
    """What Django's own objects say, as text with names where the values were."""

    model: type[Model]  # whose fields have no other name than their own
    parameters: dict[str, list[Any]] = field(default_factory=dict)  # by the field that they are compared with

    def of(self, node: Any, name: str) -> str:
        """``name`` is that of values that are compared with no field."""
        if isinstance(node, WhereNode):
            parts = [self.of(child, name) for child in node.children]
            joined = f" {node.connector} ".join(parts)
            joined = f"({joined})" if len(parts) > 1 else joined
            return f"NOT {joined}" if node.negated else joined
        if isinstance(node, Lookup):
            name = self._name(node.lhs) or name
            return f"{self.of(node.lhs, name)} {node.lookup_name} {self.of(node.rhs, name)}"
        if isinstance(node, Col):
            return node.target.attname
        if isinstance(node, Query | QuerySet):
            query: Any = node if isinstance(node, Query) else node.query
            return f"({kind_of(query.model)}: {self.of(query.where, name)})"
        if hasattr(node, "get_source_expressions") and not isinstance(node, Value):
            sources = [self.of(one, name) for one in node.get_source_expressions() if one is not None]
            inner = f" {node.connector} " if hasattr(node, "connector") else ", "
            kind = "" if hasattr(node, "connector") else type(node).__name__
            return f"{kind}({inner.join(sources)})"
        value = node.value if isinstance(node, Value) else node
        self.parameters.setdefault(name, []).append(getattr(value, "pk", value))
        return f":{name}"

    def _name(self, node: Any) -> str | None:
        """Of the field that a side of a comparison is about; another model's has its resource type before it."""
        if isinstance(node, Col):
            field = node.target
            own = issubclass(self.model, field.model)
            return str(field.attname) if own else f"{kind_of(field.model)}.{field.attname}"
        sources = node.get_source_expressions() if hasattr(node, "get_source_expressions") else []
        return next((found for one in sources if (found := self._name(one))), None)
