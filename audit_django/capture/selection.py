"""Which models are audited."""

from __future__ import annotations

from functools import lru_cache

from django.apps import apps
from django.core.signals import setting_changed
from django.db.models import Model
from django.dispatch import receiver

from audit_django.trail import audited_aliases, setting
from audit_django.triggers.coverage import by_triggers

# What Django keeps for itself: none of it is an application's data.
NOT_AUDITED = frozenset(("admin.logentry", "auth.permission", "contenttypes.contenttype", "sessions.session"))


def audits(model: type[Model], using: str) -> bool:
    """Whether changes of this model in this database are audited."""
    return _selected(model._meta.concrete_model or model) and using in audited_aliases()


def captures(model: type[Model], using: str) -> bool:
    """Whether they are told here: no triggers of the database tell of them."""
    return audits(model, using) and not by_triggers(model, using)


@lru_cache(maxsize=4096)
def _selected(model: type[Model]) -> bool:
    """By rule: what is installed now, which a migration's historical models are not, nor the migrations' own table.

    An automatic many-to-many table is audited where the model is that declares the field.
    """
    meta = model._meta
    if meta.apps is not apps:
        return False
    if NOT_AUDITED.union(str(name).lower() for name in setting("EXCLUDE")) & {meta.app_label, meta.label_lower}:
        return False
    owner = meta.auto_created
    return not isinstance(owner, type) or _selected(owner._meta.concrete_model or owner)


@receiver(setting_changed)
def _forget_selection(*, setting: str, **_: object) -> None:
    if setting == "AUDIT":
        _selected.cache_clear()
