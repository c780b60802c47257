"""The trail's tables in Django's databases, from the .sql files that every other way of making them uses."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation

from audit_core.errors import ConfigurationError
from audit_core.sqlite import check_encoding, read_sql
from audit_django.databases import EVENTS, database_of, is_sqlite
from audit_django.postgres import existing_tables, require_permission, wait_for_others
from audit_django.trail import audited_aliases, layout, schema_in, tables_in

LABEL = "audit_django"
PRIVATE = "audit_private"


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
        """Make what is missing, in the migration's transaction; shown as SQL, make all."""
        for statement in statements(schema_editor.connection, shown=schema_editor.collect_sql):
            schema_editor.execute(statement, params=None)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Keep the trail."""

    def describe(self) -> str:
        """For ``migrate --plan``."""
        return "Make the audit trail's tables"


def statements(connection: BaseDatabaseWrapper, *, shown: bool = False) -> Iterator[str]:
    """The SQL of one database. Raises ConfigurationError for an engine that has none.

    On PostgreSQL without what is there already, unless it is only to be ``shown``. Raises CommandError without the
    permission to make it, and for a SQLite file in UTF-16: that is what a command tells in one sentence.
    """
    alias, home = connection.alias, layout().home
    if alias not in audited_aliases() and alias != home:
        return
    database_of(alias)
    if is_sqlite(alias):
        _check_encoding(connection)
        for name in _scripts(alias, "sqlite"):
            yield from split(read_sql(name))
    else:
        yield from _postgres_statements(connection, shown=shown)


def _check_encoding(connection: BaseDatabaseWrapper) -> None:
    connection.ensure_connection()
    try:
        check_encoding(connection.connection, f"The database {connection.alias!r}")
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _postgres_statements(connection: BaseDatabaseWrapper, *, shown: bool) -> Iterator[str]:
    from audit_core.postgres import script_for

    wanted, schema = tables_in(connection.alias), schema_in(connection.alias)
    there: Collection[str] = ()
    if not shown:
        wait_for_others(connection)
        there = existing_tables(connection)
        if not set(wanted).issubset(there) or (EVENTS in wanted and PRIVATE not in there):
            require_permission(connection, schema)
    if not set(wanted).issubset(there) or (EVENTS in wanted and PRIVATE not in there):
        yield f'CREATE SCHEMA IF NOT EXISTS "{schema}";'
        yield from (script_for(name, schema) for name in _scripts(connection.alias, "postgres", there))


def _scripts(alias: str, kind: str, there: Collection[str] = ()) -> Iterator[str]:
    if EVENTS in tables_in(alias) and EVENTS not in there:
        yield f"{kind}.sql"
        yield f"{kind}_archived.sql"
        if kind == "postgres":
            yield "postgres_lock.sql"
        yield f"{kind}_positions.sql"
    if EVENTS in tables_in(alias) and PRIVATE not in there:  # a trail from before may have none
        yield f"{kind}_private.sql"
    yield f"{kind}_outbox.sql"


def split(script: str) -> Iterator[str]:
    """The statements of a script. ``executescript`` would commit the migration's transaction; triggers hold ``;``."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def create_without_migrations(using: str = DEFAULT_DB_ALIAS, **_: object) -> None:
    """After ``migrate``, for test suites that make their tables without migrations (``pytest --nomigrations``).

    The signal is sent by others too, as by tests of their own receivers, and need not say which database it is about.
    """
    modules = settings.MIGRATION_MODULES
    if LABEL in modules and modules[LABEL] is None:
        with connections[using].cursor() as cursor:
            for statement in statements(connections[using]):
                cursor.execute(statement)
