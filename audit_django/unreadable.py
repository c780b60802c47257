"""Values that the database holds and Python cannot read: the day ``infinity``, a document with too long a number.

Whoever deletes or updates such rows by a query set never reads them without us, and must not fail because of us: what
cannot be read is told as the text that the driver gives, a document as ``[unreadable]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from audit_core.orm.changes import unread


def fetched(cursor: Any) -> list[Any]:
    """All rows of a cursor, Django's or the driver's. Raises what fetching raises where no value is to blame."""
    try:
        return list(cursor.fetchall())
    except Exception:
        driver = getattr(cursor, "cursor", cursor)
        if getattr(driver, "pgresult", None) is None:
            raise
        return _cells(driver)


def converted(compiler: Any, rows: Iterable[Any], converters: Mapping[int, Any]) -> list[Any]:
    """As Django's compiler does, with what a converter or a field refuses as the driver gives it."""
    rows = list(rows)
    try:
        return list(type(compiler).apply_converters(compiler, rows, converters))
    except Exception:  # noqa: BLE001 - a field's own code may raise anything
        return [[_converted(compiler, value, converters.get(place)) for place, value in enumerate(row)] for row in rows]


def _cells(driver: Any) -> list[Any]:
    """What psycopg 3 has fetched, value by value."""
    result = driver.pgresult
    loads = [_load(driver, result.ftype(place), result.fformat(place)) for place in range(result.nfields)]
    return [
        tuple(load(result.get_value(row, place)) for place, load in enumerate(loads)) for row in range(result.ntuples)
    ]


def _load(driver: Any, kind: int, form: int) -> Any:
    loader = (driver.adapters.get_loader(kind, form) or driver.adapters.get_loader(0, form))(kind, driver)

    def load(data: Any) -> Any:
        if data is None:
            return None
        with suppress(Exception):
            return loader.load(data)
        return bytes(data)

    return load


def _converted(compiler: Any, value: Any, how: Any) -> Any:
    functions, expression = how or ((), None)
    with suppress(Exception):
        read = value
        for function in functions:
            read = function(read, expression, compiler.connection)
        return read
    return unread(value)
