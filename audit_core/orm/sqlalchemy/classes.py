"""Every class that is mapped, before and after this is imported: what rules hold for it, and what it is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.mapper import _all_registries

from audit_core.orm.selection import check_fields
from audit_core.orm.sqlalchemy.mapped import mapped
from audit_core.policy import resource_name
from audit_core.redaction.declared import said_of, stands_behind

OWN_TABLES = frozenset(("audit_events", "audit_checkpoints", "audit_outbox", "audit_lock", "audit_positions"))
_SESSIONS = "flask_session."  # where Flask-Session maps the table that it keeps them in


def names_of(cls: type) -> dict[type, tuple[str, ...]]:
    """What a class and those that it derives from are called: name, resource type, and with the module."""
    return {
        base: (base.__name__, resource_name(base.__name__), f"{base.__module__}.{base.__qualname__}")
        for base in cls.__mro__
        if base is not object
    }


def every_name() -> set[str]:
    """All names that a mapped class has, or derives from."""
    return {name for mapper in every_mapper() for names in names_of(mapper.class_).values() for name in names}


def every_mapper() -> Iterator[Mapper[Any]]:
    """All classes that are mapped just now."""
    for registry in list(_all_registries()):
        yield from list(registry.mappers)


def is_own(mapper: Mapper[Any]) -> bool:
    """Whether it is mapped to one of the trail's tables."""
    return any(getattr(table, "name", None) in OWN_TABLES for table in mapper.tables)


def is_frameworks(mapper: Mapper[Any]) -> bool:
    """Whether a framework keeps what is its own in it."""
    return mapper.class_.__module__.startswith(_SESSIONS)


def fields_of(mapper: Mapper[Any]) -> list[str]:
    """What the trail tells of its objects."""
    fields = mapped(mapper)
    return [*fields.columns, *(relationship.key for relationship in fields.many_to_many)]


def check_rules(mapper: Mapper[Any]) -> None:
    """Raises ConfigurationError where ``@redacted`` names what is no field."""
    if said := said_of(mapper.class_):
        check_fields(mapper.class_.__name__, said, fields_of(mapper))


def _mapped(mapper: Mapper[Any], cls: type) -> None:
    del mapper
    stands_behind(resource_name(cls.__name__), cls)


event.listen(Mapper, "after_mapper_constructed", _mapped)
for _mapper in every_mapper():
    _mapped(_mapper, _mapper.class_)
