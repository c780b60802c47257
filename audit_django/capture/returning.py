"""Statements that answer with the rows that they change: one round trip, and nobody can come in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet

from audit_django.capture.round_trips import begin_along
from audit_django.rows import Key, Values, key_of, named
from audit_django.unreadable import converted, fetched

_Rows = list[tuple[Any, ...]]


def prepared(compiler: Any, fields: Sequence[Any]) -> tuple[str, Iterable[Any]]:
    """An INSERT that answers with these fields. Its objects now have what the fields make of them (``pre_save``)."""
    compiler.returning_fields = fields
    (statement,) = compiler.as_sql()
    return statement  # type: ignore[no-any-return]


def insert(
    compiler: Any, statement: tuple[str, Iterable[Any]], fields: Sequence[Any], asked: Sequence[Any]
) -> tuple[_Rows, _Rows]:
    """The fields of the rows that were made, or of those that were there and were updated; and those asked for."""
    return _run(compiler, *statement, fields, [fields.index(field) for field in asked])


def update(
    compiler: Any, fields: Sequence[Any], asked: Sequence[Any]
) -> tuple[list[tuple[Key, Values, Values]], _Rows]:
    """Per row its key, and the fields before and after; and the fields that Django asked for.

    The rows are locked and read in the statement that writes them, so that the old values are those that it replaces.
    """
    try:
        sql, parameters = compiler.as_sql()
    except EmptyResultSet:
        return [], []
    keys = compiler.query.get_meta().pk_fields
    told = [*fields, *keys, *fields, *asked]
    width, end = len(fields), len(fields) + len(keys)
    statement = _with_old_values(compiler, sql, keys, fields, told[width:])
    rows, answers = _run(compiler, statement, parameters, told, range(end + width, len(told)))
    changed = [
        (key_of(row[width:end]), named(fields, row[:width]), named(fields, row[end : end + width])) for row in rows
    ]
    return changed, answers


def _with_old_values(compiler: Any, sql: str, keys: Sequence[Any], fields: Sequence[Any], new: Sequence[Any]) -> str:
    """Its parameters are the statement's own, in their order: the condition only moves."""
    table, where = compiler.connection.ops.quote_name(compiler.query.get_meta().db_table), _where(compiler)
    columns = _columns(compiler, [*keys, *fields])
    places = [f"audit_{place}" for place in range(len(columns))]
    old = ", ".join(f"{column} AS {place}" for column, place in zip(columns, places, strict=True))
    same = " AND ".join(
        f"{column} = audit_old.{place}" for column, place in zip(columns[: len(keys)], places, strict=False)
    )
    answer = [*(f"audit_old.{place}" for place in places[len(keys) :]), *_columns(compiler, new)]
    return (
        f"{sql.removesuffix(where)} FROM (SELECT {old} FROM {table}{where} FOR NO KEY UPDATE) audit_old "  # noqa: S608 - names of columns and Django's own SQL
        f"WHERE {same} RETURNING {', '.join(answer)}"
    )


def delete(compiler: Any, fields: Sequence[Any]) -> list[tuple[Key, Values]]:
    """Per row its key and what it held."""
    try:
        sql, parameters = compiler.as_sql()
    except EmptyResultSet:
        return []
    keys = compiler.query.get_meta().pk_fields
    told = [*keys, *fields]
    rows, _ = _run(compiler, f"{sql} RETURNING {', '.join(_columns(compiler, told))}", parameters, told)
    return [(key_of(row[: len(keys)]), named(fields, row[len(keys) :])) for row in rows]


def _run(
    compiler: Any, sql: str, parameters: Iterable[Any], fields: Sequence[Any], asked: Sequence[int] = ()
) -> tuple[_Rows, _Rows]:
    """The fields as they are told; and those at the places ``asked`` as Django reads them, which may raise."""
    with compiler.connection.cursor() as cursor:
        begin_along(compiler.connection, cursor)
        cursor.execute(sql, parameters)
        rows = fetched(cursor, asked)
    answers = [tuple(row[place] for place in asked) for row in rows] if asked else []
    if answers and (converters := _converters(compiler, [fields[place] for place in asked])):
        answers = [tuple(row) for row in compiler.apply_converters(answers, converters)]
    converters = _converters(compiler, fields)
    return [tuple(row) for row in converted(compiler, rows, converters)] if converters else rows, answers


def _converters(compiler: Any, fields: Sequence[Any]) -> Any:
    return compiler.get_converters([field.get_col(field.model._meta.db_table) for field in fields])


def _columns(compiler: Any, fields: Iterable[Any]) -> list[str]:
    quote = compiler.connection.ops.quote_name
    return [f"{quote(field.model._meta.db_table)}.{quote(field.column)}" for field in fields]


def _where(compiler: Any) -> str:
    """The condition, as it stands at the end of the statement; its parameters stand there already."""
    try:
        return f" WHERE {compiler.compile(compiler.query.where)[0]}"
    except FullResultSet:
        return ""
