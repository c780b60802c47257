"""How rows of a model are read, as the database holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model, QuerySet

from audit_core.orm.changes import resource_id
from audit_core.policy import resource_name
from audit_django.unreadable import converted, selected

Key = tuple[Any, ...]
Values = dict[str, Any]
PAGE = 200  # rows that one query reads: SQLite's oldest limit on parameters is 999


def concrete_fields(model: type[Model]) -> list[Field[Any, Any]]:
    """The fields of all the model's tables, without the links between these."""
    return [field for field in model._meta.concrete_fields if not getattr(field.remote_field, "parent_link", False)]


def kind_of(model: type[Model]) -> str:
    """What the trail calls a row of this model; a proxy is what it stands for."""
    return resource_name((model._meta.concrete_model or model).__name__)


def with_parents(models: Iterable[type[Model]]) -> set[type[Model]]:
    """These and what they inherit from: the models of all tables that their objects have rows in."""
    return {one._meta.concrete_model or one for model in models for one in (model, *model._meta.all_parents)}


class _UnhashableKey(tuple[Any, ...]):
    """A field may give its values a class that cannot be hashed, which Django needs only where it deletes."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(resource_id(self))


def key_of(pk: Any) -> Key:
    """A primary key as the values of its columns; a key of a dictionary in any case."""
    key = tuple(pk) if isinstance(pk, tuple | list) else (pk,)
    try:
        hash(key)
    except TypeError:
        return _UnhashableKey(key)
    return key


def key_fields(model: type[Model]) -> Key:
    """The names of the primary key's fields."""
    fields = getattr(model._meta, "pk_fields", None) or [model._meta.pk]
    return tuple(field.name for field in fields)


def read_rows(
    model: type[Model], using: str, fields: Sequence[Field[Any, Any]], pks: Sequence[Any], *, lock: bool = False
) -> Iterator[tuple[Key, Values]]:
    """The rows with these primary keys. With ``lock`` nobody else changes them from now on, as after our own UPDATE."""
    for start in range(0, len(pks), PAGE):
        some = pks[start : start + PAGE]
        rows: QuerySet[Any, Any] = QuerySet(model, using=using)  # of no manager, which may hide rows
        if lock and connections[using].features.has_select_for_no_key_update:
            rows = rows.select_for_update(no_key=True)
        yield from read_query(rows.filter(pk=some[0]) if len(some) == 1 else rows.filter(pk__in=some), fields)


def read_query(rows: QuerySet[Any, Any], fields: Sequence[Field[Any, Any]]) -> Iterator[tuple[Key, Values]]:
    """The key and these fields of each row of a query, by their column attribute (``patient_id``)."""
    names = [field.attname for field in fields]
    for pk, *values in fetch(rows.order_by().values_list("pk", *names)):
        yield key_of(pk), named(fields, values)


def named(fields: Sequence[Field[Any, Any]], values: Sequence[Any]) -> Values:
    """Values by the column attributes of their fields."""
    return dict(zip([field.attname for field in fields], values, strict=True))


def fetch(query: QuerySet[Any, Any]) -> list[Any]:
    """Run it as Django does, but past what counts, logs or forbids queries: it is not the application's."""
    compiler = query.query.get_compiler(query.db)
    connection: BaseDatabaseWrapper = compiler.connection
    try:
        sql, parameters = compiler.as_sql()
    except EmptyResultSet:
        return []
    with connection.wrap_database_errors, closing(connection.create_cursor()) as cursor:
        rows = selected(cursor, sql, parameters)
    compiler.apply_converters = partial(converted, compiler)
    return list(compiler.results_iter([rows]))
