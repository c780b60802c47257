"""The rows that an INSERT may find in its way, as they are before it updates them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, exists, false, or_
from sqlalchemy.sql.elements import ClauseElement

from audit_core.orm.sqlalchemy.criteria import lock_and_read, select_rows
from audit_core.orm.sqlalchemy.mapped import PAGE, Key, any_of
from audit_core.orm.sqlalchemy.target import Row
from audit_core.orm.sqlalchemy.targets import Written
from audit_core.orm.sqlalchemy.uniques import Given, Unique, conflict_clauses, defaults, replaces_in_conflict, uniques


def updates_in_conflict(statement: Any) -> bool:
    """Whether the statement updates the rows that it cannot insert."""
    return any(one.__visit_name__ == "on_conflict_do_update" for one in conflict_clauses(statement))


def conflict_told(statement: Any, target: Written) -> str:
    """What a statement does with the rows in its way, in names of fields: a summary of it is called a create."""
    if replaces_in_conflict(statement):
        return "on conflict replace"
    told = []
    for one in conflict_clauses(statement):
        if one.__visit_name__ == "on_conflict_do_update":
            elements = one.inferred_target_elements or filter(None, [getattr(one, "constraint_target", None)])
            told.append(
                f"on conflict ({_told(elements, target)}) update ({_told(dict(one.update_values_to_set), target)})"
            )
    return " ".join(told)


def rows_given(statement: Any, parameters: Any, target: Written) -> list[Given]:
    """The values that the statement says of each row it inserts, with defaults; nothing where a SELECT says it."""
    common = statement._values or {}  # noqa: SLF001 - has no public name
    names, usual = [column.key for column in statement.table.c], defaults(target)
    named = (
        one if isinstance(one, Mapping) else dict(zip(names, one, strict=False))
        for one in sets_given(statement, parameters)
    )
    return [{**usual, **_placed({**common, **one}, target, one)} for one in named]


def sets_given(statement: Any, parameters: Any) -> Sequence[Any]:
    """The same as they are given: each by names, or in the order of the table's columns."""
    sets = [one for many in statement._multi_values for one in many]  # noqa: SLF001 - has no public name
    if sets:
        return sets
    return [parameters or {}] if isinstance(parameters, Mapping | None) else parameters


def rows_in_the_way(connection: Connection, statement: Any, given: Sequence[Given], target: Written) -> dict[Key, Row]:
    """The rows that have a unique value in common with one that is to be inserted, by their keys, and locked."""
    every = uniques(connection, statement, target)
    if statement.select is not None:
        conditions = [_shared_with_select(statement, target, every)]
    else:
        pages = [given[start : start + PAGE] for start in range(0, len(given), PAGE)]
        conditions = [_shared(page, target, every) for page in pages]
    found: dict[Key, Row] = {}
    for condition in conditions:
        query = select_rows(target, (condition,))
        rows = lock_and_read(connection, target, query, _NO_LIMIT, None, key=False)
        found.update((target.key_of(row), row) for row in rows)
    return found


_NO_LIMIT = 2**31


def _told(names: Iterable[Any], target: Written) -> str:
    places = ((target.place(name), name) for name in names)
    return ", ".join(str(name) if place is None else target.names([place])[0] for place, name in places)


def _placed(values: Mapping[Any, Any], target: Written, parameters: Mapping[Any, Any]) -> Given:
    placed = ((target.place(name), _value(value, parameters)) for name, value in values.items())
    return {place: value for place, value in placed if place is not None}


def _value(value: Any, parameters: Mapping[Any, Any]) -> Any:
    """What a parameter of the statement stands for: as it is, it cannot be a part of another one too.

    None for an expression: to look for its value would compute it once more (``nextval``), or to another one.
    """
    if isinstance(value, BindParameter):
        return parameters.get(value.key, value.effective_value)
    is_expression = isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")
    return None if is_expression else value


def _shared(given: Sequence[Given], target: Written, found: Sequence[Unique]) -> ColumnElement[bool]:
    alike: list[ColumnElement[bool]] = []
    for unique in found:
        complete = [row for row in given if all(row.get(place) is not None for place in unique.places)]
        values = [row[unique.places[0]] for row in complete]
        if complete and unique.is_column and not any(isinstance(value, ClauseElement) for value in values):
            alike.append(any_of(target.columns[unique.places[0]], values))
        else:
            alike += [unique.same(row, target) for row in complete]
    return or_(*alike) if alike else false()


def _shared_with_select(statement: Any, target: Written, found: Sequence[Unique]) -> ColumnElement[bool]:
    source = statement.select.subquery()
    names = [target.place(name) for name in statement._select_names]  # noqa: SLF001 - has no public name
    row = defaults(target) | {place: c for place, c in zip(names, source.c, strict=True) if place is not None}
    alike = [unique.same(row, target) for unique in found if row.keys() >= set(unique.places)]
    return exists().where(or_(*alike)).correlate(target.table) if alike else false()
