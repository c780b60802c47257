"""What a statement does, by how it begins: whoever only reads need not say who he is."""

from __future__ import annotations

import re

_WRITES_INSIDE = r"WITH\b(?=.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b)"
_BEGINNING = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*+"
_READING = re.compile(
    rf"{_BEGINNING}\(*(?:SELECT|SHOW|EXPLAIN\b(?!.*\bANALY[ZS]E\b)|VALUES|TABLE|FETCH|DECLARE|CLOSE|SET|RESET|SAVEPOINT|RELEASE|ROLLBACK|"
    r"COMMIT|BEGIN|PREPARE|LOCK|LISTEN|CREATE|ALTER|DROP|WITH(?!.*\b(?:INSERT|UPDATE|DELETE|MERGE)\b)|"
    r"COPY\b.*\bTO\s+STDOUT)\b",
    re.IGNORECASE | re.DOTALL,
)
_CHANGING = re.compile(
    rf"{_BEGINNING}(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|{_WRITES_INSIDE}|COPY\b(?!.*\bTO\s+STDOUT))\b",
    re.IGNORECASE | re.DOTALL,
)
_COPYING = re.compile(rf"{_BEGINNING}COPY\b", re.IGNORECASE | re.DOTALL)
_UNDOING = re.compile(rf"{_BEGINNING}(?:ROLLBACK|ABORT|COMMIT|END|BEGIN|START)\b", re.IGNORECASE | re.DOTALL)


def may_write(statement: str) -> bool:
    """Whether it is none that only reads. Functions that write are not seen in a SELECT.

    What ends a transaction or goes back to a savepoint does not, whatever follows: the transaction may have failed.
    """
    return not _READING.match(statement) or not (is_one(statement) or may_undo(statement))


def is_one(statement: str) -> bool:
    """Whether it is none of several in one string; of one that has a ``;`` in a literal it is not known."""
    return ";" not in statement.rstrip().removesuffix(";")


def changes_rows(statement: str) -> bool:
    """Whether it is one that changes rows, and can run inside of a transaction."""
    return _CHANGING.match(statement) is not None


def is_copy(statement: str) -> bool:
    """Whether rows are sent or fetched after it."""
    return _COPYING.match(statement) is not None


def may_undo(statement: str) -> bool:
    """Whether what was said in the transaction may be gone after it, or be again what it was before."""
    return _UNDOING.match(statement) is not None
