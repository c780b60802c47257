"""``bulk_create`` and ``bulk_update``: Django writes them in batches, and they are one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from django.db import connections
from django.db.models import Model, QuerySet

from audit_django.capture.criteria import summary_of
from audit_django.capture.links import is_link
from audit_django.capture.selection import audits
from audit_django.capture.units import Unit, telling
from audit_django.rows import kind_of
from audit_django.trail import bulk_rule


def _creating(original: Callable[..., Any]) -> Callable[..., Any]:
    def bulk_create(self: Any, objs: Iterable[Model], *args: Any, **kwargs: Any) -> Any:
        if not _is_audited(self):
            return original(self, objs, *args, **kwargs)
        objects = list(objs)
        with _operation(self, "bulk_create", "create", objects):
            return original(self, objects, *args, **kwargs)

    return bulk_create


def _updating(original: Callable[..., Any]) -> Callable[..., Any]:
    def bulk_update(self: Any, objs: Iterable[Model], fields: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_audited(self):
            return original(self, objs, fields, *args, **kwargs)
        objects, names = list(objs), list(fields)
        with _operation(self, "bulk_update", "update", objects):
            return original(self, objects, names, *args, **kwargs)

    return bulk_update


def _is_audited(rows: Any) -> bool:
    rows._for_write = True  # noqa: SLF001 - as Django does before it asks for the database
    return audits(rows.model, rows.db)


def _operation(rows: Any, operation: str, action: str, objects: list[Model]) -> AbstractContextManager[object]:
    model = rows.model._meta.concrete_model
    if not is_link(model):
        bulk_rule().allow(operation, kind_of(model))
    unit = Unit(connections[rows.db], {model, *model._meta.all_parents}, one_by_one=True)
    if len(objects) > bulk_rule().limit:
        unit.sum_up(action, model, summary_of(action, model, None))
    return telling(unit)


WRAPPED = (
    (QuerySet, "bulk_create", _creating),
    (QuerySet, "bulk_update", _updating),
)
