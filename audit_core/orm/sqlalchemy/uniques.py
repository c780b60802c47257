"""What must not be there twice in a table: columns, and expressions of them, in which an INSERT may meet a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    and_,
    inspect,
    literal,
    literal_column,
)
from sqlalchemy.sql import coercions, roles, visitors
from sqlalchemy.sql.elements import ClauseElement, TextClause, UnaryExpression

from audit_core.orm.sqlalchemy.targets import Written

Given: TypeAlias = Mapping[int, Any]  # values of one row, by the places of the columns


@dataclass(frozen=True, slots=True)
class Unique:
    """Columns, or expressions like ``lower(email)``, whose values together belong to one row at most."""

    expressions: tuple[ColumnElement[Any], ...]
    places: tuple[int, ...]  # of the columns in them
    where: ClauseElement | None = None  # which rows a partial index is about

    @property
    def is_column(self) -> bool:
        """Whether it is one column, as it is, of all rows."""
        return self.where is None and len(self.expressions) == 1 and isinstance(self.expressions[0], ColumnClause)

    def same(self, row: Given, target: Written) -> ColumnElement[bool]:
        """The condition that a row of the table has in common with this one what is unique."""
        columns = dict(enumerate(target.columns))
        values = {place: _typed(row, place, target) for place in self.places}
        alike = [_filled(one, target, columns) == _filled(one, target, values) for one in self.expressions]
        return and_(*alike) if self.where is None else and_(*alike, _filled(self.where, target, columns))


def uniques(connection: Connection, statement: Any, target: Written) -> list[Unique]:
    """What the statement names as the place of a conflict; where it names none, all that the mapping says is unique."""
    declared = [one for one in _declared(connection, target) if one is not None]
    updates = [one for one in conflict_clauses(statement) if one.__visit_name__ == "on_conflict_do_update"]
    named = [_named(connection, one, target) for one in updates]
    found = [one for one in named if one is not None]
    if replaces_in_conflict(statement) or not named or None in named:
        found += declared
    else:  # PostgreSQL takes an index of all rows too where the statement names one of some
        some = [set(one.places) for one in found if one.where is not None]
        found += [one for one in declared if one.where is None and set(one.places) in some]
    return found if statement.select is None else [one for one in found if not _is_ambiguous(one, statement)]


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


def replaces_in_conflict(statement: Any) -> bool:
    """Whether it is SQLite's INSERT OR REPLACE, which deletes the rows in its way."""
    return any("REPLACE" in str(prefix).upper() for prefix, _ in statement._prefixes)  # noqa: SLF001 - has no public name


def _declared(connection: Connection, target: Written) -> Iterator[Unique | None]:
    table = target.origin
    if not isinstance(table, Table):
        return
    yield _unique(list(table.primary_key.columns), None, target)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield _unique(list(constraint.columns), None, target)
    for index in table.indexes:
        if index.unique:
            where = index.dialect_kwargs.get(f"{connection.dialect.name}_where")
            some = None if where is None else coercions.expect(roles.DDLExpressionRole, where)
            yield _unique([_unordered(one) for one in index.expressions], some, target)


def _named(connection: Connection, clause: Any, target: Written) -> Unique | None:
    """Where a clause says that the conflict is; None where it says nothing, or nothing that we know."""
    elements, where = clause.inferred_target_elements, clause.inferred_target_whereclause
    name, table = getattr(clause, "constraint_target", None), target.origin
    if not elements and name is not None and isinstance(table, Table):
        elements = _constrained(connection, table, name)
    by_name = {getattr(column, "name", None): column for column in target.columns}
    return _unique([by_name.get(one) if isinstance(one, str) else one for one in elements or ()], where, target)


def _constrained(connection: Connection, table: Table, name: str) -> Sequence[Any]:
    """The columns of a constraint, which perhaps only the database knows by its name."""
    for one in table.constraints:
        if one.name == name and isinstance(one, UniqueConstraint | PrimaryKeyConstraint):
            return list(one.columns)
    for index in table.indexes:
        if index.name == name and index.unique:
            return [_unordered(one) for one in index.expressions]
    database, schema = inspect(connection), connection.schema_for_object(table)
    for known in database.get_unique_constraints(table.name, schema=schema):
        if known["name"] == name:
            return known["column_names"]
    primary = database.get_pk_constraint(table.name, schema=schema)
    return primary["constrained_columns"] if primary["name"] == name else ()


def _unique(elements: Sequence[Any], where: ClauseElement | None, target: Written) -> Unique | None:
    """None where one of the elements is text, or a column that the mapping leaves out."""
    if not all(isinstance(one, ColumnElement) for one in elements):
        return None
    every = [one for element in elements for one in visitors.iterate(element) if isinstance(one, ColumnClause)]
    places = [_place(one, target) for one in every]
    known = tuple(place for place in places if place is not None)
    return Unique(tuple(elements), known, where) if known and None not in places else None


def _place(column: ColumnClause[Any], target: Written) -> int | None:
    """Where it stands in a row; without a table it has the database's name, not the mapping's."""
    if column.table is not None:
        return target.place(column)
    names = [getattr(one, "name", None) for one in target.columns]
    return names.index(column.name) if column.name in names else None


def _is_ambiguous(unique: Unique, statement: Any) -> bool:
    """Whether beside a SELECT its condition may be about that one's rows, or about none that will be there."""
    if unique.where is None:
        return False
    return replaces_in_conflict(statement) or any(isinstance(o, TextClause) for o in visitors.iterate(unique.where))


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


def _filled(expression: ClauseElement, target: Written, values: Given) -> Any:
    """The expression with these values in the place of its columns."""

    def filled(element: Any, **_: Any) -> Any:
        place = _place(element, target) if isinstance(element, ColumnClause) else None
        return None if place is None else values[place]

    return visitors.replacement_traverse(expression, {}, filled)
