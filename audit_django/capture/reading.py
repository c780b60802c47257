"""The rows that a statement is about to change, read before it and after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connections
from django.db.models import Q, QuerySet
from django.db.models.constants import OnConflict
from django.db.models.sql import Query

from audit_django.databases import POSTGRESQL
from audit_django.rows import Key, Values, fetch, key_of, named, read_query, read_rows


def count(compiler: Any, limit: int) -> int:
    """How many rows the statement will change, counted up to ``limit``."""
    return len(fetch(_selecting(compiler).values_list("pk")[:limit]))


def matching(compiler: Any, fields: Sequence[Any]) -> Iterator[tuple[Key, Values]]:
    """The rows that the statement will change."""
    return read_query(_selecting(compiler), fields)


def update(
    compiler: Any, fields: Sequence[Any], run: Callable[[], Any]
) -> tuple[list[tuple[Key, Values, Values]], Any]:
    """Per row its new key, and the fields before and after; and what Django makes of the statement."""
    before = _locked(compiler, fields) if compiler.connection.vendor == POSTGRESQL else _with_new_keys(compiler, fields)
    result = run()
    keys = [key[0] if len(key) == 1 else key for key in before]
    after = dict(read_rows(compiler.query.model, compiler.using, fields, keys))
    return [(key, old, after[key]) for key, old in before.items() if key in after], result


def conflicting(compiler: Any, fields: Sequence[Any]) -> Iterator[tuple[Key, Values]]:
    """The rows that an upsert will update instead of making them anew."""
    query = compiler.query
    if query.on_conflict != OnConflict.UPDATE:
        return
    model, page = query.model, 100
    for start in range(0, len(query.objs), page):
        same = Q()
        for one in query.objs[start : start + page]:
            same |= Q(**{field.attname: getattr(one, field.attname) for field in query.unique_fields})
        found: QuerySet[Any, Any] = QuerySet(model, using=compiler.using).filter(same)
        if connections[compiler.using].features.has_select_for_no_key_update:
            found = found.select_for_update(no_key=True)
        yield from read_query(found, fields)


def _selecting(compiler: Any) -> QuerySet[Any, Any]:
    """The rows of the statement's condition, as Django itself selects them where it needs their keys first."""
    query = compiler.query.chain(klass=Query)
    query.select_related = False
    query.clear_ordering(force=True)
    query.extra = {}
    query.clear_select_clause()
    return QuerySet(query.model, query=query, using=compiler.using)


def _locked(compiler: Any, fields: Sequence[Any]) -> dict[Key, Values]:
    """Of several tables, one after another: the statement changes the rows that were found, and no others."""
    pks = [row[0] for row in fetch(_selecting(compiler).values_list("pk"))]
    compiler.query.clear_where()
    compiler.query.add_filter("pk__in", pks)
    return dict(read_rows(compiler.query.model, compiler.using, fields, pks, lock=True))


def _with_new_keys(compiler: Any, fields: Sequence[Any]) -> dict[Key, Values]:
    """By the key that each row will have. On SQLite nobody else writes meanwhile."""
    keys = compiler.query.get_meta().pk_fields
    written = {field: value for field, _, value in compiler.query.values if field in keys}
    if not written:
        return dict(matching(compiler, fields))
    selected = _selecting(compiler)
    computed = {f"audit_{field.attname}": value for field, value in written.items() if hasattr(value, "as_sql")}
    names = [name if (name := f"audit_{field.attname}") in computed else field.attname for field in keys]
    found = fetch(selected.annotate(**computed).order_by().values_list(*names, *(field.attname for field in fields)))
    plain = {
        keys.index(field): field.to_python(getattr(value, "pk", value))
        for field, value in written.items()
        if not hasattr(value, "as_sql")
    }
    return {
        key_of([plain.get(place, row[place]) for place in range(len(keys))]): named(fields, row[len(keys) :])
        for row in found
    }
