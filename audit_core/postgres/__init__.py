"""Our own connections to a PostgreSQL database, and what is true of all of them.

No session state is used, so that a pooler in transaction mode may stand between: each transaction says itself what
it needs, whatever the database's or the role's defaults are.
"""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from audit_core.errors import BusyError, ConfigurationError, ConflictError, StoreUnavailableError
from audit_core.extras import lacking
from audit_core.postgres.explaining import explain, first_line
from audit_core.process.forking import abandon_in_children
from audit_core.sqlite import read_sql

if TYPE_CHECKING:
    import psycopg

SCHEMA = "audit"
ROLES = ("audit_application", "audit_sealer", "audit_auditor", "audit_eraser")
LOCK = 0x41554449  # "AUDI": the class of our advisory locks, which whoever makes tables takes
CONNECT_SECONDS = 10
KEPT = 2  # idle connections that a process keeps
_BEGIN = """\
BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE;
SELECT set_config('search_path', 'pg_catalog, pg_temp', true), set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
       set_config('bytea_output', 'hex', true), set_config('standard_conforming_strings', 'on', true),
       set_config('quote_all_identifiers', 'off', true), set_config('enable_seqscan', 'off', true),
       set_config('row_security', 'off', true),
       set_config('statement_timeout', '0', true), set_config('lock_timeout', '10s', true),
       set_config('idle_in_transaction_session_timeout', '60s', true),{newer}
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                                        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)"""
_SINCE_17 = " set_config('transaction_timeout', '0', true),"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}")
_QUOTED = re.compile(r':? *".*')
_PLACE = {"host", "hostaddr", "port", "dbname", "service"}  # options of a URL that say which database it is


class PostgresDatabase:
    """Opens short transactions on one database; never uses a connection across a fork."""

    def __init__(self, url: str) -> None:
        """``?schema=name`` in the URL says where the tables lie. Raises ConfigurationError for a wrong URL."""
        _require_psycopg()
        self.conninfo, self.schema = _split_schema(url)
        self.name = _without_password(self.conninfo)
        self._idle: list[psycopg.Connection[Any]] = []  # changed in single steps, without a lock
        self._open: set[weakref.ref[psycopg.Connection[Any]]] = set()  # the same; those in use, too
        abandon_in_children(self)

    def table(self, name: str) -> str:
        """The qualified name of one of our tables."""
        return f'"{self.schema}".{name}'

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction of our own, committed at the end of the block.

        Raises StoreUnavailableError when the server cannot be reached or fails, ConfigurationError when the tables
        or the permission are missing. After a connection that was cut in the commit, nobody knows whether it is done.
        """
        with self.translated():
            idle = self._idle
            connection = self._begin()
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                _roll_back(connection)
                if _has_failed(error):  # a session keeps the settings that it began with: read-only, say
                    connection.close()
                    self.close()
                raise
            finally:
                self._give_back(connection, idle)

    def fetch(self, query: str, parameters: Any = (), connection: Any = None) -> list[Any]:
        """The rows of one statement, in a transaction of its own unless ``connection`` is in one."""
        if connection is None:
            with self.transaction() as own:
                return own.execute(query, parameters).fetchall()
        with self.translated():
            found: list[Any] = connection.execute(query, parameters).fetchall()
            return found

    def execute(self, query: str, parameters: Any, connection: Any) -> None:
        """Run one statement that gives no rows, in the transaction of ``connection``."""
        with self.translated():
            connection.execute(query, parameters)

    def commit(self, statement: str, parameter: str) -> None:
        """Run one statement in a transaction of its own, in one round trip where ``transaction`` takes three.

        Raises what ``transaction`` raises.
        """
        with self.translated():
            idle = self._idle
            self._give_back(self._begin(f"; {statement}; COMMIT", parameter), idle)

    def has_table(self, name: str) -> bool:
        """Whether the table is there, also where this role may not read it."""
        return bool(self.fetch("SELECT to_regclass(%s) IS NOT NULL", (self.table(name),))[0][0])

    def run(self, script: str) -> None:
        """Run one of our .sql files, in a transaction. Of several processes one runs it at a time."""
        with self.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (LOCK,))
            connection.execute(script_for(script, self.schema))

    def close(self) -> None:
        """Close every idle connection that this process opened; those in use, when they are given back."""
        idle, self._idle = self._idle, []
        _close_all(idle)

    def abandon(self) -> None:
        """In a forked child: what is open is the parent's, whose session nobody here may speak in or end.

        Under gevent the greenlet that was using one goes on in the child, too.
        """
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for each in tuple(self._open):
            if (connection := each()) is not None and not connection.closed:
                os.dup2(nowhere, connection.fileno(), inheritable=False)
        os.close(nowhere)
        self.close()

    def _begin(self, more: str = "", *parameters: str) -> psycopg.Connection[Any]:
        """A connection with an open transaction, in which ``more`` was run with the same message to the server.

        One that was idle may have been cut meanwhile: then another one. If ``more`` was a commit, nobody knows whether
        the first one has done it: an event that is twice in the outbox is sealed once.
        """
        import psycopg

        while True:
            idle = self._take_idle()
            connection = idle or self._connect()
            try:
                # Parameters are written into the text: with others a message is one statement.
                psycopg.ClientCursor(connection).execute(_begin(connection) + more, parameters or None)
            except psycopg.Error:
                was_cut = connection.closed
                connection.close()
                if idle is None or not was_cut:
                    self.close()  # see ``transaction``
                    raise
            else:
                return connection

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg

        try:
            connection = psycopg.connect(
                self.conninfo, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_SECONDS,
                client_encoding="utf8", application_name="audit-core",
            )  # fmt: skip
        except psycopg.ProgrammingError as error:
            what = _QUOTED.sub("", first_line(error))  # which may be a part of the password
            raise ConfigurationError(
                f"The URL of the database cannot be read: {what}; write what is special in a name or password as %XX."
            ) from None
        self._open.add(weakref.ref(connection, self._open.discard))
        return connection

    def _take_idle(self) -> psycopg.Connection[Any] | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _give_back(self, connection: psycopg.Connection[Any], idle: list[psycopg.Connection[Any]]) -> None:
        """Keep it with those that were ``idle`` when it was taken, unless they were closed meanwhile."""
        if connection.closed or len(idle) >= KEPT:
            connection.close()
            return
        idle.append(connection)
        if idle is not self._idle:
            _close_all(idle)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Give PostgreSQL's errors one sentence with the cure."""
        import psycopg

        try:
            yield
        except psycopg.errors.UniqueViolation as error:
            raise ConflictError(f"{self.name}: somebody else appended there first ({first_line(error)}).") from error
        except psycopg.Error as error:
            raise self.explained(error) from error

    def explained(self, error: Exception) -> ConfigurationError | StoreUnavailableError:
        """What to raise for an error of any PostgreSQL driver."""
        from psycopg.conninfo import conninfo_to_dict

        user = conninfo_to_dict(self.conninfo).get("user")
        return explain(error, self.name, self.schema, None if user is None else str(user))


def _close_all(idle: list[psycopg.Connection[Any]]) -> None:
    with suppress(IndexError):  # another thread may do the same
        while True:
            idle.pop().close()


def script_for(name: str, schema: str) -> str:
    """One of our .sql files, for a schema of this name."""
    return re.sub(r"\baudit(?=\.)|(?<=SCHEMA )audit\b", f'"{schema}"', read_sql(name))


def _split_schema(url: str) -> tuple[str, str]:
    """The URL as libpq takes it, and the schema that ours names besides. The rest of it stays as it is written."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"The URL of the database cannot be read: {error}.") from None
    options = [option for option in parts.query.split("&") if option]
    if parts.fragment or "@" in parts.path or any("=" not in option for option in options):
        raise ConfigurationError(
            "The URL of the database cannot be read: write /, ?, # and @ in a user's name or password as %2F, %3F, "
            "%23 and %40."
        )
    schema = dict(parse_qsl(parts.query, keep_blank_values=True)).get("schema", SCHEMA)
    if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise ConfigurationError(
            f"A schema's name is lower-case letters, digits and underscores, not {schema!r}, and begins not with pg_."
        )
    query = "&".join(option for option in options if not option.startswith("schema="))
    # Not by urlunsplit: it leaves out the // of a URL without a host.
    return f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}", schema


def _without_password(conninfo: str) -> str:
    """Which server and database it is: two that differ must not share a name."""
    parts = urlsplit(conninfo)
    place = [option for option in parts.query.split("&") if option.partition("=")[0] in _PLACE]
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}{'?' if place else ''}{'&'.join(place)}"


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigurationError(lacking("PostgreSQL", "psycopg", "postgres")) from None


def _begin(connection: psycopg.Connection[Any]) -> str:
    newer = _SINCE_17 if connection.info.server_version >= 170000 else ""
    return _BEGIN.replace("{newer}", newer)


def _has_failed(error: BaseException) -> bool:
    """Whether the server refused, and not somebody else was first."""
    import psycopg

    return isinstance(error, StoreUnavailableError | psycopg.Error) and not isinstance(error, BusyError)


def _roll_back(connection: psycopg.Connection[Any]) -> None:
    """The connection may be in any state, or in none."""
    import psycopg

    try:
        connection.execute("ROLLBACK")
    except psycopg.Error:
        connection.close()
