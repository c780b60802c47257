"""What a mapped class has for fields, and how rows of it are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    column,
    false,
    literal,
    or_,
    select,
    table,
)
from sqlalchemy.orm import Mapper, RelationshipProperty

from audit_core.orm.sqlalchemy.kept import Keeps, keeps
from audit_core.orm.sqlalchemy.readable import readable
from audit_core.policy import resource_name

Key = tuple[Any, ...]
PAGE = 200  # rows that one query reads: SQLite's oldest limit on parameters is 999


@dataclass(frozen=True, slots=True)
class Mapped:
    """One mapped class, with the fields of all its tables. A field has the attribute's name, not the column's."""

    resource_type: str
    columns: dict[str, ColumnElement[Any]]
    key: tuple[str, ...]
    computed: frozenset[str]  # fields that an UPDATE may change without being told to
    many_to_many: tuple[RelationshipProperty[Any], ...]
    post_updated: frozenset[ColumnElement[Any]]  # foreign keys, its own or others', that are written after all else
    keeps: dict[str, Keeps]  # of the fields whose columns may hold another value than they are given


def mapped(mapper: Mapper[Any]) -> Mapped:
    """What ``mapper`` has for fields."""
    attributes = mapper.column_attrs  # another object once the class has got another column
    known = _known.get(mapper)
    if known is None or known[0] is not attributes:
        known = _known[mapper] = attributes, _look_at(mapper)
    return known[1]


def read(
    connection: Connection, mapper: Mapper[Any], keys: Sequence[Key], names: Sequence[str], *, lock: bool = False
) -> dict[Key, Any]:
    """The fields ``names`` of the rows with these primary keys, as ``{key: {name: value}}``. One query for a page.

    With ``lock`` nobody else writes them until the transaction ends, where the database can lock rows.
    """
    columns = mapped(mapper).columns
    width = len(mapper.primary_key)
    query = select(*mapper.primary_key, *(readable(columns[name]) for name in names)).select_from(
        mapper.persist_selectable
    )
    if lock:
        query = query.with_for_update(key_share=True)
    found: dict[Key, Any] = {}
    for start in range(0, len(keys), PAGE):
        for row in connection.execute(query.where(_one_of(mapper, keys[start : start + PAGE]))):
            found[tuple(row[:width])] = dict(zip(names, row[width:], strict=True))
    if len(keys) == len(found) == 1:
        return {keys[0]: next(iter(found.values()))}
    for key in keys if len(keys) > 1 else ():
        if key not in found:  # the session may know it as another value than the driver: "7" for 7
            found.update(read(connection, mapper, [key], names))
    return found


def take_write_lock(connection: Connection, mapper: Mapper[Any], *, delete: bool) -> None:
    """Begin with a write what will be a writing transaction.

    SQLite refuses, at once and whatever the timeout, a transaction that read first when somebody else committed
    before its first write. The statement is of the kind that the flush is about to issue, and touches no row.
    """
    if connection.dialect.name != "sqlite":
        return
    known = mapper.local_table
    if isinstance(known, Table):
        # Not the mapped table: its columns may have defaults that are called for every UPDATE.
        name = next(iter(known.primary_key.columns or known.columns)).name
        plain = table(known.name, column(name), schema=connection.schema_for_object(known))
        statement = plain.delete() if delete else plain.update().values({name: plain.columns[name]})
        connection.execute(statement.where(false()))


_known: WeakKeyDictionary[Mapper[Any], tuple[object, Mapped]] = WeakKeyDictionary()


def _look_at(mapper: Mapper[Any]) -> Mapped:
    columns: dict[str, ColumnElement[Any]] = {}
    computed: set[str] = set()
    for prop in mapper.column_attrs:
        written = [c for one in prop.columns for c in _written(mapper, one)]
        if written:
            columns[prop.key] = prop.columns[0]
        if any(c.onupdate is not None or c.server_onupdate is not None or c is mapper.version_id_col for c in written):
            computed.add(prop.key)
    return Mapped(
        resource_type=resource_name(mapper.class_.__name__),
        columns=columns,
        key=_key(mapper),
        computed=frozenset(computed),
        post_updated=frozenset(
            c for r in mapper.relationships if r.post_update for c in (*r.local_columns, *r.remote_side)
        ),
        keeps={name: rule for name, column in columns.items() if (rule := keeps(column.type)) is not None},
        many_to_many=tuple(r for r in mapper.relationships if r.secondary is not None and not r.viewonly),
    )


def _key(mapper: Mapper[Any]) -> tuple[str, ...]:
    return tuple(mapper.get_property_by_column(c).key for c in mapper.primary_key)


def _written(mapper: Mapper[Any], element: ColumnElement[Any]) -> Iterator[Column[Any]]:
    """The columns of the mapper's own tables behind an attribute; an SQL expression has none."""
    for one in element.proxy_set:
        if isinstance(one, Column) and one.table in mapper.tables:
            yield one


def _one_of(mapper: Mapper[Any], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(mapper.primary_key) == 1:
        return any_of(mapper.primary_key[0], [key[0] for key in keys])
    return or_(
        *(and_(*(c == literal(v, c.type) for c, v in zip(mapper.primary_key, key, strict=True))) for key in keys)
    )


def any_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """The values have the column's type, whatever Python's is: "7" for 7."""
    return column.in_(bindparam(None, values, type_=column.type, expanding=True))
