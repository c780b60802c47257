"""From a URL to the parts of a trail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from audit_core.errors import ConfigurationError
from audit_core.outbox import Outbox
from audit_core.outbox.folder import folder_of
from audit_core.outbox.memory import MemoryOutbox
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.redaction import Redactor
from audit_core.sqlite import SqliteDatabase
from audit_core.stores import AuditStore
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore


class Parts(NamedTuple):
    """Store and outbox of one database, and where its spill files lie."""

    store: AuditStore
    outbox: Outbox
    directory: Path | None


def open_url(url: str) -> Parts:
    """Nothing is opened or made yet. Raises ConfigurationError for a URL that is none of ours."""
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        return Parts(MemoryStore(), MemoryOutbox(), None)
    path = rest.removeprefix("///")
    if scheme == "sqlite" and rest.startswith("///") and path != ":memory:" and _names_a_file(path):
        database = SqliteDatabase(path)
        return Parts(SqliteStore(database), SqliteOutbox(database), folder_of(database.path))
    raise ConfigurationError(
        "The trail's URL is sqlite:///path/to/file.db (four slashes for an absolute path), or memory: for tests, "
        f"not {Redactor().text(url)!r}."
    )


def _names_a_file(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return "\0" not in path and Path(path).name not in {"", ".."}
