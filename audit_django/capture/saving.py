"""``Model.save``: the tables of one object are one change."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

from django.db import connections
from django.db.models import Model

from audit_django.capture.blocks import undoing
from audit_django.capture.carrying import begin
from audit_django.capture.row import Row
from audit_django.capture.selection import audits
from audit_django.capture.units import Unit, collecting, telling
from audit_django.rows import key_of, with_parents

_PARTS = "_audit_parts"  # on an instance, between the saving of its parents' tables and of its own


def _saving_parents(original: Callable[..., Any]) -> Callable[..., Any]:
    """Multi-table inheritance: the first of its tables. Django has begun a transaction."""

    def save_parents(  # noqa: PLR0917 - Django's signature
        self: Model, cls: type[Model], using: str, update_fields: Any, force_insert: Any, updated_parents: Any = None
    ) -> Any:
        if updated_parents is not None or not cls._meta.parents or not audits(cls, using):
            return original(self, cls, using, update_fields, force_insert, updated_parents)
        unit = _unit(cls, using)
        with ExitStack() as stack:
            stack.enter_context(undoing(unit.connection))
            begin(unit.connection)
            with collecting(unit):
                result = original(self, cls, using, update_fields, force_insert, updated_parents)
            self.__dict__[_PARTS] = unit.rows, stack.pop_all()
        return result

    return save_parents


def _saving_table(original: Callable[..., Any]) -> Callable[..., Any]:
    """The last, or only, table of an object: the change is complete with it."""

    def save_table(  # noqa: PLR0917 - Django's signature
        self: Model,
        raw: bool = False,  # noqa: FBT002 - Django's signature
        cls: Any = None,
        force_insert: Any = False,  # noqa: FBT002 - the same
        force_update: bool = False,  # noqa: FBT002 - the same
        using: Any = None,
        update_fields: Any = None,
    ) -> Any:
        arguments = (raw, cls, force_insert, force_update, using, update_fields)
        model: type[Model] = cls
        if model is not self._meta.concrete_model or not audits(model, using):
            return original(self, *arguments)
        parts, whole = self.__dict__.pop(_PARTS, ([], nullcontext()))
        with whole, telling(_unit(model, using)) as unit:
            was_updated = original(self, *arguments)
            if parts:
                unit.rows += [*parts, *_own_row(self, model, unit)]
        return was_updated

    return save_table


def _unit(model: type[Model], using: str) -> Unit:
    return Unit(connections[using], with_parents([model]), one_by_one=True)


def _own_row(instance: Model, model: type[Model], unit: Unit) -> list[Row]:
    """A save that writes nothing but fields of the parents' tables is a change of the object all the same."""
    if any(row.model is model for row in unit.rows):
        return []
    links = {field.attname: getattr(instance, field.attname) for field in model._meta.parents.values() if field}
    return [Row("update", model, key_of(instance.pk), links, links)]


WRAPPED = (
    (Model, "_save_parents", _saving_parents),
    (Model, "_save_table", _saving_table),
)
