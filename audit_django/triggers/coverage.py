"""Which models are left to triggers: those whose tables all have them, in the database that a change goes to."""

from __future__ import annotations

import os
import time
from functools import lru_cache

from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.dispatch import receiver

from audit_core.errors import ConfigurationError
from audit_core.triggers.covered import KNOWN_SECONDS, Names, covered_tables
from audit_django.databases import POSTGRESQL, vendor_of
from audit_django.trail import audited_aliases, get_trail, has_outbox, schema_in, setting

_known: dict[tuple[str, ...], tuple[float, Names]] = {}


def uses_triggers() -> bool:
    """``AUDIT["TRIGGERS"]``. Raises ConfigurationError for what is neither True nor False."""
    if not isinstance(chosen := setting("TRIGGERS"), bool):
        raise ConfigurationError(f"settings.AUDIT['TRIGGERS'] is True or False, not {chosen!r}.")
    return chosen


def by_triggers(model: type[Model], using: str) -> bool:
    """Whether triggers tell of the rows of this model in this database."""
    if not uses_triggers():
        return False
    covered = covered_by(connections[using])
    return bool(covered) and covered.issuperset(tables_of(model))


def may_have_triggers(alias: str) -> bool:
    """Whether the database is of the kind that has them, and audited."""
    return vendor_of(alias) == POSTGRESQL and alias in audited_aliases()


def covered_by(connection: BaseDatabaseWrapper) -> Names:
    """The tables of this database that have our triggers, as they were a minute ago at most."""
    if not may_have_triggers(connection.alias):
        return frozenset()
    place = _place(connection)
    known = _known.get(place)
    if known is None or time.monotonic() - known[0] > KNOWN_SECONDS:
        known = _known[place] = time.monotonic(), _ask(connection)
    return known[1]


def _place(connection: BaseDatabaseWrapper) -> tuple[str, ...]:
    there = connection.settings_dict
    return (connection.alias, str(there["NAME"]), str(there["HOST"]), str(there["PORT"]))


def _ask(connection: BaseDatabaseWrapper) -> Names:
    """A test's trail in memory sees nothing of the test database's outbox: there the hooks tell as they always do."""
    if not has_outbox(connection.alias):
        return frozenset()
    connection.ensure_connection()
    with connection.wrap_database_errors:  # past Django's cursor: what counts queries counts the application's
        names = covered_tables(connection.connection, schema_in(connection.alias))
    if names:
        get_trail().keep_sealing()
    return names


def forget_coverage(**_: object) -> None:
    """Ask again: triggers were made or removed here, or the settings are others."""
    _known.clear()


os.register_at_fork(after_in_child=forget_coverage)  # the child seals for itself


@receiver(setting_changed)
def _forget_settings(*, setting: str, **_: object) -> None:
    if setting in {"AUDIT", "DATABASES"}:
        forget_coverage()


@lru_cache(maxsize=4096)
def tables_of(model: type[Model]) -> frozenset[tuple[str | None, str]]:
    """The tables of an object of this class, each with its schema where the model names one."""
    concrete = model._meta.concrete_model or model
    return frozenset(table_of(one) for one in (concrete, *concrete._meta.all_parents))


def table_of(model: type[Model]) -> tuple[str | None, str]:
    r"""A ``db_table`` like ``ward"."patient`` is a table in a schema, as Django quotes it."""
    schema, _, name = model._meta.db_table.strip('"').rpartition('"."')
    return schema or None, name
