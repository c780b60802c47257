"""Our own connections to a SQLite file: one per thread and process, and what is true of all of them."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from audit_core.errors import ConfigurationError, Cures, LockedError, StoreUnavailableError
from audit_core.process.forking import lock_across_forks
from audit_core.process.threads import is_own_thread

CACHE_KIB = 65_536  # the pages that a batch changes, nearly all of two indexes, so that each is written once
LOCK_WAIT_SECONDS = 0.02  # requests wait while we do; a request may hold the file until its response is sent
READ_WAIT_SECONDS = 5.0  # of whoever reads for himself
PATIENT_WAIT_SECONDS = 10.0  # for commands, which keep nobody waiting
FULL = 2  # PRAGMA synchronous; 3 is EXTRA
logger = logging.getLogger("audit_core")

# A thread of ours must not be inside of SQLite when another one forks: the child would find it locked for ever.
in_sqlite = lock_across_forks()

_CURES = {
    "locked": "somebody else is writing it, and the events wait until he is done",
    "readonly": "let this user write the file and its folder; until then the events wait",
    "unable to open": "see that the folder is there and that this user may use it",
    "full": "make room on the disk; until then the events wait",
}

_FileId: TypeAlias = tuple[int, int]
_Content: TypeAlias = tuple[int, int]

_abandoned: list[_Held] = []  # a parent process's: closing one here would drop the parent's locks


class _Held:
    """A connection that is closed with its thread, and in the process that opened it only.

    The connection itself is part of a cycle, and would wait for the garbage collector.
    """

    def __init__(self, connection: sqlite3.Connection, file: _FileId, content: _Content | None = None) -> None:
        """``content`` is what the file must keep where it is read without locks."""
        self.connection, self._file, self._content, self._pid = connection, file, content, os.getpid()
        self.in_use = threading.RLock()  # nobody closes it meanwhile: SQLite would crash
        self.closed = False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._pid == os.getpid():
            with self.in_use:
                self.closed = True
                self.connection.close()

    def is_to(self, path: Path) -> bool:
        """Whether its file still lies at the path."""
        return _file_id(path) == self._file

    def is_unchanged(self, path: Path) -> bool:
        """Whether nobody has written the file that is read without locks."""
        return self._content is None or _content(path) == self._content


class SqliteDatabase:
    """Opens short transactions and reads on one SQLite file; never used across a fork."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._local = threading.local()
        self._open: set[weakref.ref[_Held]] = set()  # changed in single steps, without a lock: see ``Inbox``
        self._pid = os.getpid()

    @contextmanager
    def transaction(self, wait: float = LOCK_WAIT_SECONDS) -> Iterator[sqlite3.Connection]:
        """A write transaction of our own, committed at the end of the block; ``wait`` in seconds for the file.

        Raises StoreUnavailableError when the file is locked, full, read-only, missing or replaced: then nothing was
        written to what lies at the path.
        """
        with self._use() as held, translated_errors(self.path):
            connection = held.connection
            connection.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if not held.is_to(self.path):
                raise StoreUnavailableError(f"{self.path} was replaced by another file while it was written.")

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection of this thread, in autocommit mode. Raises ConfigurationError if there is no file."""
        with self._use() as held:
            try:
                with translated_errors(self.path):
                    yield held.connection
            finally:
                if not held.is_unchanged(self.path):
                    raise StoreUnavailableError(f"{self.path} was changed while it was read: try it again.")

    @contextmanager
    def cursor(self, connection: Any = None) -> Iterator[Any]:
        """A plain cursor on a connection of the application, else on this thread's own."""
        with ExitStack() as stack:
            if connection is None:
                connection = stack.enter_context(self.connection())
            stack.enter_context(translated_errors(self.path))
            yield stack.enter_context(plain_cursor(connection))

    @contextmanager
    def _use(self) -> Iterator[_Held]:
        while True:
            held = self._held()
            with held.in_use:
                if not held.closed:
                    yield held
                    return

    def _held(self) -> _Held:
        if self._pid != os.getpid():
            _abandoned.extend(theirs for each in self._open if (theirs := each()))
            self._local, self._open, self._pid = threading.local(), set(), os.getpid()
        held: _Held | None = getattr(self._local, "held", None)
        if held is not None and not (held.closed or held.connection.in_transaction):
            if not held.is_to(self.path):
                logger.warning("%s is not the file any more that it was: it is opened anew.", self.path)
                held.close()
            elif not held.is_unchanged(self.path):
                held.close()
        if held is None or held.closed:
            held = self._local.held = self._connect()
            self._open.add(weakref.ref(held, self._open.discard))
        return held

    def create(self, script: str) -> None:
        """Run one of our .sql files. Each of its statements may be repeated. Raises ConfigurationError for UTF-16."""
        with translated_errors(self.path):
            sqlite3.connect(self.path).close()  # makes the file
        with self.connection() as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(PATIENT_WAIT_SECONDS * 1000)}")
            check_encoding(connection, self.path)
            try:
                connection.executescript(f"BEGIN IMMEDIATE; {read_sql(script)}; COMMIT;")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def has_table(self, name: str) -> bool:
        """Whether the table is there; a file that is not there has none."""
        if not self.path.exists():
            return False
        with self.connection() as connection:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
            return connection.execute(query, (name,)).fetchone() is not None

    def owns(self, connection: Any) -> bool:
        """Whether a DB-API connection of the application is to this file."""
        file = file_of(connection)
        return bool(file) and os.path.realpath(file) == os.path.realpath(self.path)

    def close(self) -> None:
        """Close every connection that this process opened."""
        if self._pid == os.getpid():
            opened, self._open, self._local = self._open, set(), threading.local()
            for each in tuple(opened):
                if held := each():
                    held.close()

    def _connect(self) -> _Held:
        if (file := _file_id(self.path)) is None:
            raise ConfigurationError(f"There is no file {self.path}: correct the URL, or {Cures.make_tables}.")
        content = _content(self.path)
        with translated_errors(self.path):
            connection = self._open_file("mode=rw")
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.DatabaseError as error:
                connection.close()
                if not _cannot_be_opened(error) or self._may_have_journal():
                    raise
                # A copy in WAL mode on a read-only medium; or one of which nobody else has opened the original yet.
                return _Held(self._open_file("mode=ro&immutable=1"), file, content)
            connection.execute("PRAGMA synchronous = FULL")  # a commit that returned has survived a power cut
            connection.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
            return _Held(connection, file)

    def _open_file(self, options: str) -> sqlite3.Connection:
        uri = f"{self.path.as_uri()}?{options}"
        wait = LOCK_WAIT_SECONDS if is_own_thread() else READ_WAIT_SECONDS  # opening reads the file already
        return sqlite3.connect(uri, timeout=wait, uri=True, isolation_level=None, check_same_thread=False)

    def _may_have_journal(self) -> bool:
        """Whether what is committed may lie outside of the file, now or soon."""
        file = Path(os.path.realpath(self.path))
        journals = [file.with_name(file.name + ending) for ending in ("-wal", "-journal")]
        return os.access(file.parent, os.W_OK) or any(each.exists() and each.stat().st_size > 0 for each in journals)


def _cannot_be_opened(error: sqlite3.DatabaseError) -> bool:
    """For want of permission; a file that somebody has locked is one that he changes."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY


def check_encoding(connection: Any, name: object) -> None:
    """Raises ConfigurationError for a database that cannot hold every text.

    In UTF-16 SQLite puts U+FFFD in the place of U+FFFE and U+FFFF: such an event would look as if somebody edited it.
    """
    with plain_cursor(connection) as cursor:
        encoding = cursor.execute("PRAGMA encoding").fetchone()[0]
    if encoding != "UTF-8":
        raise ConfigurationError(
            f"{name} has the encoding {encoding}, which cannot hold every text: make it anew in UTF-8, with "
            "`sqlite3 old.db .dump | sqlite3 new.db`."
        )


def commits_durably(connection: Any) -> bool:
    """Whether what the application commits on this connection survives a power cut at once."""
    with plain_cursor(connection) as cursor:
        cursor.execute("PRAGMA synchronous")
        return bool(cursor.fetchone()[0] >= FULL)


def file_of(connection: Any) -> str:
    """The whole path of the file that a DB-API connection is to; empty where that lies in memory."""
    with plain_cursor(connection) as cursor:
        cursor.execute("PRAGMA database_list")
        files = [row[2] for row in cursor.fetchall() if row[1] == "main"]
    return str(files[0] or "") if files else ""


@contextmanager
def plain_cursor(connection: Any) -> Iterator[Any]:
    """A cursor whose rows are tuples with text in them, whatever the application has set on its connection."""
    cursor = connection.cursor()
    try:
        if isinstance(cursor, sqlite3.Cursor):
            cursor.row_factory = None
            with _plain_text(cursor.connection):
                yield cursor
        else:
            yield cursor
    finally:
        cursor.close()


@contextmanager
def _plain_text(connection: sqlite3.Connection) -> Iterator[None]:
    usual = connection.text_factory
    connection.text_factory = str
    try:
        yield
    finally:
        connection.text_factory = usual


def _file_id(path: Path) -> _FileId | None:
    """What tells a file from another one that took its place."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _content(path: Path) -> _Content | None:
    """What differs as soon as somebody has written the file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


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
        kind = LockedError if "locked" in text else StoreUnavailableError
        raise kind(f"{path}: {text}; {cure}.") from error
    except sqlite3.DatabaseError as error:
        raise StoreUnavailableError(f"{path}: {error}; is it a SQLite database?") from error


def read_sql(name: str) -> str:
    """One of the .sql files that make up the schema."""
    return resources.files("audit_core.stores").joinpath("sql", name).read_text(encoding="utf-8")
