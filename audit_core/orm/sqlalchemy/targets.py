"""Which mapped class, or which links, a statement writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.mapper import _all_registries

from audit_core.orm.sqlalchemy.associations import Association
from audit_core.orm.sqlalchemy.links import place_in_table
from audit_core.orm.sqlalchemy.mapped import mapped
from audit_core.orm.sqlalchemy.target import Target

Written: TypeAlias = Target | Association


def target_of(statement: Any) -> Written | None:
    """What an INSERT, UPDATE or DELETE writes; None for a table that no class knows."""
    table: Any = getattr(statement, "table", None)
    if table is None:
        return None
    entity = table._annotations.get("parententity")  # noqa: SLF001 - how a statement names a class
    if entity is not None:
        return Target(entity.mapper, table if entity.is_aliased_class else entity.mapper.local_table)
    origin = table
    while not isinstance(origin, Table):
        if (origin := getattr(origin, "element", None)) is None:  # an alias has one
            return None
    if (mapper := _mapper_of(origin)) is not None:
        return Target(mapper, table, by_class=False)
    return _association_of(origin) if table is origin else None


def field_elsewhere(column: Any) -> str:
    """``patient.ssn`` for a column of a mapped class or of its table, by whatever alias; else the column's name."""
    entity, name = (column._annotations.get(key) for key in ("parententity", "proxy_key"))  # noqa: SLF001 - as above
    if entity is not None and name:
        return f"{mapped(entity.mapper).resource_type}.{name}"
    table = column.table
    while not isinstance(table, Table) and hasattr(table, "element"):
        table = table.element
    mapper = _mapper_of(table) if isinstance(table, Table) else None
    origin = None if mapper is None else table.columns.get(column.key)
    if mapper is None or origin is None or all(origin is not one for one in mapper.columns.values()):
        return str(column.key)
    return f"{mapped(mapper).resource_type}.{mapper.get_property_by_column(origin).key}"


def _mapper_of(table: Table) -> Mapper[Any] | None:
    if table not in _mappers:
        found = [mapper for mapper in every_configured_mapper() if mapper.local_table is table]
        roots = [mapper for mapper in found if mapper.inherits is None or mapper.inherits.local_table is not table]
        if not roots:
            return None
        _mappers[table] = roots[0]
    return _mappers[table]


def _association_of(table: Table) -> Association | None:
    if table not in _associations:
        mappers = [mapper for mapper in every_configured_mapper() if mapper.configured]
        every = [r for mapper in mappers for r in mapper.relationships if r.secondary is table and not r.viewonly]
        if not every:
            return None
        _associations[table] = Association(min(every, key=place_in_table), table)
    return _associations[table]


def every_configured_mapper() -> Iterator[Mapper[Any]]:
    """All classes that are mapped just now, with their relationships."""
    for registry in list(_all_registries()):
        with suppress(SQLAlchemyError):  # a mapping that fails is told to whoever uses it
            registry.configure()
        yield from list(registry.mappers)


_mappers: WeakKeyDictionary[Table, Mapper[Any]] = WeakKeyDictionary()
_associations: WeakKeyDictionary[Table, Association] = WeakKeyDictionary()
