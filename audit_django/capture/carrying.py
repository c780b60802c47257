"""How events get into the transaction of the change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_core.orm.bulk import Summary
from audit_core.orm.changes import Change
from audit_core.watching import watchers
from audit_django.capture.round_trips import Ending, can_end_along
from audit_django.databases import OUTBOX, POSTGRESQL
from audit_django.postgres import as_django_tells, existing_tables
from audit_django.trail import get_trail


def begin(connection: BaseDatabaseWrapper) -> AuditTrail:
    """Begin with a write what will be a writing transaction.

    SQLite refuses, at once and whatever the timeout, a transaction that read first when somebody else committed
    before its first write. Raises ConfigurationError where the change could leave no event.
    """
    trail, using = get_trail(), connection.alias
    try:
        with connection.wrap_database_errors:  # past Django's cursor: what counts queries counts the application's
            trail.outbox_of(_raw(connection), using).reserve(_raw(connection))
    except (OperationalError, ConfigurationError) as error:
        if not _misses_outbox(connection, error):
            raise
        raise ConfigurationError(
            f"The database {using!r} has no audit outbox: run `manage.py migrate --database={using}`, or leave it out "
            "of AUDIT['DATABASES']."
        ) from error
    return trail


def carry(
    trail: AuditTrail, connection: BaseDatabaseWrapper, changes: Iterable[Change | Summary], *, ends: bool
) -> None:
    """Write the events of changes; ``ends`` says that the transaction commits right after them.

    A resource has one name everywhere; that its row lies in another database than the default one is a detail.
    """
    using = connection.alias
    more = {} if using == DEFAULT_DB_ALIAS else {"database": using}
    raw = _raw(connection)
    # Whoever watches hears of the COMMIT from Django.
    ending = Ending(raw) if ends and not watchers and can_end_along(raw) else None
    with as_django_tells(connection):
        trail.tell(changes, ending or raw, using, more)
        if ending and ending.failure:
            raise ending.failure


def _misses_outbox(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    if connection.vendor == POSTGRESQL:
        return isinstance(error, ConfigurationError) and OUTBOX not in existing_tables(connection)
    return "no such table" in str(error)


def _raw(connection: BaseDatabaseWrapper) -> Any:
    connection.ensure_connection()
    return connection.connection
