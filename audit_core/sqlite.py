"""Our own connections to a SQLite file: one per thread and process, and what is true of all of them."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from audit_core.errors import ConfigurationError, Cures, StoreUnavailableError

CACHE_KIB = 32_768  # the pages of two indexes by actor and by resource, so that a batch writes each of them once
LOCK_WAIT_SECONDS = 0.1  # a request may hold the file until its response is sent, and wait for us to let it
PATIENT_WAIT_SECONDS = 10.0  # for commands, which keep nobody waiting

_CURES = {
    "locked": "somebody else is writing it, and the events wait until he is done",
    "readonly": "let this user write the file and its folder; until then the events wait",
    "unable to open": "see that the folder is there and that this user may use it",
    "full": "make room on the disk; until then the events wait",
}

_abandoned: list[_Held] = []  # a parent process's: closing one here would drop the parent's locks


class _Held:
    """A connection that is closed with its thread, and in the process that opened it only.

    The connection itself is part of a cycle, and would wait for the garbage collector.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection, self._pid = connection, os.getpid()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._pid == os.getpid():
            self.connection.close()


class SqliteDatabase:
    """Opens short transactions and reads on one SQLite file; never used across a fork."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._local = threading.local()
        self._open: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._pid = os.getpid()

    @contextmanager
    def transaction(self, wait: float = LOCK_WAIT_SECONDS) -> Iterator[sqlite3.Connection]:
        """A write transaction of our own, committed at the end of the block; ``wait`` in seconds for the file.

        Raises StoreUnavailableError when the file is locked, full, read-only or missing: then nothing was written.
        """
        connection = self.connection()
        with translated_errors(self.path):
            connection.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def connection(self) -> sqlite3.Connection:
        """The connection of this thread, in autocommit mode. Raises ConfigurationError if there is no file."""
        if self._pid != os.getpid():
            _abandoned.extend(self._open)
            self._local, self._open, self._pid = threading.local(), weakref.WeakSet(), os.getpid()
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Held(self._connect())
            self._open.add(held)
        return held.connection

    def create(self, script: str) -> None:
        """Run one of our .sql files. Each of its statements may be repeated."""
        with translated_errors(self.path):
            sqlite3.connect(self.path).close()  # makes the file
            connection = self.connection()
            connection.execute(f"PRAGMA busy_timeout = {int(PATIENT_WAIT_SECONDS * 1000)}")
            try:
                connection.executescript(f"BEGIN IMMEDIATE; {read_sql(script)}; COMMIT;")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def has_table(self, name: str) -> bool:
        """Whether the table is there; a file that is not there has none."""
        if not self.path.exists():
            return False
        with translated_errors(self.path):
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
            return self.connection().execute(query, (name,)).fetchone() is not None

    def owns(self, connection: Any) -> bool:
        """Whether a DB-API connection of the application is to this file."""
        with plain_cursor(connection) as cursor:
            cursor.execute("PRAGMA database_list")
            files = [row[2] for row in cursor.fetchall() if row[1] == "main"]
        return bool(files and files[0]) and os.path.realpath(files[0]) == os.path.realpath(self.path)

    def close(self) -> None:
        """Close every connection that this process opened."""
        if self._pid == os.getpid():
            for held in list(self._open):
                held.close()
            self._local, self._open = threading.local(), weakref.WeakSet()

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            raise ConfigurationError(f"There is no file {self.path}: correct the URL, or {Cures.make_tables}.")
        with translated_errors(self.path):
            connection = self._open_file("mode=rw")
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.DatabaseError as error:
                connection.close()
                if not isinstance(error, sqlite3.OperationalError) or self._may_have_journal():
                    raise
                return self._open_file("mode=ro&immutable=1")  # a copy in WAL mode on a read-only medium
            connection.execute("PRAGMA synchronous = FULL")  # a commit that returned has survived a power cut
            connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
            return connection

    def _open_file(self, options: str) -> sqlite3.Connection:
        uri = f"{self.path.as_uri()}?{options}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    def _may_have_journal(self) -> bool:
        """Whether what is committed may lie outside of the file, now or soon."""
        journal = self.path.with_name(f"{self.path.name}-wal")
        return os.access(self.path.parent, os.W_OK) or (journal.exists() and journal.stat().st_size > 0)


@contextmanager
def plain_cursor(connection: Any) -> Iterator[Any]:
    """A cursor whose rows are tuples, whatever the application has set on its connection."""
    cursor = connection.cursor()
    try:
        if isinstance(cursor, sqlite3.Cursor):
            cursor.row_factory = None
        yield cursor
    finally:
        cursor.close()


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Give SQLite's errors one sentence with the cure."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "no such table" in text or "no such column" in text:
            raise ConfigurationError(f"{path} has no audit trail ({text}): {Cures.make_tables}.") from error
        cure = next((cure for sign, cure in _CURES.items() if sign in text), "see the log of the system")
        raise StoreUnavailableError(f"{path}: {text}; {cure}.") from error
    except sqlite3.DatabaseError as error:
        raise StoreUnavailableError(f"{path}: {error}; is it a SQLite database?") from error


def read_sql(name: str) -> str:
    """One of the .sql files that make up the schema."""
    return resources.files("audit_core.stores").joinpath("sql", name).read_text(encoding="utf-8")
