"""Make the tables and roles of a trail: by one process at a time, and never over what is somebody else's."""

from __future__ import annotations

import re
from typing import Any

from audit_core.errors import ConfigurationError
from audit_core.postgres import LOCK, ROLES, PostgresDatabase, script_for
from audit_core.postgres.partitions import Partitions
from audit_core.postgres.schema import check_catalog
from audit_core.postgres.sealing import LOCK_TABLE

ARCHIVED_TABLE = "audit_archived"  # what is left of events whose months were archived
PRIVATE_TABLE = "audit_private"
POSITIONS = "audit_positions"  # of queues
# By which a table of ours is known. What else it has is what `audit verify` looks at.
_KNOWN_BY = {
    "audit_events": {"sequence", "event_hash"},
    "audit_outbox": {"id", "event"},
    LOCK_TABLE: {"only_row"},
    ARCHIVED_TABLE: {"sequence", "event_hash"},
    PRIVATE_TABLE: {"sequence", "name", "salt"},
    POSITIONS: {"queue", "part"},
}
_FUNCTION = re.compile(r"CREATE OR REPLACE FUNCTION .*?\$\$.*?\$\$;", re.DOTALL)
# Asked on Django's connection as well.
MAY_CREATE = """
SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = %s),
                has_database_privilege(current_database(), 'CREATE')), current_user, current_database()"""


def is_there(database: PostgresDatabase, table: str) -> bool:
    """Whether a table of the trail is there. Raises ConfigurationError where another one has its name."""
    query = (
        "SELECT relkind, array(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped) "
        "FROM pg_class c WHERE oid = to_regclass(%s)"
    )
    found = database.fetch(query, (database.table(table),))
    if found and (found[0][0] not in {"r", "p"} or not _KNOWN_BY[table].issubset(found[0][1])):
        raise ConfigurationError(
            f"{database.name}: {table} in schema {database.schema} is not the trail's: choose another schema (?schema="
            "name at the end of the URL), or run `audit verify` if it once was."
        )
    return bool(found)


def require_utf8(database: PostgresDatabase) -> None:
    """Raises ConfigurationError for a database that cannot hold every text."""
    if (encoding := database.fetch("SELECT current_setting('server_encoding')")[0][0]) != "UTF8":
        raise ConfigurationError(
            f"{database.name} has the encoding {encoding}, which cannot hold every text: make a database with "
            "ENCODING 'UTF8' TEMPLATE template0 for the trail."
        )


def make(database: PostgresDatabase, script: str, table: str) -> None:
    """Run one of our .sql files, unless its table is there already. Of several processes one runs it.

    Raises ConfigurationError where this role may not, and where something else has the name of one of ours.
    """
    import psycopg

    with database.transaction() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
        # Not by to_regclass: what that remembers may be older than the lock.
        there = "SELECT relname FROM pg_namespace n LEFT JOIN pg_class ON relnamespace = n.oid WHERE nspname = %s"
        names = {row[0] for row in database.fetch(there, (database.schema,), connection)}
        if table in names:
            return
        _require_permission(database, connection, exists=bool(names))
        if not names:
            connection.execute(f'CREATE SCHEMA "{database.schema}"')
        try:
            connection.execute(script_for(script, database.schema))
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.errors.ProgrammingError as error:
            raise ConfigurationError(
                f"{database.name}: schema {database.schema} holds something that has the name of a part of the trail "
                f"and is none ({error.diag.message_primary}): choose another schema (?schema=name at the end of the "
                "URL), or put the rest of the trail back from a backup if it was the trail's."
            ) from error


def mend(database: PostgresDatabase) -> None:
    """Put back what no event lies in: the default partition, the lock's row, functions that are not as ours are."""
    Partitions(database).make_default()
    lock = database.table(LOCK_TABLE)
    if not database.fetch(f"SELECT FROM {lock}"):
        with database.transaction() as connection:
            connection.execute(f"INSERT INTO {lock} DEFAULT VALUES ON CONFLICT DO NOTHING")
    lines = (str(line) for finding in check_catalog(database) for line in (finding.expected, finding.got))
    if any(line.startswith("function ") for line in lines):
        with database.transaction() as connection:
            for function in _FUNCTION.findall(script_for("postgres.sql", database.schema)):
                connection.execute(function)


def make_roles(database: PostgresDatabase) -> None:
    """Make the four roles, and grant them theirs. Raises ConfigurationError where this role may not."""
    missing = (
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(name) IS NULL "
        "AND NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)"
    )
    if lacking := [name for (name,) in database.fetch(missing, (list(ROLES),))]:
        raise ConfigurationError(
            f"{database.name}: this role may create no others, and {', '.join(lacking)} are missing: run `audit init "
            "--roles` as one with CREATEROLE, or have them made first (CREATE ROLE ... NOLOGIN)."
        )
    database.run("postgres_roles.sql")


def _require_permission(database: PostgresDatabase, connection: Any, *, exists: bool) -> None:
    may, role, name = database.fetch(MAY_CREATE, (database.schema,), connection)[0]
    if not may:
        place = f'SCHEMA "{database.schema}"' if exists else f'DATABASE "{name}"'
        raise ConfigurationError(
            f"{database.name}: the role {role} may not make the trail's tables in schema {database.schema}: let the "
            f'owner GRANT CREATE ON {place} TO "{role}", or run what `audit init --sql` prints.'
        )
