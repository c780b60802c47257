"""A table in a second database, which somebody else runs.

An attacker who owns the table, or is a superuser there, can remove rows. It protects as far as whoever runs the trail's
database is neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from audit_core.anchors import in_sqlite
from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import ConfigurationError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import encode_base64, parse_note
from audit_core.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from audit_core.postgres import PostgresDatabase

TABLE = "audit_anchors"
WAIT_SECONDS = 1.0  # for a SQLite file that somebody else writes; then it is tried again
_ROW = tuple[int, str, str]  # tree size, root and note


class Database(Protocol):
    """What is done in it."""

    name: str

    def is_same(self, database: object) -> bool:
        """Whether that is this one."""

    def make(self) -> None:
        """The table, where it is missing."""

    def insert(self, row: _ROW) -> None:
        """Unless it is there."""

    def select(self, least: int) -> Iterator[tuple[str, datetime | None]]:
        """Notes of trees of ``least`` events or more, and since when they are there; the largest tree first."""

    def close(self) -> None:
        """Keep no connection: the next use may be a minute away."""


class DatabaseAnchor:
    """Keeps each checkpoint in a row of ``audit_anchors``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_made = False

    @property
    def name(self) -> str:
        return self._database.name

    def keep(self, note: str, chain: AuditChain) -> None:
        self._refuse_own(chain)
        checkpoint = Checkpoint.parse(parse_note(note)[0])
        with closing(self._database):
            if not self._is_made:
                self._database.make()
                self._is_made = True
            self._database.insert((checkpoint.size, encode_base64(checkpoint.root), note))

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        return self.kept_from(chain, 0)

    def kept_from(self, chain: AuditChain, least: int) -> Iterator[Kept]:
        self._refuse_own(chain)
        with closing(self._database):
            for note, kept_at in self._database.select(least):
                yield Kept(note, kept_at, is_attested=True)

    def _refuse_own(self, chain: AuditChain) -> None:
        """To vouch for itself a database needs no anchor."""
        if self._database.is_same(getattr(chain.store, "database", None)):
            raise ConfigurationError(
                f"{self.name} holds the trail itself, and whoever rewrites that rewrites both: anchor in another one."
            )


class SqliteAnchors:
    """In a SQLite file: on another host's disk, say."""

    def __init__(self, path: str) -> None:
        self._database = SqliteDatabase(path)
        self.name = f"the database {self._database.path}"
        self.close = self._database.close

    def is_same(self, database: object) -> bool:
        if not isinstance(database, SqliteDatabase):
            return False
        return os.path.realpath(database.path) == os.path.realpath(self._database.path)

    def make(self) -> None:
        with in_sqlite:
            if not self._database.has_table(TABLE):
                self._database.create("sqlite_anchors.sql")

    def insert(self, row: _ROW) -> None:
        with in_sqlite, self._database.transaction(WAIT_SECONDS) as connection:
            connection.execute(
                "INSERT INTO audit_anchors (tree_size, root, note) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row
            )

    def select(self, least: int) -> Iterator[tuple[str, datetime | None]]:
        # As bytes: of text that is none the driver would read nothing at all.
        columns = "CAST(note AS BLOB), CAST(kept_at AS BLOB)"
        query = f"SELECT {columns} FROM audit_anchors WHERE tree_size >= ? ORDER BY tree_size DESC, rowid DESC"
        with self._database.cursor() as cursor:
            rows = cursor.execute(query, (least,)).fetchall()
        for note, kept_at in rows:
            yield note.decode(errors="replace"), _parse_time(kept_at.decode(errors="replace"))


def _parse_time(text: str) -> datetime | None:
    """What somebody wrote there that is no time is none."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


class PostgresAnchors:
    """In a PostgreSQL database, in the schema that the URL names, or ``audit``."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self.name = f"the database {database.name}"
        self.close = database.close

    def is_same(self, database: object) -> bool:
        return getattr(database, "name", None) == self._database.name

    def make(self) -> None:
        if self._database.has_table(TABLE):
            return
        schema = self._database.schema
        if not self._database.fetch("SELECT to_regnamespace(%s) IS NOT NULL", (f'"{schema}"',))[0][0]:
            with self._database.transaction() as connection:
                self._database.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"', (), connection)
        self._database.run("postgres_anchors.sql")

    def insert(self, row: _ROW) -> None:
        table = self._database.table(TABLE)
        query = f"INSERT INTO {table} (tree_size, root, note) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
        with self._database.transaction() as connection:
            self._database.execute(query, row, connection)

    def select(self, least: int) -> Iterator[tuple[str, datetime | None]]:
        # Python has no time for infinity, and the driver would read nothing at all.
        time = "CASE WHEN kept_at BETWEEN '1970-01-01' AND '9000-01-01' THEN kept_at END"
        table, order = self._database.table(TABLE), "ORDER BY tree_size DESC, kept_at DESC"
        query = f"SELECT note, {time} FROM {table} WHERE tree_size >= %s {order}"
        yield from self._database.fetch(query, (least,))
