"""Columns whose values can be read whatever they are: an enumeration's that it has no more, a text without its key.

Whoever updates or deletes such rows by a statement never reads them without us, and must not fail because of us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, type_coerce
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from audit_core.orm.changes import unread


def readable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The same column; what its type refuses to read is told as the driver gives it."""
    if column.type._has_column_expression:  # noqa: SLF001 - has no public name: the database converts it
        return column
    return type_coerce(column, _Readable(column.type))


class _Readable(TypeEngine[Any]):
    def __init__(self, kind: TypeEngine[Any]) -> None:
        self.kind = kind

    @property
    def _static_cache_key(self) -> Any:
        known = self.kind._static_cache_key  # noqa: SLF001 - has no public name
        return (_Readable, known) if isinstance(known, tuple) else known

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """What reads a value, if that takes anything."""
        read = self.kind.dialect_impl(dialect).result_processor(dialect, coltype)
        if read is None:
            return None

        def safely(value: Any) -> Any:
            try:
                return read(value)
            except Exception:  # noqa: BLE001 - a type's own code may raise anything
                return unread(value)

        return safely
