"""An error of the server, or of its driver, in one sentence with the cure."""

from __future__ import annotations

import re

from audit_core.errors import ConfigurationError, Cures, RefusedError, StoreUnavailableError

_NOT_THERE = {"42P01", "3F000", "42703"}  # no such table, schema, column
_FORBIDDEN = "42501"
_NO_ENTRY = {"28P01", "28000", "3D000"}  # a wrong password, user or database
# A driver that could not connect does not give the code, only what the server says.
_SAYS_NO_ENTRY = re.compile(
    r"FATAL:  (?:password authentication failed for user|no pg_hba\.conf entry for|(?:role|database) .* does not exist)"
)
_READ_ONLY = "25006"
_DISK_FULL = "53100"
_NO_PARTITION = "no partition of relation"
_NO_PARTITION_CURE = ": `audit init` makes the default partition again"
_REFUSED_CURE = ": remove the constraint, trigger or index that `audit init` has not made"
_NO_CONNECTION_LEFT = ("too many clients", "too many connections", "remaining connection slots")
_OTHER_TABLES = ("42", "22003", "0A000")  # statements and numbers that do not fit our tables
_REFUSALS = ("22", "23", "54", "P0001")  # data, constraints, limits (of an index, say), and what a trigger raises
_NEWER = {  # tables that older trails lack
    "audit_lock": "the lock that whoever seals holds",
    "audit_positions": "the place where it is kept how far a queue was read",
    "audit_private": "the table of values that are kept outside of records",
}
_THERE_ALREADY = {"42P06", "42P07", "42710"}  # somebody else has just made it


def explain(error: Exception, name: str, schema: str, user: str | None) -> ConfigurationError | StoreUnavailableError:
    """What to raise for an error of any PostgreSQL driver; ``user`` is who was refused, where that is known."""
    code, text = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None), first_line(error)
    if code in _NOT_THERE and (lacking := next((what for table, what in _NEWER.items() if table in text), None)):
        return ConfigurationError(
            f"{name}: the trail in schema {schema} was made by an older version, without {lacking}: run "
            f"{Cures.begin_trail} as the owner, with --roles where it has roles."
        )
    if code in _NOT_THERE:
        return ConfigurationError(f"{name} has no audit trail in schema {schema} ({text}): {Cures.make_tables}.")
    if code == _FORBIDDEN or _names_nobody(code, text):
        return ConfigurationError(f"{name}: {text}{_refused(code, user)}.")
    if code is not None and code.startswith(_OTHER_TABLES) and code not in _THERE_ALREADY:
        return ConfigurationError(
            f"{name}: the tables in schema {schema} are not those of `audit init` ({text}): run `audit verify`."
        )
    if code is not None and code.startswith(_REFUSALS):
        return RefusedError(f"{name}: {text}{_cure(code, text)}.")
    return StoreUnavailableError(f"{name}: {text}{_cure(code, text)}.")


def _names_nobody(code: str | None, text: str) -> bool:
    return code in _NO_ENTRY or (code is None and _SAYS_NO_ENTRY.search(text) is not None)


def _refused(code: str | None, user: str | None) -> str:
    if code != _FORBIDDEN:
        return ": correct the URL's user, password and database, or make them"
    who = f" as `{user}`" if user else ""
    return f"{who}; connect as a role that may, or grant it what `audit init --roles` grants"


def first_line(error: Exception) -> str:
    """Of what it says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cure(code: str | None, text: str) -> str:
    """What to do about a server that takes nothing just now, where it is known."""
    if code == _READ_ONLY:
        return (
            " (a standby, or default_transaction_read_only is on): turn the setting off, or name the primary in the "
            "URL (?target_session_attrs=read-write finds it among several hosts)"
        )
    if code == _DISK_FULL:
        return ": make room on the server's disk"
    if any(words in text for words in _NO_CONNECTION_LEFT):
        return ": raise max_connections, or put a pooler between"
    if code is None and text.startswith(("connection", "failed to resolve")):
        return ": check that the server runs, and the URL's host, user, password and database"
    if code is not None and code.startswith(_REFUSALS):
        return _NO_PARTITION_CURE if text.startswith(_NO_PARTITION) else _REFUSED_CURE
    return "; try again, and look into the server's log if it goes on"
