"""From a URL to the parts of a trail."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from audit_core.errors import ConfigurationError
from audit_core.keys import state_directory
from audit_core.outbox import Outbox
from audit_core.outbox.folder import folder_of
from audit_core.outbox.gate import Gate
from audit_core.outbox.memory import MemoryOutbox
from audit_core.outbox.queue import Queue
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.redaction import Redactor
from audit_core.sqlite import SqliteDatabase, read_sql
from audit_core.stores import AuditStore
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.stores.sqlite_schema import SCRIPTS

_PASSWORD = re.compile(r"(://[^\s:/@]*):[^\s/@]*@")
_POSTGRES = ("postgresql", "postgres")


class Parts(NamedTuple):
    """Store and outbox of one database, where its spill files lie, and what tells when we may write to it."""

    store: AuditStore
    outbox: Outbox | None  # None where events cannot wait in it
    directory: Path | None = None
    gate: Gate | None = None


def open_url(url: str) -> Parts:
    """Nothing is opened or made yet. Raises ConfigurationError for a URL that is none of ours."""
    if not isinstance(url, str):
        raise _no_url(url)
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return Parts(MemoryStore(), MemoryOutbox())
    path, question, options = rest.removeprefix("///").partition("?")
    if scheme == "sqlite" and question:  # SQLAlchemy's; a file of that name would be made
        raise ConfigurationError(f"The trail's URL takes no options: leave out ?{options} after sqlite:///{path}.")
    if scheme == "sqlite" and rest.startswith("///") and path != ":memory:" and _names_a_file(path):
        database = SqliteDatabase(path)
        directory = folder_of(database.path)
        return Parts(SqliteStore(database), SqliteOutbox(database), directory, Gate(directory))
    if scheme in _POSTGRES:
        return _open_postgres(url)
    if scheme == "s3":
        return _open_s3(url)
    raise _no_url(Redactor().text(url))


def _no_url(given: object) -> ConfigurationError:
    return ConfigurationError(
        "The trail's URL is postgresql://host/database, sqlite:///path/to/file.db (four slashes for an absolute path), "
        f"s3://bucket/prefix, or memory: for tests, not {given!r}."
    )


def open_store(url: str) -> AuditStore:
    """The store alone, for a process that only reads it. Raises as ``open_url`` does."""
    return open_url(url).store


def open_outbox(url: str) -> Outbox:
    """The outbox alone. Raises ConfigurationError where there can be none."""
    if (outbox := open_url(url).outbox) is None:
        raise ConfigurationError("Events cannot wait in a bucket: the URL of an outbox is that of a database.")
    return outbox


def open_queue(url: str) -> Queue:
    """Nothing is opened yet. Raises ConfigurationError for a URL that is none of ours, and without its library."""
    scheme = str(url).partition(":")[0]
    if scheme in {"redis", "rediss", "unix"}:
        from audit_core.outbox.redis import RedisQueue

        return RedisQueue(url)
    if scheme == "kafka":
        from audit_core.outbox.kafka import KafkaQueue

        return KafkaQueue(url)
    raise ConfigurationError(
        f"The URL of a queue is redis://host:6379/0 or kafka://host:9092/topic, not {Redactor().text(str(url))!r}."
    )


def without_password(text: str) -> str:
    """A URL, or a text with one in it, as it may be shown."""
    return _PASSWORD.sub(r"\1:***@", text)


def schema_sql(url: str, *, roles: bool = False) -> str:
    """The SQL that makes a trail at ``url``, and with ``roles`` those who share it. Raises ConfigurationError."""
    if url.partition(":")[0] not in _POSTGRES:
        if open_url(url).outbox is None:
            raise ConfigurationError("A bucket has no tables: there is no SQL to run.")
        return "\n".join(map(read_sql, SCRIPTS))
    from audit_core.postgres import PostgresDatabase, script_for

    schema = PostgresDatabase(url).schema
    names = [f"postgres{part}.sql" for part in ("", "_lock", "_positions", "_archived", "_private", "_outbox")]
    names += ["postgres_roles.sql"] if roles else []
    scripts = [script_for(name, schema) for name in names]
    return "\n".join(["BEGIN;", f'CREATE SCHEMA IF NOT EXISTS "{schema}";', *scripts, "COMMIT;"]) + "\n"


def _open_postgres(url: str) -> Parts:
    from audit_core.outbox.postgres import PostgresOutbox
    from audit_core.postgres import PostgresDatabase
    from audit_core.stores.postgres import PostgresStore

    database = PostgresDatabase(url)
    directory = state_directory() / "spill" / sha256(f"{database.name} {database.schema}".encode()).hexdigest()[:16]
    return Parts(PostgresStore(database), PostgresOutbox(database), directory)


def _open_s3(url: str) -> Parts:
    from audit_core.stores.s3 import open_s3_store

    store = open_s3_store(url)
    directory = state_directory() / "spill" / sha256(store.place.encode()).hexdigest()[:16]
    return Parts(store, None, directory)


def _names_a_file(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return "\0" not in path and Path(path).name not in {"", ".."}
