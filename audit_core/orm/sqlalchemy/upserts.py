"""The rows that an INSERT may find in its way, as they are before it updates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Index,
    Table,
    UniqueConstraint,
    and_,
    exists,
    false,
    literal,
    or_,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement

from audit_core.orm.sqlalchemy.criteria import lock_and_read, select_rows
from audit_core.orm.sqlalchemy.mapped import PAGE, Key, any_of
from audit_core.orm.sqlalchemy.target import Row
from audit_core.orm.sqlalchemy.targets import Written

Given = Mapping[int, Any]  # values of one row, by the places of the columns


def updates_in_conflict(statement: Any) -> bool:
    """Whether the statement updates the rows that it cannot insert."""
    return any(one.__visit_name__ == "on_conflict_do_update" for one in _conflict_clauses(statement))


def replaces_in_conflict(statement: Any) -> bool:
    """Whether it is SQLite's INSERT OR REPLACE, which deletes the rows in its way."""
    return any("REPLACE" in str(prefix).upper() for prefix, _ in statement._prefixes)  # noqa: SLF001 - has no public name


def rows_given(statement: Any, parameters: Any, target: Written) -> list[Given]:
    """What the statement says of each row that it inserts; nothing where a SELECT says it."""
    common = statement._values or {}  # noqa: SLF001 - has no public name
    names = [column.key for column in statement.table.c]
    named = (
        one if isinstance(one, Mapping) else dict(zip(names, one, strict=False))
        for one in sets_given(statement, parameters)
    )
    return [_placed({**common, **one}, target, one) for one in named]


def sets_given(statement: Any, parameters: Any) -> Sequence[Any]:
    """The same as they are given: each by names, or in the order of the table's columns."""
    sets = [one for many in statement._multi_values for one in many]  # noqa: SLF001 - has no public name
    if sets:
        return sets
    return [parameters or {}] if isinstance(parameters, Mapping | None) else parameters


def rows_in_the_way(connection: Connection, statement: Any, given: Sequence[Given], target: Written) -> dict[Key, Row]:
    """The rows that have a unique value in common with one that is to be inserted, by their keys, and locked."""
    if statement.select is not None:
        conditions = [_shared_with_select(statement, target)]
    else:
        pages = [given[start : start + PAGE] for start in range(0, len(given), PAGE)]
        conditions = [_shared(page, statement, target) for page in pages]
    found: dict[Key, Row] = {}
    for condition in conditions:
        query = select_rows(target, (condition,))
        rows = lock_and_read(connection, target, query, _NO_LIMIT, None, key=False)
        found.update((target.key_of(row), row) for row in rows)
    return found


_NO_LIMIT = 2**31


def _placed(values: Mapping[Any, Any], target: Written, parameters: Mapping[Any, Any]) -> Given:
    placed = ((target.place(name), _value(value, parameters)) for name, value in values.items())
    return {place: value for place, value in placed if place is not None}


def _value(value: Any, parameters: Mapping[Any, Any]) -> Any:
    """What a parameter of the statement stands for: as it is, it cannot be a part of another one too."""
    return parameters.get(value.key, value.effective_value) if isinstance(value, BindParameter) else value


def _shared(given: Sequence[Given], statement: Any, target: Written) -> ColumnElement[bool]:
    alike: list[ColumnElement[bool]] = []
    for places in _unique_places(statement, target):
        complete = [row for row in given if all(row.get(place) is not None for place in places)]
        values = [row[places[0]] for row in complete]
        if complete and len(places) == 1 and not any(isinstance(value, ClauseElement) for value in values):
            alike.append(any_of(target.columns[places[0]], values))
        else:
            alike += [and_(*(_equals(target.columns[place], row[place]) for place in places)) for row in complete]
    return or_(*alike) if alike else false()


def _equals(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    return column == (value if isinstance(value, ClauseElement) else literal(value, column.type))


def _shared_with_select(statement: Any, target: Written) -> ColumnElement[bool]:
    source = statement.select.subquery()
    names = [target.place(name) for name in statement._select_names]  # noqa: SLF001 - has no public name
    columns = dict(zip(names, source.c, strict=True))
    alike = [
        and_(*(target.columns[place] == columns[place] for place in places))
        for places in _unique_places(statement, target)
        if all(place in columns for place in places)
    ]
    return exists().where(or_(*alike)).correlate(target.table)


def _unique_places(statement: Any, target: Written) -> Iterator[tuple[int, ...]]:
    table = target.origin
    sets: list[Any] = []
    if isinstance(table, Table):
        sets.append(table.primary_key.columns)
        sets += [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
        sets += [one.columns for one in table.indexes if isinstance(one, Index) and one.unique]
    sets += [one.inferred_target_elements or () for one in _conflict_clauses(statement)]
    for columns in sets:
        places = tuple(place for place in map(target.place, columns) if place is not None)
        if places and len(places) == len(columns):
            yield places


def _conflict_clauses(statement: Any) -> list[Any]:
    clause: ClauseElement | None = statement._post_values_clause  # noqa: SLF001 - has no public name
    every = [] if clause is None else visitors.iterate(clause)
    return [one for one in every if one.__visit_name__.startswith("on_conflict_do")]
