"""A deletion, with all that Django deletes and sets to null along with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import connections
from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector

from audit_django.capture.carrying import begin
from audit_django.capture.criteria import summary_of
from audit_django.capture.links import is_link
from audit_django.capture.selection import audits, captures
from audit_django.capture.units import Unit, telling
from audit_django.rows import kind_of, with_parents
from audit_django.trail import audited_aliases, bulk_rule


def _having_listeners(original: Callable[..., Any]) -> Callable[..., Any]:
    """The tables of an inherited object are collected, as if somebody listened, so that its rows can be joined."""

    def has_signal_listeners(self: Any, model: type[Model]) -> Any:
        return original(self, model) or (bool(model._meta.parents) and audits(model, self.using))

    return has_signal_listeners


def _collecting(original: Callable[..., Any]) -> Callable[..., Any]:
    """Collecting reads, where without us a single DELETE might do: inside a transaction the write comes first."""

    def collect(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Not for the admin's subclass, which collects for a page that shows what a deletion would take along.
        connection = connections[self.using]
        if type(self) is Collector and not self.data and connection.in_atomic_block and self.using in audited_aliases():
            begin(connection)
        return original(self, *args, **kwargs)

    return collect


def _deleting(original: Callable[..., Any]) -> Callable[..., Any]:
    def delete(self: Any) -> Any:
        models = {model._meta.concrete_model or model for model in _models(self)}
        audited = {model for model in models if audits(model, self.using)}
        if not audited:
            return original(self)
        origin = getattr(self, "origin", None)
        if isinstance(origin, QuerySet) and audits(origin.model, self.using) and not is_link(origin.model):
            bulk_rule().allow("QuerySet.delete", kind_of(origin.model))
        with telling(Unit(connections[self.using], with_parents(audited))) as unit:
            _look_at_limit(self, origin, unit)
            return original(self)

    return delete


def _models(collector: Any) -> Iterator[type[Model]]:
    yield from collector.data
    yield from (field.model for field, _ in collector.field_updates)
    yield from (rows.model for rows in collector.fast_deletes)


def _look_at_limit(collector: Any, origin: Any, unit: Unit) -> None:
    """Django deletes in batches what it has collected: the limit is asked once for all of them."""
    limit = bulk_rule().limit
    for model, instances in collector.data.items():
        concrete = model._meta.concrete_model or model
        if len(instances) > limit and captures(model, collector.using):
            is_origin = isinstance(origin, QuerySet) and origin.model._meta.concrete_model is concrete
            unit.sum_up("delete", concrete, summary_of("delete", concrete, origin if is_origin else None))
        elif all(rows.model is not model for rows in collector.fast_deletes):
            unit.below_limit.add(concrete)


WRAPPED = (
    (Collector, "collect", _collecting),
    (Collector, "delete", _deleting),
    (Collector, "_has_signal_listeners", _having_listeners),
)
