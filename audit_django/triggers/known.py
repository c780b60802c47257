"""What the models say of their tables, so that a trigger's event has the names that an event of the hooks has."""

from __future__ import annotations

from collections.abc import Container, Iterable

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from audit_core.redaction import Redactor
from audit_core.triggers import Known
from audit_core.triggers.known import Stored, left_to_hooks
from audit_django.capture.links import field_of, is_link, owner_of
from audit_django.capture.selection import audits
from audit_django.rows import kind_of
from audit_django.trail import bulk_rule, redaction_rules
from audit_django.triggers.coverage import table_of, uses_triggers

TELLS_TOO = "the hooks tell of these tables too, so set AUDIT['TRIGGERS'] to True"


def known_in(using: str, labels: Container[str] | None = None) -> Known:
    """Of all audited models in this database, or of those with these labels."""
    models = (model for model in apps.get_models() if labels is None or model._meta.label in labels)
    return known_of((model for model in models if audits(model, using)), using)


def known_of(models: Iterable[type[Model]], using: str) -> Known:
    """Of these models; links and what has no table of its own aside."""
    own = [model for model in models if not (is_link(model) or model._meta.proxy)]
    left_out = left_out_in(using)
    by_table = {spelled(model): model for model in sorted(own, key=lambda model: model._meta.managed)}
    chosen = {table: model for table, model in by_table.items() if table not in left_out}
    return Known(
        resources={table: kind_of(model) for table, model in chosen.items()},
        fields={table: fields_of(model) for table, model in chosen.items()},
        classes={model._meta.label_lower: spelled(model) for model in (*apps.get_models(), *own)},
        limit=bulk_rule().limit,
        redactor=redaction_rules(),
        database=None if using == DEFAULT_DB_ALIAS else using,
        others=_others(),
        left_out=left_out,
        cure="" if uses_triggers() else TELLS_TOO,
    )


def left_out_in(using: str) -> dict[str, str]:
    """The tables of all models, as they are now, that no trigger in this database may tell, and which model says so."""
    models = [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]
    # An unmanaged model may have the table of an audited one, whose rows these are.
    own = {spelled(model) for model in models if not is_link(model) and audits(model, using)}
    stored = []
    rules = redaction_rules()
    for model in models:
        is_audited = audits(model, using) and not (is_link(model) and _has_rule(rules, model))
        tables = [spelled(one) for one in (model, *model._meta.all_parents)]
        if is_audited or tables[0] not in own:
            stored.append(Stored(model._meta.label, tables, is_audited))
    return left_to_hooks(stored)


def _has_rule(rules: Redactor, link: type[Model]) -> bool:
    return rules.treatment(field_of(link), kind_of(owner_of(link))) is not None


def _others() -> dict[str, dict[str, set[tuple[str, str]]]]:
    """What the fields of inherited tables are to the models that inherit them."""
    others: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for model in apps.get_models():
        for parent in model._meta.all_parents:
            columns = others.setdefault(spelled(parent), {})
            for field in parent._meta.local_concrete_fields:
                columns.setdefault(str(field.column), set()).add((kind_of(model), field.attname))
    return others


def spelled(model: type[Model]) -> str:
    """The table, with its schema where the model names one."""
    return ".".join(filter(None, table_of(model)))


def fields_of(model: type[Model]) -> dict[str, str]:
    """What the fields are called whose columns are called otherwise."""
    fields = model._meta.local_concrete_fields
    return {str(field.column): field.attname for field in fields if field.column != field.attname}
