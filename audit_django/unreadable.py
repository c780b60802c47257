"""Values that the database holds and Python cannot read: the day ``infinity``, a document with too long a number.

Whoever deletes or updates such rows by a query set never reads them without us, and must not fail because of us: what
cannot be read is told as the text that the driver gives, a document as ``[unreadable]``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from audit_core.orm.changes import unread


def fetched(cursor: Any, asked: Collection[int] = ()) -> list[Any]:
    """All rows of a cursor, Django's or the driver's.

    Raises what fetching raises where no value is to blame, or one at the places ``asked``, which the application reads.
    """
    try:
        return list(cursor.fetchall())
    except Exception as error:
        driver = getattr(cursor, "cursor", cursor)
        if getattr(driver, "pgresult", None) is None:
            raise
        return _cells(driver, dict.fromkeys(asked, error))


def selected(cursor: Any, sql: str, parameters: Any) -> list[Any]:
    """All rows of a SELECT, on a cursor of the driver's. Raises what running it raises."""
    cursor.execute(sql, parameters)
    try:
        return fetched(cursor)
    except Exception:
        if not hasattr(cursor.connection, "text_factory"):
            raise
        return _as_sqlite_holds(cursor, sql, parameters)


def _as_sqlite_holds(cursor: Any, sql: str, parameters: Any) -> list[Any]:
    """Past the converters of the driver, which go by the types of columns: an expression has none."""
    driver = cursor.connection
    names = [f"c{place}" for place in range(len(cursor.description))]
    usual, driver.text_factory = driver.text_factory, _text
    try:
        cursor.execute(
            f"WITH audit_rows({', '.join(names)}) AS ({sql}) SELECT +{', +'.join(names)} FROM audit_rows",  # noqa: S608 - Django's own SQL
            parameters,
        )
        return list(cursor.fetchall())
    finally:
        driver.text_factory = usual


def converted(compiler: Any, rows: Iterable[Any], converters: Mapping[int, Any]) -> list[Any]:
    """As Django's compiler does, with what a converter or a field refuses as the driver gives it."""
    rows = list(rows)
    try:
        return list(type(compiler).apply_converters(compiler, rows, converters))
    except Exception:  # noqa: BLE001 - a field's own code may raise anything
        return [[_converted(compiler, value, converters.get(place)) for place, value in enumerate(row)] for row in rows]


def _cells(driver: Any, raising: Mapping[int, Exception]) -> list[Any]:
    """What psycopg 3 has fetched, value by value."""
    result = driver.pgresult
    loads = [
        _load(driver, result.ftype(place), result.fformat(place), raising.get(place)) for place in range(result.nfields)
    ]
    return [
        tuple(load(result.get_value(row, place)) for place, load in enumerate(loads)) for row in range(result.ntuples)
    ]


def _load(driver: Any, kind: int, form: int, raising: Exception | None) -> Any:
    loader = (driver.adapters.get_loader(kind, form) or driver.adapters.get_loader(0, form))(kind, driver)

    def load(data: Any) -> Any:
        if data is None:
            return None
        with suppress(Exception):
            return loader.load(data)
        if raising:
            raise raising
        return unread(bytes(data) if form else _text(bytes(data)))

    return load


def _text(data: bytes) -> object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return unread(data)


def _converted(compiler: Any, value: Any, how: Any) -> Any:
    functions, expression = how or ((), None)
    with suppress(Exception):
        read = value
        for function in functions:
            read = function(read, expression, compiler.connection)
        return read
    return unread(value)
