"""What the models say of their tables, so that a trigger's event has the names that an event of the hooks has."""

from __future__ import annotations

from collections.abc import Container, Iterable

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from audit_core.triggers import Known
from audit_django.capture.links import is_link
from audit_django.capture.selection import audits
from audit_django.rows import kind_of
from audit_django.trail import bulk_rule, redaction_rules
from audit_django.triggers.coverage import table_of


def known_in(using: str, labels: Container[str] | None = None) -> Known:
    """Of all audited models in this database, or of those with these labels."""
    models = (model for model in apps.get_models() if labels is None or model._meta.label in labels)
    return known_of((model for model in models if audits(model, using)), using)


def known_of(models: Iterable[type[Model]], using: str) -> Known:
    """Of these models; links and what has no table of its own aside."""
    own = [model for model in models if not (is_link(model) or model._meta.proxy)]
    chosen = {spelled(model): model for model in sorted(own, key=lambda model: model._meta.managed)}
    return Known(
        resources={table: kind_of(model) for table, model in chosen.items()},
        fields={table: fields_of(model) for table, model in chosen.items()},
        classes={model._meta.label_lower: table for table, model in chosen.items()},
        limit=bulk_rule().limit,
        redactor=redaction_rules(),
        database=None if using == DEFAULT_DB_ALIAS else using,
    )


def spelled(model: type[Model]) -> str:
    """The table, with its schema where the model names one."""
    return ".".join(filter(None, table_of(model)))


def fields_of(model: type[Model]) -> dict[str, str]:
    """What the fields are called whose columns are called otherwise."""
    fields = model._meta.local_concrete_fields
    return {str(field.column): field.attname for field in fields if field.column != field.attname}
