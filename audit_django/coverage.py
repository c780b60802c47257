"""What the trail of this project does not cover."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.apps import apps
from django.db import connections
from django.db.models import Model

from audit_core.coverage import (
    Gap,
    gap_of_names,
    gaps_of_fields,
    gaps_with_triggers,
    gaps_without_triggers,
    idle_rules,
    personal,
)
from audit_core.errors import AuditError, ConfigurationError
from audit_django.capture.selection import audits, check_rules, fields_of, is_djangos, selection
from audit_django.databases import OUTBOX, is_sqlite
from audit_django.rows import kind_of
from audit_django.trail import audited_aliases, layout, make_trail, redaction_rules, schema_in, setting
from audit_django.triggers.known import known_in


def gaps() -> Iterator[Gap]:
    """Databases, models and fields; what is set up wrongly is a problem."""
    try:
        make_trail(layout())
        selection()
        for model in apps.get_models():
            check_rules(model)
    except (AuditError, ValueError, TypeError) as error:
        yield Gap(str(error), is_problem=True)
        return
    for alias in audited_aliases():
        yield from _of_database(alias)
    yield from gap_of_names("Databases that are not audited", set(connections.settings) - set(audited_aliases()))
    yield from gap_of_names("Models that are not audited", left_out())
    kept = [m._meta.label for m in apps.get_models() if not is_audited(m) and is_djangos(m)]
    yield from gap_of_names("Django's own, and not audited", kept)
    unmanaged = [m._meta.label for m in apps.get_models() if is_audited(m) and not m._meta.managed]
    yield from gap_of_names("Not managed by Django, so that others may write them unseen", unmanaged)
    yield from gaps_of_fields(redaction_rules(), told_fields())
    yield from idle_rules(setting("REDACT"), told_fields())


def is_audited(model: type[Model]) -> bool:
    """In whichever database."""
    return any(audits(model, alias) for alias in audited_aliases())


def left_out() -> list[str]:
    """The models that the project has left out, by whichever way."""
    return sorted(m._meta.label for m in apps.get_models() if not is_audited(m) and not is_djangos(m))


def undecided() -> list[str]:
    """Fields whose names suggest personal data, and that no rule decides on."""
    return personal(redaction_rules(), told_fields())


def told_fields() -> Mapping[str, list[str]]:
    """The fields of all audited models, by what the trail calls these."""
    return {kind_of(model): fields_of(model) for model in apps.get_models() if is_audited(model)}


def _of_database(alias: str) -> Iterator[Gap]:
    connection, name = connections[alias], f"The database {alias!r}"
    if is_sqlite(alias):
        with connection.cursor() as cursor:
            is_created = OUTBOX in connection.introspection.table_names(cursor)
        yield from gaps_without_triggers(name, is_created=is_created)
        return
    connection.ensure_connection()
    try:
        yield from gaps_with_triggers(connection.connection, schema_in(alias), name, known_in(alias))
    except ConfigurationError as error:
        yield Gap(f"{name}: {error}", is_problem=True)
