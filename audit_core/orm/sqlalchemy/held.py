"""What rows have made of values that a flush wrote, while the session goes on with those that it was given."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, TypeAlias

from sqlalchemy.orm import InstanceState

Held: TypeAlias = Mapping[str, tuple[Any, Any]]  # by field: what was given, and what the row made of it
_held: weakref.WeakKeyDictionary[InstanceState[Any], Held] = weakref.WeakKeyDictionary()


def became(state: InstanceState[Any]) -> Held:
    """What became of the values that an earlier flush has written, where the object still has them."""
    return _held.get(state, {}) if _held else {}


def remember(state: InstanceState[Any], held: Held) -> None:
    """From now on, until the object is gone."""
    _held[state] = held


def in_row(known: Held, name: str, value: Any) -> Any:
    """What the row holds where the object has ``value``."""
    given, held = known.get(name, (value, value))
    return held if value is given else value
