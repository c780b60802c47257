"""What must not be there twice in a table: columns, and expressions of them, in which an INSERT may meet a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Index,
    Table,
    UniqueConstraint,
    and_,
    inspect,
    literal,
    literal_column,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ClauseElement, TextClause, UnaryExpression

from audit_core.orm.sqlalchemy.targets import Written

Given: TypeAlias = Mapping[int, Any]  # values of one row, by the places of the columns


@dataclass(frozen=True, slots=True)
class Unique:
    """Columns, or expressions like ``lower(email)``, whose values together belong to one row at most."""

    expressions: tuple[ColumnElement[Any], ...]
    places: tuple[int, ...]  # of the columns in them

    @property
    def is_column(self) -> bool:
        """Whether it is one column, as it is."""
        return len(self.expressions) == 1 and isinstance(self.expressions[0], ColumnClause)

    def same(self, row: Given, target: Written) -> ColumnElement[bool]:
        """The condition that a row of the table has in common with this one what is unique."""
        held, given = (
            [_filled(one, target, values) for one in self.expressions]
            for values in (
                dict(enumerate(target.columns)),
                {place: _typed(row, place, target) for place in self.places},
            )
        )
        return and_(*(one == other for one, other in zip(held, given, strict=True)))


def uniques(connection: Connection, statement: Any, target: Written) -> list[Unique]:
    """All that the mapping says is unique, and what the statement names as the place of a conflict."""
    found = []
    for elements in _elements(connection, statement, target):
        every = [one for element in elements for one in visitors.iterate(element)]
        places = [target.place(one) for one in every if isinstance(one, ColumnClause)]
        is_known = elements and all(isinstance(one, ColumnElement) for one in elements)
        if is_known and places and None not in places:
            found.append(Unique(tuple(elements), tuple(place for place in places if place is not None)))
    return found


def defaults(target: Written) -> dict[int, Any]:
    """What columns hold that a statement does not name, by their places, where that is a constant.

    No function is called, of the application's or of the database's (``nextval``): it would be once more than without
    us, and answer something else.
    """
    found = {place: _default(column) for place, column in enumerate(target.columns)}
    return {place: value for place, value in found.items() if value is not None}


def conflict_clauses(statement: Any) -> list[Any]:
    """Its ON CONFLICT clauses, of which SQLite may have several."""
    clause: ClauseElement | None = statement._post_values_clause  # noqa: SLF001 - has no public name
    every = [] if clause is None else visitors.iterate(clause)
    return [one for one in every if one.__visit_name__.startswith("on_conflict_do")]


def _elements(connection: Connection, statement: Any, target: Written) -> Iterator[Sequence[Any]]:
    table = target.origin
    names: set[Any] = {None}
    if isinstance(table, Table):
        yield list(table.primary_key.columns)
        for one in (*table.constraints, *table.indexes):
            names.add(getattr(one, "name", None))
            if isinstance(one, UniqueConstraint):
                yield list(one.columns)
            elif isinstance(one, Index) and one.unique:
                yield [_unordered(each) for each in one.expressions]
    for clause in conflict_clauses(statement):
        elements = clause.inferred_target_elements or ()
        if not elements and clause.constraint_target not in names:
            elements = _constrained(connection, table, clause.constraint_target)
        yield [_element(one, target) for one in elements]


def _constrained(connection: Connection, table: Any, name: str) -> Sequence[str]:
    """The columns of a constraint that only the database knows."""
    every = inspect(connection).get_unique_constraints(table.name, schema=connection.schema_for_object(table))
    return next((one["column_names"] for one in every if one["name"] == name), ())


def _element(given: Any, target: Written) -> Any:
    place = target.place(given) if isinstance(given, str) else None
    return given if place is None else target.columns[place]


def _unordered(expression: Any) -> Any:
    """Of an index that says DESC or NULLS LAST, what it is of."""
    while isinstance(expression, UnaryExpression) and expression.modifier is not None:
        expression = expression.element
    return expression


def _default(column: Any) -> Any:
    default, server = getattr(column, "default", None), getattr(column, "server_default", None)
    if default is not None:
        return default.arg if default.is_scalar else None
    arg = getattr(server, "arg", None)
    if isinstance(arg, str):
        return literal_column("'{}'".format(arg.replace("'", "''")))
    return arg if isinstance(arg, TextClause) and "(" not in arg.text else None


def _typed(row: Given, place: int, target: Written) -> Any:
    value = row[place]
    return value if isinstance(value, ClauseElement) else literal(value, target.columns[place].type)


def _filled(expression: ColumnElement[Any], target: Written, values: Given) -> Any:
    """The expression with these values in the place of its columns."""

    def filled(element: Any, **_: Any) -> Any:
        place = target.place(element) if isinstance(element, ColumnClause) else None
        return None if place is None else values[place]

    return visitors.replacement_traverse(expression, {}, filled)
