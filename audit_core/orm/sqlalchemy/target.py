"""What the rows of a table are as objects of the class that is mapped to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, FromClause
from sqlalchemy.orm import Mapper

from audit_core.orm.changes import Change, created, deleted, updated
from audit_core.orm.sqlalchemy.mapped import Key, mapped

Row = Mapping[int, Any] | Sequence[Any]  # by the place of the column
ClassChange = tuple[Mapper[Any], Change]


class Target:
    """One table, as a statement names it (perhaps by an alias), and the class that the statement is about.

    A row is told as the class that its discriminator names, with the fields of that class that lie in this table.
    """

    def __init__(self, mapper: Mapper[Any], table: FromClause, *, by_class: bool = True) -> None:
        self.mapper, self.table, self.origin = mapper, table, mapper.local_table
        self.by_class = by_class  # the statement names the class, not the table
        attributes = [p for m in mapper.self_and_descendants for p in m.column_attrs]
        origins = {c for p in attributes for c in p.columns}
        found = [(c, table.corresponding_column(c)) for c in mapper.local_table.c if c in origins]
        self.columns: list[ColumnElement[Any]] = [c for _, c in found if c is not None]
        self._place = {origin: place for place, (origin, _) in enumerate(found)}
        self._fields: dict[Mapper[Any], dict[str, int]] = {}

    @cached_property
    def key(self) -> tuple[int, ...]:
        """Where the primary key stands in a row; nothing where it is not in this table."""
        places = [self.fields(self.mapper).get(name) for name in mapped(self.mapper).key]
        return tuple(place for place in places if place is not None) if None not in places else ()

    @cached_property
    def computed(self) -> frozenset[int]:
        """The columns that an UPDATE may change without being told to."""
        return frozenset(place for c, place in self._place.items() if c.onupdate is not None or c.server_onupdate)

    @property
    def mappers(self) -> list[Mapper[Any]]:
        """The classes that rows may be told as."""
        return list(self.mapper.self_and_descendants)

    @property
    def resource_type(self) -> str:
        """What the statement is about."""
        return mapped(self.mapper).resource_type

    def fields(self, mapper: Mapper[Any]) -> dict[str, int]:
        """Where the fields of this class stand in a row."""
        if mapper not in self._fields:
            names = {p.key: self._place[c] for p in mapper.column_attrs for c in p.columns if c in self._place}
            self._fields[mapper] = names
        return self._fields[mapper]

    def names(self, places: Iterable[int]) -> list[str]:
        """The fields at these places, of whichever class has them."""
        known = {place: name for m in reversed(self.mappers) for name, place in self.fields(m).items()}
        return [known[place] for place in places]

    def place(self, name: object) -> int | None:
        """Where a column stands in a row, given as a statement gives it: itself, or by its name."""
        if isinstance(name, str):
            return self.fields(self.mapper).get(name, self._by_column_name.get(name))
        column: Any = getattr(name, "__clause_element__", lambda: name)()
        return self._place.get(column, self._by_column_name.get(getattr(column, "key", "")))

    @cached_property
    def _by_column_name(self) -> dict[str, int]:
        return {c.key: place for c, place in self._place.items()}

    def key_of(self, row: Row) -> Key:
        """The primary key of a row."""
        return tuple(row[place] for place in self.key)

    def created(self, row: Row) -> ClassChange:
        """``row`` was not there."""
        mapper = self._mapper_of(row)
        fields = mapped(mapper)
        return mapper, created(fields.resource_type, self.key_of(row), self._values(mapper, row), fields.key)

    def deleted(self, row: Row) -> ClassChange:
        """``row`` is gone."""
        mapper = self._mapper_of(row)
        fields = mapped(mapper)
        return mapper, deleted(fields.resource_type, self.key_of(row), self._values(mapper, row), fields.key)

    def updated(self, old: Row | None, new: Mapping[int, Any]) -> list[ClassChange]:
        """``new`` is what was written, by the places of the columns; ``old`` is None where nobody knows it.

        That is a row that somebody else committed between our reading and the writing.
        """
        if old is None:
            old = dict.fromkeys(range(len(self.columns))) | {place: new[place] for place in self.key}
        mapper = self._mapper_of(old)
        fields = mapped(mapper)
        names = [(name, place) for name, place in self.fields(mapper).items() if place in new]
        before, after = {n: old[p] for n, p in names}, {n: new[p] for n, p in names}
        change = updated(fields.resource_type, self.key_of(new), before, after, fields.key)
        return [] if change is None else [(mapper, change)]

    def _values(self, mapper: Mapper[Any], row: Row) -> dict[str, Any]:
        return {name: row[place] for name, place in self.fields(mapper).items()}

    @cached_property
    def kind(self) -> int | None:
        """Where the discriminator stands in a row, which says as which class it is told."""
        on: Any = self.mapper.polymorphic_on
        return self._place.get(on)

    def _mapper_of(self, row: Row) -> Mapper[Any]:
        if self.kind is None:
            return self.mapper
        found: Mapper[Any] = self.mapper.polymorphic_map.get(row[self.kind], self.mapper)
        return found if found.isa(self.mapper) else self.mapper
