"""Whether a row holds a value as it was given. Where its type or the database makes another one of it, it is read back.

Nothing of this asks the database: most values are what they seem, and cost no query. What a type of the application's
own makes of a value (``TypeDecorator``) is not known here, and is told as the application sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import types
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.engine import Dialect

_Rule: TypeAlias = Callable[[Any, Any, Dialect], bool]  # the type, the value, where it is kept
_SURE_DIGITS = 15  # of a decimal number that is kept as a float
_SINGLE = 25  # bits; a float of fewer is kept as one of 32


class Keeps(NamedTuple):
    """Whether a column holds just the value that it is given, which is not None."""

    surely: type | None  # of values of this very class it does
    asked: Callable[[Any, Dialect], bool]


def keeps(kind: Any) -> Keeps | None:
    """What a column of this type does; None where it always keeps what it is given."""
    if isinstance(kind, types.ARRAY):
        of_one = keeps(kind.item_type)
        return None if of_one is None else Keeps(None, partial(_array, of_one))
    for base, surely, rule in _RULES:
        if isinstance(kind, base):
            return None if rule is None else Keeps(surely, partial(rule, kind))
    return None


def _is(one: type) -> _Rule:
    """Of this class, and of none that derives from it: a truth value is a number to Python, and a moment a day."""

    def rule(kind: Any, value: object, dialect: Dialect) -> bool:
        del kind, dialect
        return type(value) is one

    return rule


def _text(kind: Any, value: object, dialect: Dialect) -> bool:
    del kind, dialect
    return isinstance(value, str)


def _enumerated(kind: Any, value: object, dialect: Dialect) -> bool:
    del dialect
    return isinstance(value, kind.enum_class or str)


def _padded(kind: Any, value: object, dialect: Dialect) -> bool:
    is_full = dialect.name != "postgresql" or kind.length is None
    return isinstance(value, str) and (is_full or len(value) == kind.length)


def _floating(kind: Any, value: object, dialect: Dialect) -> bool:
    is_single = isinstance(kind, types.REAL) or (kind.precision or _SINGLE) < _SINGLE
    if is_single and dialect.name == "postgresql":
        return type(value) is int
    return type(value) in {int, float} and not kind.asdecimal


def _decimal(kind: Any, value: object, dialect: Dialect) -> bool:
    if type(value) not in {int, float, Decimal}:
        return False
    number = Decimal(str(value))
    if not number.is_finite():
        return True
    _, digits, exponent = number.as_tuple()
    if dialect.name != "sqlite":
        return kind.scale is None or bool(-int(exponent) <= kind.scale)
    scale: int = kind._effective_decimal_return_scale  # noqa: SLF001 - to which SQLAlchemy rounds what lies there as a float
    return len(digits) <= _SURE_DIGITS and -int(exponent) <= scale


def _moment(of: type) -> _Rule:
    """A time zone is kept by the types that have one, and by none of SQLite."""

    def rule(kind: Any, value: Any, dialect: Dialect) -> bool:
        if not isinstance(value, of):
            return False
        moment: Any = value
        is_exact = getattr(kind, "precision", None) is None or not moment.microsecond
        return is_exact and (moment.tzinfo is not None) == (kind.timezone and dialect.name != "sqlite")

    return rule


def _uuid(kind: Any, value: object, dialect: Dialect) -> bool:
    del dialect
    return isinstance(value, UUID) if kind.as_uuid else isinstance(value, str) and value == value.lower()


def _array(of_one: Keeps, value: object, dialect: Dialect) -> bool:
    if isinstance(value, list | tuple):
        return all(_array(of_one, one, dialect) for one in value)
    return value is None or of_one.asked(value, dialect)


def _range(kind: Any, value: object, dialect: Dialect) -> bool:
    """PostgreSQL has one way to write a range of days or of whole numbers."""
    del kind, dialect
    return getattr(value, "bounds", None) == "[)"


_RULES: tuple[tuple[type, type | None, _Rule | None], ...] = (  # the first that fits
    (types.TypeDecorator, None, None),
    (types.Enum, None, _enumerated),
    (types.CHAR, None, _padded),
    (types.String, str, _text),
    (types.Boolean, bool, _is(bool)),
    (types.Integer, int, _is(int)),
    (types.Float, None, _floating),
    (types.Numeric, None, _decimal),
    (types.DateTime, None, _moment(datetime)),
    (types.Date, date, _is(date)),
    (types.Time, None, _moment(time)),
    (types.Uuid, None, _uuid),
    (AbstractRange, None, _range),
)
