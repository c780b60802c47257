"""After ``migrate``: triggers that are there follow the columns and names that the migrations have changed."""

from __future__ import annotations

from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from audit_core.errors import ConfigurationError
from audit_core.triggers import Triggers
from audit_django.trail import schema_in
from audit_django.triggers.coverage import forget_coverage, may_have_triggers, uses_triggers
from audit_django.triggers.known import known_in


def follow_migrations(app_config: Any, using: str = DEFAULT_DB_ALIAS, verbosity: int = 0, **_: object) -> None:
    """Of one app's models. Models that have no triggers get none."""
    if not uses_triggers() or not may_have_triggers(using):
        return
    models = {model._meta.label for model in app_config.get_models()}
    try:
        triggers = Triggers(connections[using], schema_in(using), known=known_in(using, models))
    except ConfigurationError:  # there is no outbox yet, so there are no triggers
        return
    if outdated := triggers.outdated(triggers.chosen(everything=True)):
        triggers.run(triggers.install_sql(outdated))
        forget_coverage()
        if verbosity >= 1:
            print("  Audit triggers follow:", ", ".join(table.name for table in outdated))  # noqa: T201 - as migrate does
