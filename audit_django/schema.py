"""The trail's tables in Django's databases, from the .sql files that every other way of making them uses."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation

from audit_core.errors import ConfigurationError
from audit_core.sqlite import read_sql
from audit_django.trail import audited_aliases, is_sqlite, layout

LABEL = "audit_django"


class CreateTables(Operation):
    """The outbox in every audited database, the trail itself in the one that holds it.

    Routers are not asked: they say where models live, and an outbox lies wherever rows change. Undone, it leaves the
    tables where they are: nobody drops an audit trail by the way.
    """

    reduces_to_sql = True
    reversible = True
    elidable = False

    def state_forwards(self, app_label: str, state: Any) -> None:
        """There are no models."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Make what is missing, in the migration's transaction."""
        for statement in statements(schema_editor.connection.alias):
            schema_editor.execute(statement, params=None)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Keep the trail."""

    def describe(self) -> str:
        """For ``migrate --plan``."""
        return "Make the audit trail's tables"


def statements(alias: str) -> Iterator[str]:
    """The SQL of one database. Raises ConfigurationError for an engine that has none yet."""
    home = layout().home
    if alias not in audited_aliases() and alias != home:
        return
    if not is_sqlite(alias):
        raise ConfigurationError(f"The database {alias!r} is not SQLite: leave it out of AUDIT['DATABASES'].")
    if alias == home:
        yield from split(read_sql("sqlite.sql"))
    yield from split(read_sql("sqlite_outbox.sql"))


def split(script: str) -> Iterator[str]:
    """The statements of a script. ``executescript`` would commit the migration's transaction; triggers hold ``;``."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def create_without_migrations(using: str, **_: object) -> None:
    """After ``migrate``, for test suites that make their tables without migrations (``pytest --nomigrations``)."""
    modules = settings.MIGRATION_MODULES
    if LABEL in modules and modules[LABEL] is None:
        with connections[using].cursor() as cursor:
            for statement in statements(using):
                cursor.execute(statement)
