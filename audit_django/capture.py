"""Every save and delete as an event in the transaction that makes it, on every database alias.

``post_save`` fires when ``save()`` has committed already: an event written there can be lost, and can remain of what
was undone. So what Django does between ``pre_save`` and ``post_save`` (``Model._save_parents``, ``_save_table``), and
in ``Collector.delete``, runs inside a transaction together with the event. The signals stay where they were.

Old values are what the row held, read before the write, and new values what it holds after it: ``F()``, generated
columns and values that were assigned as text come out as the database has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Any, TypeAlias

from django.apps import apps
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, QuerySet
from django.db.models.deletion import Collector
from django.dispatch import receiver

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.orm.changes import Change, created, deleted, updated
from audit_core.policy import resource_name
from audit_django.databases import OUTBOX, POSTGRESQL
from audit_django.postgres import as_django_tells, existing_tables
from audit_django.rows import Values, concrete_fields, key_fields, key_of, read_query, read_row, read_rows
from audit_django.trail import audited_aliases, get_trail, setting

# What Django keeps for itself: none of it is an application's data.
NOT_AUDITED = frozenset(("admin.logentry", "auth.permission", "contenttypes.contenttype", "sessions.session"))
_BEFORE = "_audit_before"  # on an instance, between the saving of its parents' tables and of its own
_Fields: TypeAlias = "list[Field[Any, Any]]"


def install() -> None:
    """Capture the changes of every model, from now on. May be repeated."""
    for owner, name, wrap in (
        (Model, "_save_parents", _saving_parents),
        (Model, "_save_table", _saving_table),
        (Collector, "collect", _collecting),
        (Collector, "delete", _deleting),
        (Collector, "_has_signal_listeners", _having_listeners),
    ):
        original = getattr(owner, name)
        if not hasattr(original, "__audit__"):
            wrapped: Any = wraps(original)(wrap(original))
            wrapped.__audit__ = True
            setattr(owner, name, wrapped)


def audits(model: type[Model], using: str) -> bool:
    """Whether changes of this model in this database are audited."""
    return _selected(model._meta.concrete_model or model) and using in audited_aliases()


@lru_cache(maxsize=4096)
def _selected(model: type[Model]) -> bool:
    """By rule: what is installed now, which a migration's historical models are not, nor the migrations' own table."""
    meta = model._meta
    if meta.auto_created or meta.apps is not apps:
        return False
    excluded = NOT_AUDITED.union(str(name).lower() for name in setting("EXCLUDE"))
    return excluded.isdisjoint({meta.app_label, meta.label_lower})


@receiver(setting_changed)
def _forget_selection(*, setting: str, **_: object) -> None:
    if setting == "AUDIT":
        _selected.cache_clear()


# -- saving ----------------------------------------------------------------------------------------------------


def _saving_parents(original: Callable[..., Any]) -> Callable[..., Any]:
    """Multi-table inheritance: the row as it was, before the first of its tables is written."""

    def save_parents(  # noqa: PLR0917 - Django's signature
        self: Model, cls: type[Model], using: str, update_fields: Any, force_insert: Any, updated_parents: Any = None
    ) -> Any:
        if updated_parents is not None or not cls._meta.parents or not audits(cls, using):
            return original(self, cls, using, update_fields, force_insert, updated_parents)
        _begin(using)
        fields = _written(cls, update_fields, raw=False)
        self.__dict__[_BEFORE] = _held(self, cls, using, fields)
        try:
            return original(self, cls, using, update_fields, force_insert, updated_parents)
        except BaseException:
            self.__dict__.pop(_BEFORE, None)
            raise

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
        model: type[Model] = cls
        arguments = (raw, model, force_insert, force_update, using, update_fields)
        if model is not self._meta.concrete_model or not audits(model, using):
            return original(self, *arguments)
        with transaction.atomic(using=using, savepoint=False):
            trail = _begin(using)
            fields = _written(model, update_fields, raw=raw)
            old = None
            if _BEFORE in self.__dict__:
                old = self.__dict__.pop(_BEFORE)
            elif _may_update(self, raw=raw, force_insert=force_insert, force_update=force_update):
                old = _held(self, model, using, fields)
            was_updated = original(self, *arguments)
            if change := _saved(self, model, using, fields, old if was_updated else None, is_new=not was_updated):
                _carry(trail, using, [change])
            return was_updated

    return save_table


def _may_update(instance: Model, *, raw: bool, force_insert: Any, force_update: bool) -> bool:
    """Whether ``_save_table`` will try an UPDATE."""
    if force_insert or not _pk_is_set(instance):
        return False
    if raw or force_update or not instance._state.adding:  # noqa: SLF001 - documented by Django
        return True
    pk_fields: Any = instance._meta.pk_fields
    return not all(field.has_default() or field.has_db_default() for field in pk_fields)


def _pk_is_set(instance: Model) -> bool:
    return bool(instance._is_pk_set())  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own question


def _written(model: type[Model], update_fields: Any, *, raw: bool) -> _Fields:
    """The fields that a save writes, and those that the database computes from them."""
    fields = concrete_fields(model)
    if raw:  # a fixture brings each table of an object by itself
        local = model._meta.local_concrete_fields
        fields = [field for field in fields if field in local]
    if update_fields:
        fields = [f for f in fields if f.name in update_fields or f.attname in update_fields or _generated(f)]
    return fields


def _generated(field: Field[Any, Any]) -> bool:
    return bool(getattr(field, "generated", False))


def _held(instance: Model, model: type[Model], using: str, fields: _Fields) -> Values | None:
    return read_row(model, using, fields, instance.pk, lock=True) if _pk_is_set(instance) else None


def _saved(
    instance: Model, model: type[Model], using: str, fields: _Fields, old: Values | None, *, is_new: bool
) -> Change | None:
    new = read_row(model, using, fields, instance.pk)
    if new is None:  # the base manager hides the row, or a trigger of the database has moved it
        new = {field.attname: instance.__dict__.get(field.attname) for field in fields}
    kind, key = _kind(model), key_of(instance.pk)
    named = key_fields(model)
    return created(kind, key, new, named) if is_new else updated(kind, key, old or {}, new, named)


# -- deleting --------------------------------------------------------------------------------------------------


def _having_listeners(original: Callable[..., Any]) -> Callable[..., Any]:
    """What is audited is collected row by row, as if somebody listened to its deletion."""

    def has_signal_listeners(self: Any, model: type[Model]) -> Any:
        return original(self, model) or audits(model, self.using)

    return has_signal_listeners


def _collecting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Collecting reads, where without us a single DELETE might do: inside a transaction the write comes first."""

    def collect(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Not for the admin's subclass, which collects for a page that shows what a deletion would take along.
        deletes = type(self) is Collector and not self.data
        if deletes and connections[self.using].in_atomic_block and self.using in audited_aliases():
            _begin(self.using)
        return original(self, *args, **kwargs)

    return collect


def _deleting(original: Callable[..., Any]) -> Callable[..., Any]:
    def delete(self: Any) -> Any:
        if not any(audits(model, self.using) for model in _models(self)):
            return original(self)
        with transaction.atomic(using=self.using, savepoint=False):
            trail = _begin(self.using)
            changes = [*_set_free(self), *_victims(self)]
            result = original(self)
            _carry(trail, self.using, changes)
            return result

    return delete


def _models(collector: Any) -> Iterator[type[Model]]:
    yield from collector.data
    yield from (field.model for field, _ in collector.field_updates)


def _victims(collector: Any) -> Iterator[Change]:
    """One change for each object: its parents' rows are part of it."""
    parts = set(_parent_rows(collector))
    gone = {model._meta.concrete_model for model in collector.data}
    for model, instances in collector.data.items():
        concrete = model._meta.concrete_model
        if not audits(model, collector.using):
            continue
        # ``keep_parents`` leaves rows of the parents' tables behind.
        fields = [field for field in concrete_fields(concrete) if field.model in gone]
        pks = [instance.pk for instance in instances if (concrete, instance.pk) not in parts]
        for key, values in read_rows(concrete, collector.using, fields, pks):
            yield deleted(_kind(concrete), key, values, key_fields(concrete))


def _parent_rows(collector: Any) -> Iterator[tuple[type[Model], Any]]:
    for model, instances in collector.data.items():
        for parent in model._meta.all_parents:
            if parent._meta.concrete_model is not model._meta.concrete_model:  # else the model is its proxy
                yield from ((parent, getattr(instance, parent._meta.pk.attname)) for instance in instances)


def _set_free(collector: Any) -> Iterator[Change]:
    """The rows that lose their reference (SET_NULL and the like) instead of being deleted."""
    for (field, value), several in collector.field_updates.items():
        if not audits(field.model, collector.using):
            continue
        model = field.model._meta.concrete_model
        for instances in several:
            if isinstance(instances, QuerySet):
                rows = read_query(instances, [field])
            else:
                rows = read_rows(model, collector.using, [field], [instance.pk for instance in instances])
            for key, old in rows:
                new = getattr(value, "pk", value)
                if change := updated(_kind(model), key, old, {field.attname: new}, key_fields(model)):
                    yield change


# -- both ------------------------------------------------------------------------------------------------------


def _kind(model: type[Model]) -> str:
    return resource_name(model.__name__)


def _begin(using: str) -> AuditTrail:
    """Begin with a write what will be a writing transaction.

    SQLite refuses, at once and whatever the timeout, a transaction that read first when somebody else committed
    before its first write. Raises ConfigurationError where the change could leave no event.
    """
    connection = connections[using]
    trail = get_trail()
    try:
        with connection.wrap_database_errors:  # past Django's cursor: what counts queries counts the application's
            trail.outbox_of(_raw(connection), using).reserve(_raw(connection))
    except (OperationalError, ConfigurationError) as error:
        if not _misses_outbox(connection, error):
            raise
        raise ConfigurationError(
            f"The database {using!r} has no audit outbox: run `manage.py migrate --database={using}`, or leave it out "
            "of AUDIT['DATABASES']."
        ) from error
    return trail


def _misses_outbox(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    if connection.vendor == POSTGRESQL:
        return isinstance(error, ConfigurationError) and OUTBOX not in existing_tables(connection)
    return "no such table" in str(error)


def _carry(trail: AuditTrail, using: str, changes: list[Change]) -> None:
    """A resource has one name everywhere; that its row lies in another database than the default one is a detail."""
    where = {} if using == DEFAULT_DB_ALIAS else {"database": using}
    events = [
        trail.event(one.action, resource=one.resource(trail.redactor), details={**one.details, **where})
        for one in changes
    ]
    if events:
        with as_django_tells(connections[using]):
            trail.carry(events, _raw(connections[using]), using)


def _raw(connection: BaseDatabaseWrapper) -> Any:
    connection.ensure_connection()
    return connection.connection
