"""Which models are audited: the core's rule, with Django's names for models."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from django.apps import apps
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.signals import setting_changed
from django.db.models import Model
from django.dispatch import receiver
from django.utils.module_loading import import_string

from audit_core.errors import ConfigurationError
from audit_core.orm.selection import Choice, Selection, check_fields, is_unaudited
from audit_core.redaction.declared import said_of, stands_behind
from audit_django.rows import concrete_fields, kind_of
from audit_django.trail import audited_aliases, setting
from audit_django.triggers.coverage import by_triggers

# What Django keeps for itself: none of it is an application's data. Sessions are, of whatever class.
NOT_AUDITED = frozenset(("admin.logentry", "auth.permission", "contenttypes.contenttype"))


def audits(model: type[Model], using: str) -> bool:
    """Whether changes of this model in this database are audited.

    Raises ConfigurationError for settings and ``@redacted`` that name what there is not.
    """
    return is_selected(model._meta.concrete_model or model) and using in audited_aliases()


def captures(model: type[Model], using: str) -> bool:
    """Whether they are told here: no triggers of the database tell of them."""
    return audits(model, using) and not by_triggers(model, using)


@lru_cache(maxsize=4096)
def is_selected(model: type[Model]) -> bool:
    """The same of a concrete model, in whichever database.

    By rule: what is installed now, which a migration's historical models are not, nor the migrations' own table.
    An automatic many-to-many table is audited where the model is that declares the field.
    """
    meta = model._meta
    if meta.apps is not apps:
        return False
    if isinstance(meta.auto_created, type):
        return is_selected(meta.auto_created._meta.concrete_model or meta.auto_created)
    chosen = selection().chooses(model, _names(model), [meta.label] if is_djangos(model) else None)
    if chosen:
        check_rules(model)
    return chosen


def is_djangos(model: type[Model]) -> bool:
    """Whether it is not audited unless ``INCLUDE`` has its own name."""
    return model._meta.label_lower in NOT_AUDITED or issubclass(model, AbstractBaseSession)


@lru_cache(maxsize=1)
def selection() -> Selection:
    """What the settings choose. Raises ConfigurationError for what is no model, no app and no function."""
    found = Selection(setting("INCLUDE"), setting("EXCLUDE"), _choice(setting("CHOOSE")))
    models = apps.get_models()
    known = {name for model in models for names in _names(model).values() for name in names}
    known.update(config.label for config in apps.get_app_configs())
    found.check(known, option="settings.AUDIT['{}']", what="no installed app and no model")
    for proxy in (model for model in models if model._meta.proxy):
        _check_proxy(proxy, found)
    return found


def check_rules(model: type[Model]) -> None:
    """Raises ConfigurationError where ``@redacted`` names what is no field."""
    if said := said_of(model):
        check_fields(model._meta.label, said, fields_of(model))


def fields_of(model: type[Model]) -> list[str]:
    """What the trail tells of its objects: foreign keys by their column (``patient_id``)."""
    return [*(field.attname for field in concrete_fields(model)), *(field.name for field in model._meta.many_to_many)]


def follow_rules() -> None:
    """What is said on models holds for the resources that they are, proxies for what they stand for."""
    for model in apps.get_models():
        stands_behind(kind_of(model), model)


def _names(model: type[Model]) -> dict[type, tuple[str, ...]]:
    """Its app, and the labels of it and of what it derives from, abstract models too."""
    labels: dict[type, tuple[str, ...]] = {base: (label,) for base, label in _labels(model)}
    return labels | {model: (*labels[model], model._meta.app_label)}


def _labels(model: type[Model]) -> Iterator[tuple[type, str]]:
    for base in model.__mro__:
        if issubclass(base, Model) and hasattr(base, "_meta"):
            yield base, base._meta.label


def _check_proxy(proxy: type[Model], chosen: Selection) -> None:
    """A proxy is what it stands for: to choose it alone would choose nothing."""
    concrete: type[Model] = proxy._meta.concrete_model or proxy
    label = proxy._meta.label
    for option, entries in (("INCLUDE", chosen.include or ()), ("EXCLUDE", chosen.exclude)):
        if any(isinstance(entry, str) and entry.casefold() == label.casefold() for entry in entries):
            raise ConfigurationError(
                f"settings.AUDIT[{option!r}] names {label!r}, which is a proxy: name {concrete._meta.label!r}."
            )
    if is_unaudited(proxy) and not is_unaudited(concrete):
        raise ConfigurationError(f"@unaudited on {label}, which is a proxy: say it on {concrete._meta.label}.")


def _choice(given: object) -> Choice | None:
    try:
        choice = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ConfigurationError(f"settings.AUDIT['CHOOSE'] is {given!r}: {error}.") from None
    if choice is None or callable(choice):
        return choice
    raise ConfigurationError(f"settings.AUDIT['CHOOSE'] is a function that takes a model, or its path, not {given!r}.")


@receiver(setting_changed)
def _forget_selection(*, setting: str, **_: object) -> None:
    if setting == "AUDIT":
        selection.cache_clear()
        is_selected.cache_clear()
