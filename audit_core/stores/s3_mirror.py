"""What lies in the bucket, as a SQLite file on this host: a bucket cannot be searched.

An attacker who can write this file can make reports lie, hide that an event stands twice or an object has no lock, hold
up whoever seals, and have an honest trail called changed. ``verify`` reads events and checkpoints from the bucket
itself, and where they end; the file can be deleted at any time, and is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from audit_core.errors import StoreUnavailableError
from audit_core.rows import STORED_COLUMNS
from audit_core.sqlite import PATIENT_WAIT_SECONDS, SqliteDatabase, in_sqlite
from audit_core.stores import StoredCheckpoint
from audit_core.stores.s3_objects import Batch
from audit_core.stores.sqlite import SqliteStore

# Whatever somebody has put into the bucket: nothing of it stops the mirror.
_LOOSE = """
CREATE TABLE IF NOT EXISTS objects (first INTEGER PRIMARY KEY, version TEXT NOT NULL, is_locked INTEGER NOT NULL);
DROP INDEX IF EXISTS audit_events_event_id;
CREATE INDEX IF NOT EXISTS events_by_id ON audit_events (event_id);
DROP TRIGGER IF EXISTS audit_events_no_replace;
DROP TRIGGER IF EXISTS audit_checkpoints_no_replace
"""
_EVENT = (
    f"INSERT OR IGNORE INTO audit_events ({', '.join(STORED_COLUMNS)}) VALUES ({', '.join('?' * len(STORED_COLUMNS))})"
)
_HEAD = f"INSERT OR IGNORE INTO audit_checkpoints VALUES ({', '.join('?' * len(StoredCheckpoint._fields))})"


class Mirrored(NamedTuple):
    """One object that is in the mirror."""

    first: int
    version: str
    is_locked: bool


class _MirrorDatabase(SqliteDatabase):
    """Threads of ours use it, and a fork waits for them; for no request to the bucket, which none makes meanwhile."""

    def create(self, script: str) -> None:
        with in_sqlite:
            super().create(script)

    @contextmanager
    def _use(self) -> Iterator[Any]:
        with in_sqlite, super()._use() as held:
            yield held


class Mirror(SqliteStore):
    """Read as any store in SQLite is."""

    def __init__(self, path: Path) -> None:
        super().__init__(_MirrorDatabase(path))

    def open(self) -> None:
        """Make the file if it is missing, for this user alone. Raises StoreUnavailableError."""
        path = self.database.path
        try:
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
        except OSError as error:
            raise StoreUnavailableError(
                f"The mirror of the bucket, {path}, cannot be made ({error.strerror}): let this user write there, or "
                "name another folder with AUDIT_STATE_DIR."
            ) from error
        if not self.database.has_table("objects"):
            self.create()
            with self.database.transaction(PATIENT_WAIT_SECONDS) as connection:
                for statement in _LOOSE.strip().split(";"):
                    connection.execute(statement)

    def last(self) -> Mirrored | None:
        """The newest object that is here."""
        return self._one("SELECT * FROM objects ORDER BY first DESC LIMIT 1", ())

    def holding(self, sequence: int) -> Mirrored | None:
        """The object that should hold this event."""
        return self._one("SELECT * FROM objects WHERE first <= ? ORDER BY first DESC LIMIT 1", (sequence,))

    def unlocked(self) -> Iterator[int]:
        """Where the objects begin that anybody can exchange."""
        for (first,) in self._fetch("SELECT first FROM objects WHERE NOT is_locked ORDER BY first", ()):
            yield first

    def add(self, mirrored: Mirrored, batch: Batch) -> None:
        """Take in one object, unless somebody has."""
        with self.database.transaction(PATIENT_WAIT_SECONDS) as connection:
            connection.executemany(_EVENT, what_fits(batch).rows)
            if (head := what_fits(batch).checkpoint) is not None:
                connection.execute(_HEAD, head)
            connection.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", mirrored)

    def forget(self) -> None:
        """The bucket is not the one any more that it was."""
        self.close()
        for suffix in ("", "-wal", "-journal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.database.path}{suffix}").unlink()
        self.open()

    def _one(self, query: str, parameters: Sequence[Any]) -> Mirrored | None:
        rows = self._fetch(query, parameters)
        return Mirrored(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None


def what_fits(batch: Batch) -> Batch:
    """What of it the mirror takes in: all, unless an attacker wrote it."""
    rows = [row for row in batch.rows if row[-1] is not None and _fits(row)]
    return Batch(rows, batch.checkpoint if batch.checkpoint is not None and _fits(batch.checkpoint) else None)


def _fits(values: Sequence[Any]) -> bool:
    """Whether SQLite has a type for all of them."""
    return all(
        isinstance(value, str | bytes | None) or (isinstance(value, int) and -(2**63) <= value < 2**63)
        for value in values
    )
