"""What an INSERT, UPDATE or DELETE wrote: per row what it held and holds, above the limit how many rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Result, literal, type_coerce
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.elements import ClauseElement

from audit_core.orm.bulk import Summary
from audit_core.orm.changes import Change
from audit_core.orm.sqlalchemy.associations import Association
from audit_core.orm.sqlalchemy.by_key import KeyedUpdate, created_by_key
from audit_core.orm.sqlalchemy.criteria import (
    conditions_of_each,
    has_more_than,
    lock_and_read,
    select_rows,
    writes_elsewhere,
)
from audit_core.orm.sqlalchemy.execution import Execution
from audit_core.orm.sqlalchemy.mapped import Key, read
from audit_core.orm.sqlalchemy.target import Row, Target
from audit_core.orm.sqlalchemy.uniques import replaces_in_conflict
from audit_core.orm.sqlalchemy.upserts import rows_given, rows_in_the_way, sets_given, updates_in_conflict

ClassFact = tuple[Mapper[Any], Change | Summary]
Outcome = tuple[Result[Any], Iterable[ClassFact]]


def write(execution: Execution) -> Outcome:
    """Run the statement; what the caller gets, and what is to be told."""
    statement, target = execution.statement, execution.target
    if statement.is_insert:
        return _insert(execution)
    several = isinstance(execution.parameters, list)
    if several and statement.is_update and isinstance(target, Target) and target.by_class:
        return _update_by_key(execution, target)
    if several and statement.is_update and isinstance(target, Association):
        return _summed_up(execution, "update")
    if not target.key or writes_elsewhere(execution.condition):
        return _summed_up(execution, "update" if statement.is_update else "delete")
    if several or not execution.can_return:
        return _write_each(execution)
    return _update(execution) if statement.is_update else _delete(execution)


# -- by a condition --------------------------------------------------------------------------------------------------


def _update(execution: Execution) -> Outcome:
    """The rows that its condition finds; matched by their key with what RETURNING says of them."""
    target, written = execution.target, _values_set(execution)
    moved = [place for place in target.key if place in written]
    keys = [type_coerce(_expression(written[place]), target.columns[place].type) for place in moved]
    # A name that is no column's may be a hybrid's or a composite's: then any column may be written.
    told_of = range(len(target.columns)) if None in written else (*written, *target.computed)
    places = [place for place in dict.fromkeys((*target.key, *told_of)) if place is not None]
    # Not the others: the driver may be unable to read what the statement leaves as it is.
    read_of = places if target.kind is None else list(dict.fromkeys((*places, target.kind)))
    query = select_rows(target, execution.condition, *keys, places=read_of)
    held = lock_and_read(execution.connection, target, query, execution.limit, execution.parameters, key=bool(moved))
    if len(held) > execution.limit:
        return _summed_up(execution, "update")
    result, rows = execution.run_returning([target.columns[place] for place in places])
    before = dict(_with_key_after(row, read_of, target.key, moved) for row in held)
    news = (dict(zip(places, row, strict=True)) for row in rows)
    return result, (one for new in news for one in target.updated(before.get(target.key_of(new)), new))


def _with_key_after(
    row: Sequence[Any], places: Sequence[int], key: Sequence[int], moved: Sequence[int]
) -> tuple[Key, dict[int, Any]]:
    """The key that a row will have, computed by the database where the statement writes it; and what it holds."""
    held = dict(zip(places, row, strict=False))
    after = held | dict(zip(moved, row[len(places) :], strict=True))
    return tuple(after[place] for place in key), held


def _delete(execution: Execution) -> Outcome:
    target = execution.target
    query = select_rows(target, execution.condition)
    if has_more_than(execution.connection, query, execution.limit, execution.parameters):
        return _summed_up(execution, "delete")
    result, rows = execution.run_returning(target.columns)
    return result, map(target.deleted, rows)


def _write_each(execution: Execution) -> Outcome:
    """Without RETURNING, which no driver has for several sets of parameters: read before, and read again."""
    target, is_update = execution.target, execution.statement.is_update
    held: dict[Key, Row] = {}
    sets = execution.parameters if isinstance(execution.parameters, list) else [execution.parameters or {}]
    if is_update and not {*_values_set(execution), *map(target.place, sets[0])}.isdisjoint(target.key):
        return _summed_up(execution, "update")  # the rows would not be found again
    for condition in conditions_of_each(execution.condition, sets):
        query = select_rows(target, (condition,))
        rows = lock_and_read(execution.connection, target, query, execution.limit, None, key=False)
        held.update((target.key_of(row), row) for row in rows)
        if len(held) > execution.limit:
            return _summed_up(execution, "update" if is_update else "delete")
    result = execution.run()
    if not is_update or not isinstance(target, Target):
        return result, [target.deleted(row) for row in held.values()]
    fields = target.fields(target.mapper)
    found = read(execution.connection, target.mapper, list(held), list(fields))
    news = {key: {fields[name]: value for name, value in values.items()} for key, values in found.items()}
    return result, [one for key, row in held.items() if key in news for one in target.updated(row, news[key])]


def _update_by_key(execution: Execution, target: Target) -> Outcome:
    if len(execution.parameters) > execution.limit:
        return _summed_up(execution, "update", len(execution.parameters))
    update = KeyedUpdate(execution.connection, target.mapper, execution.parameters, _names_set(execution))
    return execution.run(), update.told()


# -- INSERT ----------------------------------------------------------------------------------------------------------


def _insert(execution: Execution) -> Outcome:
    statement, target, connection = execution.statement, execution.target, execution.connection
    count, source = len(sets_given(statement, execution.parameters)), statement.select
    above = count > execution.limit if source is None else has_more_than(connection, source, execution.limit)
    if above or not target.key or not execution.can_return:
        result, count = execution.run_counting(count)
        return result, _one(execution, "create", count)
    held: dict[Key, Row] = {}
    if may_conflict := updates_in_conflict(statement) or replaces_in_conflict(statement):
        given = rows_given(statement, execution.parameters, target)
        held = rows_in_the_way(connection, statement, given, target)
    if execution.parameters and target.by_class and len(target.mapper.tables) > 1:
        result, keys = execution.run_returning_keys()
        return result, created_by_key(connection, target.mapper, keys)
    result, rows = execution.run_returning(target.columns)
    if not may_conflict:
        return result, map(target.created, rows)
    told: list[ClassFact] = []
    written: dict[Key, Row] = {}  # by this statement: it may have a key twice, and updates what it has created
    for row in rows:
        key = target.key_of(row)
        old = written[key] if key in written else held.pop(key, None)
        told += [target.created(row)] if old is None else target.updated(old, dict(enumerate(row)))
        written[key] = row
    if held and replaces_in_conflict(statement):
        # What a partial index is about, only the database can say of a new row: it did not replace what is there yet.
        there = rows_in_the_way(connection, statement, given, target) if statement.select is None else {}
        told = [*(target.deleted(row) for key, row in held.items() if key not in there), *told]
    return result, told


# -- above the limit -------------------------------------------------------------------------------------------------


def _summed_up(execution: Execution, action: str, count: int = -1) -> Outcome:
    result, rows = execution.run_counting(count)
    return result, _one(execution, action, rows)


def _one(execution: Execution, action: str, rows: int) -> list[ClassFact]:
    if rows == 0:
        return []
    target, values = execution.target, {}
    if action == "update" and not isinstance(execution.parameters, list):
        written = {place: value for place, value in _values_set(execution).items() if place is not None}
        values = dict(zip(target.names(written), map(_shown, written.values()), strict=True))
    return [(target.mapper, execution.summary(action, rows, values))]


def _values_set(execution: Execution) -> dict[int | None, Any]:
    """What an UPDATE sets, by the places of the columns; None stands for a name that is no column's."""
    statement, target = execution.statement, execution.target
    values = dict(getattr(statement, "_ordered_values", None) or statement._values or {})  # noqa: SLF001 - no public name
    if isinstance(execution.parameters, Mapping):
        values |= execution.parameters
    return {target.place(name): value for name, value in values.items()}


def _names_set(execution: Execution) -> list[str]:
    return execution.target.names(place for place in _values_set(execution) if place is not None)


def _expression(value: Any) -> ColumnElement[Any]:
    return value if isinstance(value, ColumnElement) else literal(value)


def _shown(value: Any) -> Any:
    """A value as it was given, an expression as its text."""
    if isinstance(value, BindParameter):
        return value.effective_value
    return str(value) if isinstance(value, ClauseElement) else value
