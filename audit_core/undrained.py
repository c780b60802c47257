"""A change in a database that a trail does not drain: which one that is, and what to do about it."""

from __future__ import annotations

from contextlib import closing
from typing import Any
from urllib.parse import quote

from audit_core.errors import ConfigurationError
from audit_core.outbox.sqlite import is_postgres
from audit_core.sqlite import file_of
from audit_core.stores import AuditStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.urls import without_password

_SERVER = "SELECT current_database()::text, host(inet_server_addr()), inet_server_port()"


def undrained(url: str, store: AuditStore, connection: Any) -> ConfigurationError:
    """What to raise of a change on this DB-API connection, which no outbox of the trail at ``url`` owns.

    Files by their whole paths: one that is relative means another file to a framework with a folder of its own.
    """
    trail = f"sqlite:///{store.database.path}" if isinstance(store, SqliteStore) else without_password(url)
    if is_postgres(connection):
        return ConfigurationError(
            f"This change is in {_url_of(connection)}, which the trail {trail} does not drain: name it with "
            "AuditTrail(url, outbox=[its URL])."
        )
    if file := file_of(connection):
        return ConfigurationError(
            f"This change is in sqlite:///{file}, which the trail {trail} does not drain: name it with "
            f'AuditTrail(url, outbox=["sqlite:///{file}"]), or let both be in one file.'
        )
    return ConfigurationError(
        f"This change is in a database in memory, which the trail {trail} does not drain: let it be in a file and name "
        'that with outbox=["sqlite:///..."], or in a test take AuditTrail("memory:").'
    )


def _url_of(connection: Any) -> str:
    """Without a user. Through a Unix socket a server has no address, as it has none in such a URL."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(_SERVER)
        name, host, port = cursor.fetchone()
    host = f"[{host}]" if host and ":" in host else host
    return f"postgresql://{f'{host}:{port}' if host else ''}/{quote(name, safe='')}"
