"""What a PostgreSQL database of the project holds and allows, asked on Django's own connection.

Of the catalogue: by its name nobody finds a table in a schema that he may not use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_core.errors import StoreUnavailableError
from audit_django.trail import schema_in

_TABLES = """
SELECT c.relname, has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'INSERT')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname LIKE 'audit_%%'"""
_TAKEN_BACK = ("40", "25P02")  # the SQLSTATEs of a transaction that was rolled back, or has failed before


def existing_tables(connection: BaseDatabaseWrapper) -> dict[str, bool]:
    """Ours that are there, and whether this role may insert into each."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, [schema_in(connection.alias)])
        return dict(cursor.fetchall())


def wait_for_others(connection: BaseDatabaseWrapper) -> None:
    """Of several processes that migrate at the same time one makes the tables; until the end of the transaction."""
    from audit_core.postgres import LOCK

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [LOCK])


def require_permission(connection: BaseDatabaseWrapper, schema: str) -> None:
    """Raise CommandError, of which a command tells in one sentence, where this role may not make the tables."""
    from audit_core.postgres.making import MAY_CREATE

    with connection.cursor() as cursor:
        cursor.execute(MAY_CREATE, [schema])
        may, role, database = cursor.fetchone()
    if not may:
        raise CommandError(
            f"The role {role!r} may not make the audit trail's schema {schema!r} in the database {database!r}: let its "
            f'owner GRANT CREATE ON DATABASE "{database}" TO "{role}", or run what `manage.py sqlmigrate audit_django '
            "0001` prints; then migrate again."
        )


@contextmanager
def as_django_tells(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A transaction that the server took back (a deadlock, say) is the application's to try again, not our trouble."""
    try:
        with connection.wrap_database_errors:
            yield
    except StoreUnavailableError as error:
        cause: Any = error.__cause__
        code = str(getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None))
        if not code.startswith(_TAKEN_BACK):
            raise
        with connection.wrap_database_errors:
            raise cause from None
