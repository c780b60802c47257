"""From rows of tables to changes of resources: the rows of an inherited object are one, and a link is no resource."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db.models import Model

from audit_core.orm.changes import Change, created, deleted, updated
from audit_django.capture.links import is_link, links
from audit_django.rows import Key, Values, concrete_fields, key_fields, kind_of


@dataclass(slots=True)
class Row:
    """One row of one table, before and after a statement. The key is the one that it has after it."""

    action: str  # create, update or delete
    model: type[Model]  # the concrete one
    key: Key
    old: Values
    new: Values


def told(rows: Sequence[Row]) -> Iterator[Change]:
    """The changes that these rows are, in their order."""
    yield from links(row for row in rows if is_link(row.model))
    for row in rows:
        if not is_link(row.model) and (change := _change(row)):
            yield change


def _change(row: Row) -> Change | None:
    names = {field.attname for field in concrete_fields(row.model)}
    old, new = ({name: side[name] for name in side if name in names} for side in (row.old, row.new))
    kind, named = kind_of(row.model), key_fields(row.model)
    if row.action == "create":
        return created(kind, row.key, new, named)
    return deleted(kind, row.key, old, named) if row.action == "delete" else updated(kind, row.key, old, new, named)


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
