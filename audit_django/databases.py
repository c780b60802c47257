"""The databases of ``settings.DATABASES``, in the core's words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from django.db import connections
from django.db.utils import load_backend

from audit_core.errors import ConfigurationError

MEMORY = "memory:"
SQLITE, POSTGRESQL = "sqlite", "postgresql"
SCHEMA = "audit"
EVENTS, CHECKPOINTS, OUTBOX = TABLES = ("audit_events", "audit_checkpoints", "audit_outbox")
_PLACE = {
    "service": "",
    "host": "",
    "port": "5432",
    "dbname": "",
}  # what says which database it is, as it is by default
# OPTIONS that Django or Python's driver takes, and not libpq.
_NOT_LIBPQ = frozenset(
    ("autocommit", "assume_role", "connection_factory", "context", "cursor_factory", "isolation_level", "pool",
     "prepare_threshold", "row_factory", "server_side_binding")
)  # fmt: skip


class Database(NamedTuple):
    """One database, by what its connections are opened with."""

    vendor: str
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        """As ``AuditTrail`` takes it."""
        return _postgresql_url(self) if self.vendor == POSTGRESQL else _sqlite_url(self.name)


_known: dict[str, tuple[Mapping[str, Any], Database]] = {}  # by alias, with the settings that it was read from
IN_MEMORY = Database(SQLITE, ":memory:")


def database_of(alias: str) -> Database:
    """What the settings say just now. Raises ConfigurationError for an engine that cannot hold audited changes."""
    settings = connections.settings[alias]
    if (known := _known.get(alias)) is None or known[0] != settings:
        # A copy: test runners change the settings, and their OPTIONS, in place.
        as_it_is = {**settings, "OPTIONS": dict(settings.get("OPTIONS", {}))}
        known = _known[alias] = as_it_is, _read(alias, settings)
    return known[1]


def _read(alias: str, settings: Mapping[str, Any]) -> Database:
    vendor = vendor_of(alias)
    if vendor == SQLITE:
        return Database(SQLITE, str(settings["NAME"]))
    if vendor != POSTGRESQL:
        raise ConfigurationError(
            f"The database {alias!r} ({settings.get('ENGINE')}) cannot hold audited changes, only PostgreSQL and "
            "SQLite can: name the databases to audit in AUDIT['DATABASES']."
        )
    host, port, user, password = (str(settings.get(key) or "") for key in ("HOST", "PORT", "USER", "PASSWORD"))
    options = tuple(_libpq_options(settings.get("OPTIONS", {})))
    name = "postgres" if settings["NAME"] is None else str(settings["NAME"])
    return Database(POSTGRESQL, name, host, port, user, password, options)


def is_sqlite(alias: str) -> bool:
    """Whether the alias is a SQLite database."""
    return vendor_of(alias) == SQLITE


def vendor_of(alias: str) -> str:
    """Django's word for the kind of database, which the engines that wrap its own ones keep."""
    return _vendor(str(connections.settings[alias].get("ENGINE", "")))


def place_of(url: str) -> tuple[str, ...]:
    """The database that a URL leads to, whoever connects. Raises ConfigurationError for a URL that is none."""
    if not url.startswith(("postgresql:", "postgres:")):
        return (url,)
    from audit_core.postgres import PostgresDatabase

    conninfo = PostgresDatabase(url).conninfo
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(conninfo)
    except ProgrammingError as error:
        raise ConfigurationError(f"The trail's URL is no URL of PostgreSQL: {str(error).strip()}.") from None
    return tuple(str(found.get(key) or usual) for key, usual in _PLACE.items())


def schema_of(url: str) -> str:
    """The schema in which the tables of this trail lie."""
    if not url.startswith(("postgresql:", "postgres:")):
        return SCHEMA
    from audit_core.postgres import PostgresDatabase

    return PostgresDatabase(url).schema


@lru_cache(maxsize=16)
def _vendor(engine: str) -> str:
    return str(load_backend(engine).DatabaseWrapper.vendor)


def _libpq_options(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in options.items():
        if name not in _NOT_LIBPQ and value is not None:
            yield name, str(value)
    if role := options.get("assume_role"):
        yield "options", " ".join(filter(None, (options.get("options"), f"-c role={role}")))


def _postgresql_url(database: Database) -> str:
    """With the host in its place also where it is a socket's folder, so that messages name it."""
    user = quote(database.user, safe="")
    if database.password:
        user += f":{quote(database.password, safe='')}"
    hosts, ports = database.host.split(","), database.port.split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    places = (
        (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    )
    query = urlencode(dict(database.options), quote_via=quote, safe="")
    return (
        f"postgresql://{user}{'@' if user else ''}{','.join(places)}/{quote(database.name, safe='')}"
        f"{'?' if query else ''}{query}"
    )


def _sqlite_url(name: str) -> str:
    """``sqlite:////srv/clinic.db`` for a NAME of DATABASES."""
    if name in {"", ":memory:"} or "mode=memory" in name:
        return MEMORY
    if name.startswith("file:"):
        name = unquote(name.removeprefix("file:").partition("?")[0])
    return f"sqlite:///{os.path.abspath(name)}"  # noqa: PTH100 - as sqlite3 itself finds a relative name
