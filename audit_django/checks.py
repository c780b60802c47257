"""``manage.py check``: what would keep changes or requests out of the trail."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info
from django.db import connections

from audit_core.errors import AuditError, ConfigurationError
from audit_core.postgres.sealing import LOCK_TABLE
from audit_core.triggers import Triggers
from audit_django.capture.selection import audits, check_rules, selection
from audit_django.coverage import left_out, undecided
from audit_django.databases import EVENTS, OUTBOX, POSTGRESQL, vendor_of
from audit_django.postgres import existing_tables
from audit_django.schema import LABEL
from audit_django.trail import (
    audited_aliases,
    bulk_rule,
    layout,
    make_trail,
    schema_in,
    setting,
    tables_in,
    under_test,
)
from audit_django.triggers.coverage import uses_triggers
from audit_django.triggers.known import known_in

MIDDLEWARE = "audit_django.AuditMiddleware"
MIDDLEWARE_NAMES = {MIDDLEWARE, "audit_django.middleware.AuditMiddleware"}
ANSWERING = {  # what may refuse or answer a request by itself
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.security.SecurityMiddleware",
}
NOT_TRIGGERED = "Raw SQL and the database's own cascades leave an event only where a table has our triggers."
NOT_CAPTURED = "Raw SQL, and cascades and triggers that the database runs by itself, leave no event."


def check_project(app_configs: Any, **_: object) -> list[CheckMessage]:
    """Settings, databases and the middleware; under ``manage.py check`` also what is not covered."""
    try:
        make_trail(layout())
        bulk_rule(), uses_triggers(), setting("INCLUDE"), setting("EXCLUDE")
    except (AuditError, ValueError, TypeError) as error:
        return [Error(str(error), hint="Correct settings.AUDIT.", id="audit.E001")]
    found = [*_selection(), *_middleware(settings.MIDDLEWARE)]
    if any(isinstance(message, Error) for message in found):
        return found
    found += _database_cascades()
    return [*found, *_not_covered()] if sys.argv[1:2] == ["check"] else found  # other commands stay quiet


def check_databases(app_configs: Any, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Where ``--database`` names one: whether the tables are there, and the key is the trail's."""
    chosen = set(databases or ())
    try:
        found = [message for alias in audited_aliases() if alias in chosen for message in _database(alias)]
        if layout().home in chosen and not found and not under_test():
            found = [*_key(), *_queue()]
    except AuditError:  # the project's check says what is wrong
        return []
    return found


def _selection() -> Iterator[CheckMessage]:
    """What changes raise too, when the first one is made."""
    try:
        selection()
    except ConfigurationError as error:
        yield Error(str(error), hint='Write "app_label" or "app_label.Model".', id="audit.E003")
    for model in apps.get_models():
        try:
            check_rules(model)
        except ConfigurationError as error:
            yield Error(str(error), obj=model, id="audit.E005")


def _middleware(names: Sequence[str]) -> Iterator[CheckMessage]:
    place = next((index for index, name in enumerate(names) if name in MIDDLEWARE_NAMES), None)
    if place is None:
        yield checks.Warning(
            "Requests are not audited: AuditMiddleware is not in MIDDLEWARE.",
            hint=f'Make "{MIDDLEWARE}" its first line.',
            id="audit.W001",
        )
    elif before := [name for name in names[:place] if name in ANSWERING]:
        yield checks.Warning(
            f"What {', '.join(before)} answers or refuses leaves no event.",
            hint=f'Move "{MIDDLEWARE}" up, best to the first line of MIDDLEWARE.',
            id="audit.W002",
        )


def _database_cascades() -> Iterator[CheckMessage]:
    """Django 6.1 can leave a cascade to the database, which tells nobody what it does."""
    if uses_triggers() and all(vendor_of(alias) == POSTGRESQL for alias in audited_aliases()):
        return  # its triggers tell; where one is missing, the database's check does
    for model in apps.get_models():
        for field in model._meta.local_concrete_fields:
            on_delete = getattr(field.remote_field, "on_delete", None)
            if hasattr(on_delete, "on_delete_sql") and any(audits(model, alias) for alias in audited_aliases()):
                yield checks.Warning(
                    f"Rows that the database changes by {on_delete} leave no event.",
                    hint="Use the on_delete of the same name without DB_.",
                    obj=field,
                    id="audit.W003",
                )


def _not_covered() -> Iterator[CheckMessage]:
    """In one message: `manage.py audit check` has the whole list."""
    not_captured, also = NOT_TRIGGERED if uses_triggers() else NOT_CAPTURED, ""
    if found := sorted(set(connections.settings) - set(audited_aliases())):
        also += f" Databases that are not audited: {', '.join(found)}."
    if fields := undecided():
        also += f" Fields with personal names and no rule: {len(fields)}."
    yield Info(
        f"The audit trail does not cover everything: {not_captured} Models that are not audited: "
        f"{', '.join(left_out()) or 'none'}.{also}",
        hint="`manage.py audit check` lists all of it.",
        id="audit.I001",
    )


def _database(alias: str) -> list[CheckMessage]:
    found = list(_tables(alias))
    if found or connections[alias].vendor != POSTGRESQL or OUTBOX not in existing_tables(connections[alias]):
        return found
    return list(_triggers(alias))


def _triggers(alias: str) -> Iterator[CheckMessage]:
    """Where they are not what the models and settings say, or tell what the hooks tell too."""
    triggers = Triggers(connections[alias], schema_in(alias), known=known_in(alias))
    tables = triggers.chosen(everything=True)
    if uses_triggers():
        command = f"`manage.py audit triggers install --database={alias}`"
        for sentence in triggers.check(triggers.expected()):
            yield checks.Warning(sentence, hint=f"Find out why, and run {command}.", id="audit.W005")
        if untold := [f"{table.schema}.{table.name}" for table in triggers.untold(tables)]:
            yield Info(
                f"Told by the hooks alone, having no triggers: {', '.join(untold)}.",
                hint=f"{command} makes them.",
                id="audit.I002",
            )
    elif both := triggers.covered().intersection((table.schema, table.name) for table in tables):
        yield checks.Warning(
            f"Each change of {', '.join(sorted(name for _, name in both))} gives two events: the hooks tell it, and so "
            "do the triggers.",
            hint="Set AUDIT['TRIGGERS'] to True, or remove them with `manage.py audit triggers drop --all`.",
            id="audit.W006",
        )


def _tables(alias: str) -> Iterator[CheckMessage]:
    """Only where the migration is said to have run: before that, Django speaks of it itself."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        there = set(connection.introspection.table_names(cursor))
        if "django_migrations" not in there:
            return
        cursor.execute("SELECT 1 FROM django_migrations WHERE app = %s", [LABEL])
        if not cursor.fetchone():
            return
    allowed = existing_tables(connection) if connection.vendor == POSTGRESQL else dict.fromkeys(there, True)
    if missing := ", ".join(sorted(set(tables_in(alias)) - set(allowed))):
        yield Error(
            f"The database {alias!r} has lost {missing}: its changes fail, and its trail is gone.",
            hint="Find out who dropped it and restore it; `manage.py audit init` makes it anew, and empty.",
            id="audit.E002",
        )
    elif connection.vendor == POSTGRESQL and EVENTS in tables_in(alias) and LOCK_TABLE not in allowed:
        yield Error(
            f"The database {alias!r} lacks {LOCK_TABLE}: events of the audit trail are kept, and not sealed.",
            hint="`manage.py audit init` makes it, run by a role that may.",
            id="audit.E006",
        )
    elif not allowed[OUTBOX]:
        yield Error(
            f"The role that connects to the database {alias!r} may not add to its audit outbox: its changes fail.",
            hint="Grant it what `manage.py audit init --roles` grants: GRANT audit_application TO that role.",
            id="audit.E004",
        )


def _queue() -> Iterator[CheckMessage]:
    with make_trail(layout()) as trail:
        try:
            if trail.queue:
                trail.queue.is_created()
        except AuditError as error:
            yield checks.Warning(
                f"Events of no transaction wait in spill files: {error}",
                hint="Correct AUDIT['QUEUE'].",
                id="audit.W007",
            )


def _key() -> Iterator[CheckMessage]:
    with make_trail(layout()) as trail:
        if not (trail.store.is_created() and trail.outboxes[0].is_created()):  # `migrate` makes them
            return
        try:
            seals = trail.store.may_append()  # whoever may not seal needs no key
        except ConfigurationError as error:
            hint = "GRANT audit_sealer TO that role, once `manage.py audit init --roles` has made it."
            yield Error(str(error), hint=hint, id="audit.E007")
            return
        if seals and not trail.status()["key_is_ours"]:
            yield checks.Warning(
                "This process's signing key is not the trail's: its events are kept, and not sealed.",
                hint="Set AUDIT_KEY to the key that the trail was made with, or to the one that replaced it.",
                id="audit.W004",
            )
