"""What a project's own migrations may do: ``audit_django.operations.InstallTriggers``."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.models import Model

from audit_core.errors import ConfigurationError
from audit_core.triggers import Triggers
from audit_core.triggers.rules import is_called
from audit_django.capture.selection import audits
from audit_django.schema import LABEL
from audit_django.trail import schema_in
from audit_django.triggers.coverage import forget_coverage, may_have_triggers
from audit_django.triggers.known import known_of, spelled


class InstallTriggers(Operation):
    """Triggers for the audited models of this app, or for those of them that are named: ``InstallTriggers("Patient")``.

    It stands after the operations that make the tables, and its migration depends on ``("audit_django",
    "0001_initial")``. Undone, it removes them. Where the database is not PostgreSQL, or not audited, it does nothing.
    """

    reduces_to_sql = True
    reversible = True
    elidable = False

    def __init__(self, *models: str) -> None:
        self.models = models

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The models stay what they are."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Make them. Raises CommandError where the outbox is not there yet."""
        alias = schema_editor.connection.alias
        models = [model for model in self._chosen(app_label, to_state, alias) if self.models or _audited(model, alias)]
        triggers = self._triggers(schema_editor, models)
        # Shown as SQL, a table may not be there yet, and what its triggers would be is not known.
        if triggers is not None and (tables := triggers.chosen(everything=True)):
            schema_editor.execute(triggers.install_sql(tables), params=None)
            forget_coverage()

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Remove them."""
        models = self._chosen(app_label, from_state, schema_editor.connection.alias)
        triggers = self._triggers(schema_editor, models)  # also of those that are not audited any more
        names = {spelled(model) for model in models}
        if triggers is not None and (tables := [table for table in triggers.tables if is_called(table, names)]):
            schema_editor.execute(triggers.drop_sql(tables), params=None)
            forget_coverage()

    def describe(self) -> str:
        """For ``migrate --plan`` and the names of migrations."""
        return f"Install audit triggers for {', '.join(self.models) or 'all audited models'}"

    def _triggers(self, schema_editor: BaseDatabaseSchemaEditor, models: list[type[Model]]) -> Triggers | None:
        alias = schema_editor.connection.alias
        if not may_have_triggers(alias):
            return None
        try:
            return Triggers(schema_editor.connection, schema_in(alias), known=known_of(models, alias))
        except ConfigurationError as error:
            raise CommandError(
                f'{error} Migrations that install triggers depend on ("{LABEL}", "0001_initial").'
            ) from None

    def _chosen(self, app_label: str, state: Any, alias: str) -> list[type[Model]]:
        if self.models:
            named = [name if "." in name else f"{app_label}.{name}" for name in self.models]
            chosen = [state.apps.get_model(name) for name in named]
        else:
            chosen = list(state.apps.get_app_config(app_label).get_models())
        return [model for model in chosen if self.allow_migrate_model(alias, model)]


def _audited(model: type[Model], alias: str) -> bool:
    """Whether the model is that this one was. One that is gone meanwhile will be removed by a later migration."""
    try:
        return audits(apps.get_model(model._meta.label), alias)
    except LookupError:
        return True
