"""Objects that are written by their primary keys, many at once and without the unit of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.orm import Mapper

from audit_core.orm.changes import created, updated
from audit_core.orm.sqlalchemy.mapped import Key, mapped, read, take_write_lock
from audit_core.orm.sqlalchemy.target import ClassChange


class KeyedUpdate:
    """The rows of an UPDATE by primary key, as they are before it; ``told`` compares them with what they are then."""

    def __init__(
        self, connection: Connection, mapper: Mapper[Any], mappings: Sequence[Mapping[str, Any]], also: Sequence[str]
    ) -> None:
        fields = mapped(mapper)
        self._connection, self._mapper = connection, mapper
        self._keys = list(dict.fromkeys(key for one in mappings if (key := _key(one, fields.key))))
        written = {name for one in mappings for name in one} | set(also)
        if written <= fields.columns.keys():
            told = written | fields.computed | {_kind(mapper)}
            self._names = [name for name in fields.columns if name in told]
        else:  # a hybrid or a composite, which may write any column
            self._names = list(fields.columns)
        take_write_lock(connection, mapper, delete=False)
        self._before = read(connection, mapper, self._keys, self._names, lock=True)

    def told(self) -> Iterator[ClassChange]:
        """What the rows hold now that they did not hold before."""
        after = read(self._connection, self._mapper, self._keys, self._names)
        for key, old in self._before.items():
            mapper = _mapper_of(self._mapper, old)
            fields = mapped(mapper)
            change = updated(fields.resource_type, key, old, after.get(key, old), fields.key)
            if change is not None:
                yield mapper, change


def created_by_key(connection: Connection, mapper: Mapper[Any], keys: Sequence[Key]) -> Iterator[ClassChange]:
    """The rows with these keys, which were not there before."""
    found = read(connection, mapper, keys, list(mapped(mapper).columns))
    for key in keys:
        if (new := found.get(key)) is None:  # a trigger kept it out
            continue
        own = _mapper_of(mapper, new)
        fields = mapped(own)
        yield own, created(fields.resource_type, key, new, fields.key)


def _key(values: Mapping[str, Any], names: Sequence[str]) -> Key:
    return tuple(values[name] for name in names) if all(name in values for name in names) else ()


def _kind(mapper: Mapper[Any]) -> str | None:
    """The field that names the class of a row."""
    on: Any = mapper.polymorphic_on
    found = None if on is None else mapper.get_property_by_column(on)
    return found.key if found else None


def _mapper_of(mapper: Mapper[Any], values: Mapping[str, Any]) -> Mapper[Any]:
    kind = _kind(mapper)
    return mapper.polymorphic_map.get(values.get(kind), mapper) if kind else mapper
