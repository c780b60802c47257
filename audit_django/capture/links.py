"""Many-to-many links: a row of an automatic table is told as a link of the object whose class declares the field.

From whichever side it was made, a link is one event all the same, about the end that declares it. The rows of a
``through`` model that an application has made by hand are resources of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from django.db.models import Model

from audit_core.orm.changes import Change, linked, unlinked
from audit_django.capture.row import Row
from audit_django.rows import Key, key_fields, key_of, kind_of


class _Ends(NamedTuple):
    owner: type[Model]
    field: str
    source: str  # the column attributes of the link's table
    target: str


def is_link(model: type[Model]) -> bool:
    """Whether its table is the automatic one of a many-to-many field."""
    return isinstance(model._meta.auto_created, type)


def links(rows: Iterable[Row]) -> Iterator[Change]:
    """One change for each object and field that lost links, then one for each that got some."""
    lost: dict[tuple[_Ends, Key], list[Key]] = {}
    got: dict[tuple[_Ends, Key], list[Key]] = {}
    for row in rows:
        ends = _ends(row.model)
        if row.old == row.new:
            continue
        for values, found in ((row.old, lost), (row.new, got)):
            if values:
                found.setdefault((ends, key_of(values[ends.source])), []).append(key_of(values[ends.target]))
    yield from _changes(unlinked, lost)
    yield from _changes(linked, got)


def _changes(change: Callable[..., Change], found: dict[tuple[_Ends, Key], list[Key]]) -> Iterator[Change]:
    for (ends, source), targets in found.items():
        yield change(kind_of(ends.owner), source, ends.field, sorted(targets, key=_place), key_fields(ends.owner))


def _place(key: Key) -> tuple[bool, Any, str]:
    """Keys may be of a class whose values have no order."""
    value = key[0]
    return (False, value, "") if isinstance(value, int) else (True, 0, str(value))


def owner_of(model: type[Model]) -> type[Model]:
    """The class that declares the field."""
    return _ends(model).owner


def field_of(model: type[Model]) -> str:
    """What the field is called there."""
    return _ends(model).field


@lru_cache(maxsize=1024)
def _ends(through: type[Model]) -> _Ends:
    owner: Any = through._meta.auto_created
    field = next(one for one in owner._meta.local_many_to_many if one.remote_field.through is through)
    names: Any = (field.m2m_field_name(), field.m2m_reverse_field_name())
    source, target = (str(vars(through._meta.get_field(name))["attname"]) for name in names)
    return _Ends(owner._meta.concrete_model, field.name, source, target)
