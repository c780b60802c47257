"""The table of a many-to-many relationship, where a statement writes it: its rows are links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.orm import Mapper, RelationshipProperty

from audit_core.orm.changes import linked, unlinked
from audit_core.orm.sqlalchemy.mapped import Key, mapped
from audit_core.orm.sqlalchemy.target import ClassChange, Row

Pairs = Iterable[tuple[ColumnElement[Any], ColumnElement[Any]]]


class Association:
    """Such a table as a target: a row that comes is a link, one that goes is unlinked."""

    by_class = False
    computed: frozenset[int] = frozenset()
    kind = None

    def __init__(self, relationship: RelationshipProperty[Any], table: Table) -> None:
        self.table = self.origin = table
        self.mapper: Mapper[Any] = relationship.parent
        self.columns: list[ColumnElement[Any]] = list(table.c)
        self._field = relationship.key
        self._owner = _places(relationship.parent, relationship.synchronize_pairs, table)
        self._other = _places(relationship.mapper, relationship.secondary_synchronize_pairs or (), table)
        self.key = (*self._owner, *self._other) if self._owner and self._other else ()

    @property
    def mappers(self) -> list[Mapper[Any]]:
        """The class whose links they are."""
        return [self.mapper]

    @property
    def resource_type(self) -> str:
        """What the links belong to."""
        return mapped(self.mapper).resource_type

    def names(self, places: Iterable[int]) -> list[str]:
        """The columns at these places."""
        return [str(self.columns[place].key) for place in places]

    def place(self, name: object) -> int | None:
        """Where a column stands in a row."""
        key = name if isinstance(name, str) else getattr(name, "key", None)
        return next((place for place, column in enumerate(self.columns) if column.key == key), None)

    def key_of(self, row: Row) -> Key:
        """The keys at both ends."""
        return tuple(row[place] for place in self.key)

    def created(self, row: Row) -> ClassChange:
        """A link that was not there."""
        return self._told(linked, row)

    def deleted(self, row: Row) -> ClassChange:
        """A link that is gone."""
        return self._told(unlinked, row)

    def updated(self, old: Row | None, new: Mapping[int, Any]) -> list[ClassChange]:
        """A link that leads from or to another object now is another link."""
        if old is None:
            return [self.created(new)]
        return [] if self.key_of(old) == self.key_of(new) else [self.deleted(old), self.created(new)]

    def _told(self, change: Any, row: Row) -> ClassChange:
        fields = mapped(self.mapper)
        owner, other = (tuple(row[place] for place in places) for places in (self._owner, self._other))
        return self.mapper, change(fields.resource_type, owner, self._field, [other], fields.key)


def _places(mapper: Mapper[Any], pairs: Pairs, table: Table) -> tuple[int, ...]:
    """Where the primary key of ``mapper`` stands in a row of the table; nothing where it is not there."""
    places: dict[object, int] = {column: place for place, column in enumerate(table.c)}
    by_origin = {origin: places[column] for origin, column in pairs if column in places}
    found = [by_origin[column] for column in mapper.primary_key if column in by_origin]
    return tuple(found) if len(found) == len(mapper.primary_key) else ()
