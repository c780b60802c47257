"""From rows of tables to changes of resources: the rows of an inherited object are one, and a link is no resource."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from django.db.models import Model

from audit_core.orm.changes import Change, created, deleted, updated
from audit_django.capture.links import is_link, links
from audit_django.capture.row import Row
from audit_django.rows import Key, Values, concrete_fields, key_fields, kind_of


def told(rows: Sequence[Row]) -> Iterator[Change]:
    """The changes that these rows are, in their order."""
    models = {row.model: is_link(row.model) for row in rows}
    if any(models.values()):
        yield from links(row for row in rows if models[row.model])
    kinds = {model: _Kind.of(model) for model, link in models.items() if not link}
    for row in rows:
        if (kind := kinds.get(row.model)) and (change := kind.change(row)):
            yield change


class _Kind(NamedTuple):
    """What is the same for all rows of a model."""

    resource_type: str
    fields: frozenset[str]
    key_fields: Key

    @classmethod
    def of(cls, model: type[Model]) -> _Kind:
        fields = frozenset(field.attname for field in concrete_fields(model))
        return cls(kind_of(model), fields, key_fields(model))

    def change(self, row: Row) -> Change | None:
        if row.action == "create":
            return created(self.resource_type, row.key, self._own(row.new), self.key_fields)
        if row.action == "delete":
            return deleted(self.resource_type, row.key, self._own(row.old), self.key_fields)
        return updated(self.resource_type, row.key, self._own(row.old), self._own(row.new), self.key_fields)

    def _own(self, values: Values) -> Values:
        if values.keys() <= self.fields:
            return values
        return {name: value for name, value in values.items() if name in self.fields}


def joined(rows: Sequence[Row]) -> Sequence[Row]:
    """An object's own row takes in those of its parents' tables."""
    if not any(row.model._meta.parents for row in rows):
        return rows
    places = {(row.action == "delete", row.model, row.key): row for row in rows}
    taken: set[int] = set()
    for row in sorted(rows, key=lambda row: -len(row.model._meta.all_parents)):
        if id(row) not in taken:
            _take_in(row, places, taken)
    return [row for row in rows if id(row) not in taken]


def _take_in(row: Row, places: dict[tuple[bool, type[Model], Key], Row], taken: set[int]) -> None:
    old, new = row.old, row.new
    for parent, link in row.model._meta.parents.items():
        if link is None or link.model is not row.model:  # a proxy's parent; or a grandparent, which the parent takes in
            continue
        key = row.key if link.primary_key else ((row.new or row.old).get(link.attname),)
        one = places.get((row.action == "delete", parent._meta.concrete_model or parent, key))
        if one is not None and id(one) not in taken:
            _take_in(one, places, taken)
            taken.add(id(one))
            old, new = {**one.old, **old}, {**one.new, **new}
    row.old, row.new = old, new
