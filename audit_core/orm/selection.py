"""Which classes are audited: the same for every ORM. Pure.

All are, but for what a framework keeps for itself. ``include`` names the only ones, ``exclude`` those that are not,
``@unaudited`` says it on the class, and ``choose`` is asked for each other. Whoever says no goes first. What is said
of a class holds for its subclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar
from weakref import WeakSet

from audit_core.errors import ConfigurationError, nearest
from audit_core.redaction.sensitive_names import flat

Name: TypeAlias = type | str
Choice: TypeAlias = Callable[[type], object]  # true: its changes are audited
_C = TypeVar("_C", bound=type)

_unaudited: WeakSet[type] = WeakSet()


def unaudited(cls: _C) -> _C:
    """Say on a class, and for its subclasses, that its changes are not audited."""
    _unaudited.add(cls)
    return cls


def is_unaudited(cls: type) -> bool:
    """Whether a class, or one that it derives from, says so."""
    return any(base in _unaudited for base in cls.__mro__)


class Selection:
    """What an application has chosen. A class is named by itself, or by one of the names that its ORM has for it."""

    def __init__(
        self, include: Iterable[Name] | None = None, exclude: Iterable[Name] = (), choose: Choice | None = None
    ) -> None:
        self.include = None if include is None else _entries("include", include)
        self.exclude = _entries("exclude", exclude)
        if choose is not None and not callable(choose):
            raise ConfigurationError(f"choose is a function that takes a class, not {choose!r}.")
        self.choose = choose

    def chooses(self, cls: type, names: Mapping[type, Iterable[str]], only_as: Iterable[str] | None = None) -> bool:
        """Whether changes of ``cls`` are audited. ``names`` has those of the class and of what it derives from.

        What is not audited by default has to be included by itself, or by one of its names in ``only_as``.
        """
        if is_unaudited(cls) or _holds(self.exclude, names):
            return False
        if only_as is not None:
            return self.include is not None and _holds(self.include, {cls: only_as})
        chosen = self.include is None or _holds(self.include, names)
        return chosen and (self.choose is None or bool(self.choose(cls)))

    def check(self, known: Iterable[str], option: str = "{}", what: str = "no mapped class") -> None:
        """Raises ConfigurationError for names that no class has, with the nearest one.

        ``option`` is how the application gives them, and ``what`` what such a name is not.
        """
        names = set(known)
        folded = {name.casefold() for name in names}
        for name, entries in (("include", self.include or ()), ("exclude", self.exclude)):
            for entry in entries:
                if isinstance(entry, str) and entry.casefold() not in folded:
                    where = option.format(name if option == "{}" else name.upper())
                    raise ConfigurationError(f"{where} names {entry!r}, which is {what}.{nearest(entry, names)}")


def check_fields(name: str, said: Iterable[str], fields: Iterable[str]) -> None:
    """Raises ConfigurationError where ``@redacted`` on a class of this name says something of what is no field."""
    known = {flat(field): field for field in fields}
    for field in said:
        if flat(field) not in known:
            raise ConfigurationError(
                f"@redacted on {name} names {field!r}, which is none of its fields.{nearest(field, known.values())}"
            )


def _entries(option: str, given: Iterable[Name]) -> tuple[Name, ...]:
    if isinstance(given, str | type) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{option} is a list of classes or names, not {given!r}.")
    entries = tuple(given)
    for entry in entries:
        if not isinstance(entry, str | type):
            raise ConfigurationError(f"{option} is a list of classes or names, and {entry!r} is neither.")
    return entries


def _holds(entries: Iterable[Name], names: Mapping[type, Iterable[str]]) -> bool:
    folded = {name.casefold() for its in names.values() for name in its}
    return any(entry.casefold() in folded if isinstance(entry, str) else entry in names for entry in entries)
