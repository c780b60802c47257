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
from sqlalchemy.dialects.postgresql import ranges
from sqlalchemy.engine import Dialect

_Rule: TypeAlias = Callable[[Any, Any, Dialect], bool]  # the type, the value, where it is kept
_SURE_DIGITS = 15  # of a decimal number that is kept as a float, and of a float that is kept as a decimal number
_SURE_WHOLE, _SURE_SINGLE = 2**53, 2**24  # up to here a float keeps every whole number
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
    if isinstance(kind, ranges.AbstractRange):
        return Keeps(None, partial(_range, keeps(_ENDS.get(type(kind)))))
    for base, surely, rule in _RULES:
        if isinstance(kind, base):
            is_limited = getattr(kind, "length", None) is not None
            return None if rule is None else Keeps(None if is_limited else surely, partial(rule, kind))
    return None


def _is(one: type) -> _Rule:
    """Of this class, and of none that derives from it: a truth value is a number to Python, and a moment a day."""

    def rule(kind: Any, value: object, dialect: Dialect) -> bool:
        del kind, dialect
        return type(value) is one

    return rule


def _text(kind: Any, value: object, dialect: Dialect) -> bool:
    """PostgreSQL cuts off the spaces for which a text has no room."""
    has_room = kind.length is None or dialect.name != "postgresql"
    return isinstance(value, str) and (has_room or len(value) <= kind.length)


def _enumerated(kind: Any, value: object, dialect: Dialect) -> bool:
    del dialect
    return isinstance(value, kind.enum_class or str)


def _padded(kind: Any, value: object, dialect: Dialect) -> bool:
    return isinstance(value, str) and (dialect.name != "postgresql" or len(value) == (kind.length or 1))


def _floating(kind: Any, value: object, dialect: Dialect) -> bool:
    is_single = isinstance(kind, types.REAL) or (kind.precision or _SINGLE) < _SINGLE
    is_single = is_single and dialect.name == "postgresql"
    if type(value) is int:
        return abs(value) <= (_SURE_SINGLE if is_single else _SURE_WHOLE)
    is_held = value == value or dialect.name != "sqlite"  # noqa: PLR0124 - NaN, of which SQLite makes NULL
    return type(value) is float and is_held and not (is_single or kind.asdecimal)


def _decimal(kind: Any, value: object, dialect: Dialect) -> bool:
    if type(value) not in {int, float, Decimal}:
        return False
    number = Decimal(str(value))
    if not number.is_finite():
        return not number.is_nan() or dialect.name != "sqlite"
    _, digits, exponent = number.as_tuple()
    places = int(exponent)
    is_sure = len(digits) + max(places, 0) <= _SURE_DIGITS
    if dialect.name != "sqlite":
        return (is_sure or type(value) is not float) and -places <= _scale(kind, -places)
    scale: int = kind._effective_decimal_return_scale  # noqa: SLF001 - to which SQLAlchemy rounds what lies there as a float
    return is_sure and -places <= scale


def _scale(kind: Any, unlimited: int) -> int:
    """Of a number with a precision and no scale it is 0."""
    scale: int | None = kind.scale
    return scale if scale is not None else unlimited if kind.precision is None else 0


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
    """A text in the one form in which it is read again."""
    del dialect
    if kind.as_uuid or not isinstance(value, str):
        return kind.as_uuid and isinstance(value, UUID)
    try:
        return value == str(UUID(value))
    except ValueError:
        return False


def _array(of_one: Keeps, value: object, dialect: Dialect) -> bool:
    if isinstance(value, list | tuple):
        return all(_array(of_one, one, dialect) for one in value)
    return value is None or of_one.asked(value, dialect)


def _range(of_end: Keeps | None, value: Any, dialect: Dialect) -> bool:
    """PostgreSQL has one way to write a range of days or of whole numbers, one without an end, and an empty one."""
    if of_end is None or getattr(value, "bounds", None) != "[)":
        return False
    ends = value.lower, value.upper
    try:
        return all(of_end.asked(end, dialect) for end in ends) and bool(ends[0] < ends[1])
    except ArithmeticError:  # a NaN
        return False


_ENDS = {
    ranges.INT4RANGE: types.Integer(),
    ranges.INT8RANGE: types.Integer(),
    ranges.NUMRANGE: types.Numeric(),
    ranges.DATERANGE: types.Date(),
    ranges.TSRANGE: types.DateTime(),
    ranges.TSTZRANGE: types.DateTime(timezone=True),
}
_RULES: tuple[tuple[type, type | None, _Rule | None], ...] = (  # the first that fits
    (types.TypeDecorator, None, None),
    (types.Enum, None, _enumerated),
    (types.CHAR, None, _padded),
    (types.NCHAR, None, _padded),
    (types.String, str, _text),
    (types.Boolean, bool, _is(bool)),
    (types.Integer, int, _is(int)),
    (types.Float, None, _floating),
    (types.Numeric, None, _decimal),
    (types.DateTime, None, _moment(datetime)),
    (types.Date, date, _is(date)),
    (types.Time, None, _moment(time)),
    (types.Uuid, None, _uuid),
)
