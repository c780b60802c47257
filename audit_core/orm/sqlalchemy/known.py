"""What an auditor's classes say of their tables, for triggers, which know neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Join, Table
from sqlalchemy.orm import Mapper

from audit_core.orm.sqlalchemy.auditor import SQLAlchemyAuditor
from audit_core.orm.sqlalchemy.classes import is_own
from audit_core.orm.sqlalchemy.links import place_in_table
from audit_core.orm.sqlalchemy.mapped import mapped
from audit_core.orm.sqlalchemy.targets import every_configured_mapper
from audit_core.triggers.known import Known, Stored, left_to_hooks

TELLS_TOO = "this auditor tells of these tables too, so give it triggers=True"


def known_of(auditor: SQLAlchemyAuditor) -> Known:
    """Of all classes that are mapped now: import them before. Rules are those of the classes and of the trail.

    Raises ConfigurationError where ``include``, ``exclude`` or ``@redacted`` names what there is not.
    """
    mappers = [mapper for mapper in every_configured_mapper() if not is_own(mapper)]
    stored = [_stored(mapper, is_audited=auditor.audits(mapper)) for mapper in mappers]
    left_out = left_to_hooks([*stored, *_links(auditor, mappers)])
    resources: dict[str, str] = {}
    fields: dict[str, dict[str, str]] = {}
    others: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for mapper in sorted(mappers, key=_depth):  # whose table it is comes before those that inherit it
        kind = mapped(mapper).resource_type
        for table, column, field in _columns(mapper):
            others.setdefault(table, {}).setdefault(column, set()).add((kind, field))
            fields.setdefault(table, {}).setdefault(column, field)
            if table not in left_out:
                resources.setdefault(table, kind)
    return Known(
        resources=resources,
        fields={table: {c: f for c, f in its.items() if c != f} for table, its in fields.items()},
        classes={mapper.class_.__name__.lower(): _own_table(mapper) for mapper in reversed(mappers)},
        limit=auditor.bulk.limit,
        redactor=auditor.trail.redactor,
        others=others,
        left_out=left_out,
        cure="" if auditor.uses_triggers else TELLS_TOO,
    )


def spelled(table: Table) -> str:
    """The table, with its schema where it has one."""
    return f"{table.schema}.{table.name}" if table.schema else table.name


def _stored(mapper: Mapper[Any], *, is_audited: bool) -> Stored:
    return Stored(mapper.class_.__name__, [spelled(table) for table in _tables(mapper)], is_audited)


def _tables(mapper: Mapper[Any]) -> list[Table]:
    """Those that its objects are written to; what is mapped to a query is none."""
    if not isinstance(mapper.persist_selectable, Table | Join):
        return []
    return [table for table in mapper.tables if isinstance(table, Table)]


def _links(auditor: SQLAlchemyAuditor, mappers: list[Mapper[Any]]) -> Iterator[Stored]:
    """The tables of many-to-many relationships, whose links are told of one class, under the relationship's name."""
    by_table: dict[Table, list[Any]] = {}
    for relationship in (one for mapper in mappers for one in mapped(mapper).many_to_many):
        if isinstance(relationship.secondary, Table):
            by_table.setdefault(relationship.secondary, []).append(relationship)
    for table, relationships in by_table.items():
        owner = min(relationships, key=place_in_table)
        kind = mapped(owner.parent).resource_type
        is_told = auditor.audits(owner.parent) and auditor.trail.redactor.treatment(owner.key, kind) is None
        yield Stored(f"{owner.parent.class_.__name__}.{owner.key}", [spelled(table)], is_told)


def _columns(mapper: Mapper[Any]) -> Iterator[tuple[str, str, str]]:
    """Table, column and field of everything that this class writes."""
    tables = _tables(mapper)
    for prop in mapper.column_attrs:
        for column in prop.columns:
            if (table := getattr(column, "table", None)) in tables:
                yield spelled(table), str(column.name), prop.key


def _own_table(mapper: Mapper[Any]) -> str:
    return spelled(mapper.local_table) if isinstance(mapper.local_table, Table) else ""


def _depth(mapper: Mapper[Any]) -> int:
    return len(list(mapper.iterate_to_root()))
