"""The sealer's lock: a row that nobody but the sealer's role may lock, until the end of its transaction.

An attacker who can change the table can keep everybody from sealing, and is named; what waits stays in the outbox.
"""

from __future__ import annotations

from typing import Any

from audit_core.errors import BusyError, ConfigurationError
from audit_core.postgres import PostgresDatabase

LOCK_TABLE = "audit_lock"


def lock_sealing(database: PostgresDatabase, connection: Any, *, patient: bool) -> None:
    """Be the one who seals in the transaction of ``connection``. Raises BusyError while somebody else is.

    ``patient`` waits for him. Raises ConfigurationError where there is nothing to lock.
    """
    table = database.table(LOCK_TABLE)
    wait = "" if patient else "SKIP LOCKED"
    if database.fetch(f"SELECT FROM {table} FOR UPDATE {wait}", (), connection):
        return
    if not database.fetch(f"SELECT FROM {table}", (), connection):
        raise ConfigurationError(f"{database.name}: {LOCK_TABLE} has lost its row: run `audit init` as the owner.")
    raise BusyError(f"Another process is sealing just now{_who_holds_it(database, connection)}.")


def _who_holds_it(database: PostgresDatabase, connection: Any) -> str:
    """A row remembers the transaction that has locked it."""
    query = (
        f"SELECT pid, usename, application_name FROM {database.table(LOCK_TABLE)} AS held JOIN pg_locks ON "
        "locktype = 'transactionid' AND transactionid = held.xmax AND granted JOIN pg_stat_activity USING (pid)"
    )
    found = database.fetch(query, (), connection)
    return f": backend {found[0][0]} of {found[0][1]}, application {found[0][2]!r}" if found else ""
