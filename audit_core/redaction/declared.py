"""What classes say of their own fields, and which classes stand behind a resource type.

Classes belong to the process, and so does what is said of them: every redactor follows it. What is said of a class
holds for its subclasses, whose objects have its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol, TypeAlias, TypeVar, get_args
from weakref import WeakKeyDictionary, WeakSet

from audit_core.errors import ConfigurationError
from audit_core.policy import resource_name
from audit_core.redaction.sensitive_names import flat

Rule: TypeAlias = Literal["replace", "mask", "hash", "keep", "exclude", "private"]
_C = TypeVar("_C", bound=type)


class Follower(Protocol):
    """Who remembers what was said."""

    def forget(self) -> None:
        """Something else is said now."""


_said: WeakKeyDictionary[type, dict[str, Rule]] = WeakKeyDictionary()
_behind: dict[str, WeakSet[type]] = {}
_followers: WeakSet[Follower] = WeakSet()


def redacted(**fields: Rule) -> Callable[[_C], _C]:
    """Say on a class what the trail holds of its fields: ``@redacted(ssn="mask", scan="exclude")``.

    The rules are those of ``Redactor``; a rule there for the same resource type and field goes first. They hold for
    subclasses too. Without a hash key to hash with, ``hash`` is ``replace``. Raises ConfigurationError for a rule that
    there is not.
    """
    for name, rule in fields.items():
        check_rule(name, rule)

    def mark(cls: _C) -> _C:
        _said[cls] = {**_said.get(cls, {}), **fields}
        stands_behind(resource_name(cls.__name__), cls)
        _tell()
        return cls

    return mark


def stands_behind(resource_type: str, cls: type) -> None:
    """Objects of this class are told under this resource type."""
    classes = _behind.setdefault(flat(resource_type), WeakSet())
    if cls not in classes:
        classes.add(cls)
        _tell()


def said_of(cls: type) -> dict[str, Rule]:
    """What a class and its bases say of fields, by the names as they were written."""
    return {name: rule for base in reversed(cls.__mro__) for name, rule in _said.get(base, {}).items()}


def lineage(resource_type: str) -> Iterator[tuple[str, Mapping[str, Rule]]]:
    """The flat names of a resource type and of the classes that its objects derive from, with what each says."""
    kind = flat(resource_type)
    yield kind, {}
    for cls in list(_behind.get(kind, ())):
        for base in cls.__mro__:
            yield flat(base.__name__), {flat(name): rule for name, rule in _said.get(base, {}).items()}


def follow(follower: Follower) -> None:
    """Tell ``follower``, for as long as it lives, when something else is said."""
    _followers.add(follower)


def check_rule(name: str, rule: Rule) -> None:
    """Raises ConfigurationError for a rule that there is not."""
    if not isinstance(name, str):
        raise ConfigurationError(f"A rule is for a field like patient.phone, not for {name!r}.")
    if rule not in get_args(Rule):
        raise ConfigurationError(f"redaction of {name!r} is {rule!r}: choose from {', '.join(get_args(Rule))}")


def _tell() -> None:
    for follower in list(_followers):
        follower.forget()
