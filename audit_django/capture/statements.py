"""The statements that Django writes with, each with the rows that it changes.

All that writes rows goes through one of three compilers: ``save``, ``bulk_create``, many-to-many links and upserts
through that of INSERT; ``save``, ``QuerySet.update``, ``bulk_update``, related managers and SET_NULL through that of
UPDATE; every deletion through that of DELETE. Only raw SQL does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from django.db.models import Field, Model
from django.db.models.sql.compiler import SQLDeleteCompiler, SQLInsertCompiler, SQLUpdateCompiler
from django.db.models.sql.constants import ROW_COUNT

from audit_django.capture import reading, returning
from audit_django.capture.criteria import conflict_of, summary_of
from audit_django.capture.links import is_link
from audit_django.capture.row import Row
from audit_django.capture.selection import audits, captures
from audit_django.capture.units import Unit, collecting, innermost, telling
from audit_django.databases import POSTGRESQL
from audit_django.rows import key_of, kind_of, named, read_rows
from audit_django.trail import bulk_rule

_Wrapped: TypeAlias = Callable[..., Any]
_OPERATIONS = {"create": "bulk_create", "update": "QuerySet.update", "delete": "QuerySet.delete"}


def _inserting(original: _Wrapped) -> _Wrapped:
    def execute_sql(self: Any, returning_fields: Any = None) -> Any:
        model = _model(self)
        if not _is_told(self, "create", model):
            return original(self, returning_fields)
        return _in_unit(self, "create", model, lambda unit: _insert(self, original, model, returning_fields, unit))

    return execute_sql


def _updating(original: _Wrapped) -> _Wrapped:
    def execute_sql(self: Any, result_type: Any) -> Any:
        model = _model(self)
        if not (self.query.values or self.query.related_updates) or not _is_told(self, "update", model):
            return original(self, result_type)
        run = _runner(self, original, result_type)
        return _in_unit(self, "update", model, lambda unit: _update(self, run, model, unit))

    return execute_sql


def _updating_returning(original: _Wrapped) -> _Wrapped:
    """Django 6 and later: what ``save`` gives an expression, and generated columns, come back with the UPDATE."""

    def execute_returning_sql(self: Any, returning_fields: Any) -> Any:
        model = _model(self)
        if not returning_fields or not _is_told(self, "update", model):
            return original(self, returning_fields)
        if not self.connection.features.can_return_rows_from_update:
            return original(self, returning_fields)

        def run() -> Any:
            return original(self, returning_fields)

        return _in_unit(self, "update", model, lambda unit: _update(self, run, model, unit, asked=returning_fields))

    return execute_returning_sql


def _deleting(original: _Wrapped) -> _Wrapped:
    def execute_sql(self: Any, result_type: Any = None, *args: Any, **kwargs: Any) -> Any:
        model = _model(self)
        if not _is_told(self, "delete", model):
            return original(self, result_type, *args, **kwargs)
        run = _runner(self, original, result_type)
        return _in_unit(self, "delete", model, lambda unit: _delete(self, run, model, unit))

    return execute_sql


def _runner(compiler: Any, original: _Wrapped, result_type: Any) -> Callable[[], Any]:
    return lambda: original(compiler, result_type or ROW_COUNT)


def _model(compiler: Any) -> type[Model]:
    model: Any = compiler.query.model
    return model._meta.concrete_model or model  # type: ignore[no-any-return]


def _is_told(compiler: Any, action: str, model: type[Model]) -> bool:
    """Whether it is told here: what no trigger tells, and the parts of an object that is, whoever tells of theirs."""
    if captures(model, compiler.using):
        return True
    if audits(model, compiler.using) and _waiting(compiler, model) is None:
        _allow(action, model)
    unit = innermost(compiler.connection)
    objects = unit.models if unit else ()
    return any(model in one._meta.all_parents and captures(one, compiler.using) for one in objects)


def _waiting(compiler: Any, model: type[Model]) -> Unit | None:
    """The unit that waits for this statement."""
    unit = innermost(compiler.connection)
    return unit if unit is not None and (unit.silent or model in unit.models) else None


def _allow(action: str, model: type[Model]) -> None:
    """A statement that no unit waits for is a bulk operation by itself."""
    if not is_link(model):
        bulk_rule().allow(_OPERATIONS[action], kind_of(model))


def _in_unit(compiler: Any, action: str, model: type[Model], write: Callable[[Unit], Any]) -> Any:
    """In the unit that waits for it, or in one of its own."""
    if (unit := _waiting(compiler, model)) is None:
        _allow(action, model)
        with telling(Unit(compiler.connection, {model})) as own:
            return write(own)
    return write(unit)


def _sums_up(compiler: Any, action: str, model: type[Model], unit: Unit) -> bool:
    """Whether the rows of this statement are counted. Above the limit nobody wants to hold them all."""
    looked = unit.one_by_one or (action == "delete" and model in unit.below_limit)
    if not looked and (action, model) not in unit.summaries:
        limit = bulk_rule().limit
        objects = getattr(compiler.query, "objs", None)
        if (len(objects) if objects is not None else reading.count(compiler, limit + 1)) > limit:
            unit.sum_up(action, model, summary_of(action, model, compiler))
    return (action, model) in unit.summaries


def _insert(compiler: Any, original: _Wrapped, model: type[Model], asked: Any, unit: Unit) -> Any:
    if unit.silent:
        return original(compiler, asked)
    if not compiler.connection.features.can_return_rows_from_bulk_insert:
        return _insert_blindly(compiler, original, model, asked, unit)
    fields = list(model._meta.local_concrete_fields)
    if _sums_up(compiler, "create", model, unit):
        fields = list(asked or model._meta.pk_fields)
        rows, answers = returning.insert(compiler, returning.prepared(compiler, fields), fields, asked or ())
        unit.count("create", model, len(rows), conflict_of(compiler.query))
        return answers
    statement = returning.prepared(compiler, fields)
    before = dict(reading.conflicting(compiler, fields))
    rows, answers = returning.insert(compiler, statement, fields, asked or ())
    written = [f.attname for f in fields if f in compiler.query.update_fields or getattr(f, "generated", False)]
    for values in rows:
        new = named(fields, values)
        key = key_of([new[field.attname] for field in model._meta.pk_fields])
        if (old := before.get(key)) is None:
            unit.rows.append(Row("create", model, key, {}, new))
        else:
            unit.rows.append(
                Row("update", model, key, *({name: side[name] for name in written} for side in (old, new)))
            )
        before[key] = new  # SQLite lets an upsert have a key twice, which updates what it has made
    return answers


def _insert_blindly(compiler: Any, original: _Wrapped, model: type[Model], asked: Any, unit: Unit) -> Any:
    """SQLite before 3.35 does not say which rows it made: they are read by their keys, where these are known."""
    objects = compiler.query.objs
    result = original(compiler, asked)
    pks = [result[0][0]] if len(objects) == 1 and result else [one.pk for one in objects]
    if None in pks or compiler.query.on_conflict is not None or _sums_up(compiler, "create", model, unit):
        unit.sum_up("create", model, summary_of("create", model, compiler))
        unit.count("create", model, len(objects))
    else:
        for key, new in read_rows(model, compiler.using, model._meta.local_concrete_fields, pks):
            unit.rows.append(Row("create", model, key, {}, new))
    return result


def _update(
    compiler: Any, run: Callable[[], Any], model: type[Model], unit: Unit, asked: Sequence[Any] | None = None
) -> Any:
    if unit.silent:
        return run()
    if _sums_up(compiler, "update", model, unit):
        with collecting(Unit(compiler.connection, (), silent=True)):
            result = run()
        unit.count("update", model, result if asked is None else len(result))
        return result
    fields = _told_of_update(compiler, model)
    if compiler.connection.vendor == POSTGRESQL and not compiler.query.related_updates:
        rows, answers = returning.update(compiler, fields, asked or ())
        result = answers if asked is not None else len(rows)
    else:
        with collecting(Unit(compiler.connection, (), silent=True)):
            rows, result = reading.update(compiler, fields, run)
    unit.rows += [Row("update", model, key, old, new) for key, old, new in rows]
    return result


def _told_of_update(compiler: Any, model: type[Model]) -> list[Field[Any, Any]]:
    """The fields that are written, those that the database computes from them, and what ties tables together."""
    written = {field for field, *_ in compiler.query.values}
    for values in compiler.query.related_updates.values():
        written.update(field for field, *_ in values)
    if is_link(model):
        return list(model._meta.local_concrete_fields)
    return [
        field
        for field in model._meta.concrete_fields
        if field in written or (field.model is model and (getattr(field, "generated", False) or _is_second_link(field)))
    ]


def _is_second_link(field: Any) -> bool:
    return bool(getattr(field.remote_field, "parent_link", False)) and not field.primary_key


def _delete(compiler: Any, run: Callable[[], Any], model: type[Model], unit: Unit) -> Any:
    if unit.silent:
        return run()
    if _sums_up(compiler, "delete", model, unit):
        result = run()
        unit.count("delete", model, result or 0)
        return result
    fields = list(model._meta.local_concrete_fields)
    if compiler.connection.vendor == POSTGRESQL:
        rows = returning.delete(compiler, fields)
        result = len(rows)
    else:
        rows, result = list(reading.matching(compiler, fields)), run()
    unit.rows += [Row("delete", model, key, old, {}) for key, old in rows]
    return result


WRAPPED = (
    (SQLInsertCompiler, "execute_sql", _inserting),
    (SQLUpdateCompiler, "execute_sql", _updating),
    (SQLUpdateCompiler, "execute_returning_sql", _updating_returning),
    (SQLDeleteCompiler, "execute_sql", _deleting),
)
