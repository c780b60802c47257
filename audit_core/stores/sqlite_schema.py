"""Whether the tables, indexes and triggers in a SQLite file are still the ones that our .sql files make.

What is changed there changes no row, and yet hides rows from a report, or lets them be changed.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import NamedTuple

from audit_core.integrity.verify import Finding
from audit_core.sqlite import read_sql

SCRIPTS = ("sqlite.sql", "sqlite_positions.sql", "sqlite_archived.sql", "sqlite_private.sql", "sqlite_outbox.sql")
PAGE = 5_000  # rows that one look compares with the indexes, without a step of ours in between
# An outbox lies in the trail's database unless the application's data do not; older trails lack the others.
_BESIDES = ("audit_positions", "audit_archived", "audit_private")
_MAY_LACK = ("audit_outbox", *_BESIDES)
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|$))|(?P<text>'(?:[^']|'')*')|(?P<name>"[^"]*"|`[^`]*`|\[[^]]*\])|\w+|\S""",
    re.DOTALL,
)


class Thing(NamedTuple):
    """A table, an index, a trigger or a view."""

    type: str
    name: str
    table: str
    sql: str  # in its plain form

    @property
    def place(self) -> tuple[str, str]:
        """Two of one type have two names."""
        return self.type, self.name

    def __str__(self) -> str:
        return f"{self.type} {self.name}" if self.type == "table" else f"{self.type} {self.name} on {self.table}"


def check_schema(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield what is missing, differs, or was added to our tables. Other tables and plain indexes are no finding."""
    wanted = _wanted()
    found = {thing.place: thing for thing in _things(connection, {thing.table for thing in wanted.values()})}
    if not any(place in wanted for place, thing in found.items() if thing.table not in _BESIDES):
        yield Finding("empty", None, "the tables of a trail", "none of them")
    lacking = [name for name in _MAY_LACK if ("table", name) not in found]
    for place, thing in wanted.items():
        if (there := found.get(place)) is None:
            if thing.table not in lacking:
                yield Finding("schema", None, str(thing), "nothing")
        elif there != thing:
            yield Finding("schema", None, thing.sql or str(thing), there.sql or str(there))
    for place, thing in found.items():
        if place not in wanted and not (thing.type == "index" and _is_plain(connection, thing)):
            yield Finding("schema", None, f"nothing on {thing.table} but what is ours", thing.sql or str(thing))


def check_indexes(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Yield the events that an index hides, and the indexes that have more entries than the table has rows.

    In one walk over the table, a page at a time, and then over each index by itself: a read that lasts would keep the
    application's writers waiting.
    """
    indexes = []
    for name in _comparable(connection):
        try:
            connection.execute(f"SELECT 1 FROM audit_events INDEXED BY {_quoted(name)} LIMIT 1").fetchone()
            indexes.append(name)
        except sqlite3.OperationalError as error:  # cut to a part of the rows, say
            yield Finding("schema", None, f"an index {name} of all events", str(error))
    if indexes:
        yield from _compare(connection, indexes)


def _compare(connection: sqlite3.Connection, indexes: list[str]) -> Iterator[Finding]:
    entries = [_has_entry(connection, name) for name in indexes]
    page_end = "SELECT max(sequence) FROM (SELECT sequence FROM audit_events WHERE sequence > ? ORDER BY 1 LIMIT ?)"
    hidden = (
        f"SELECT t.sequence, {', '.join(entries)} FROM audit_events AS t NOT INDEXED "
        f"WHERE t.sequence > ? AND t.sequence <= ? AND NOT ({' AND '.join(entries)})"
    )
    rows, last = 0, -(2**63)
    newer = "SELECT count(*) FROM audit_events NOT INDEXED WHERE sequence > ?"
    while (end := connection.execute(page_end, (last, PAGE)).fetchone()[0]) is not None:
        for sequence, *are_there in connection.execute(hidden, (last, end)).fetchall():
            for name, is_there in zip(indexes, are_there, strict=True):
                if not is_there:
                    yield Finding("schema", sequence, f"an entry of the event in index {name}", "none")
        rows += connection.execute(f"{newer} AND sequence <= ?", (last, end)).fetchone()[0]
        last = end
    for name in indexes:
        number = f"SELECT count(sequence) FROM audit_events INDEXED BY {_quoted(name)}"
        entries_there, rows_since = connection.execute(f"SELECT ({number}), ({newer})", (last,)).fetchone()
        if entries_there > rows + rows_since:
            yield Finding("schema", None, f"{rows + rows_since} entries in index {name}", str(entries_there))


def _has_entry(connection: sqlite3.Connection, name: str) -> str:
    columns = [_quoted(row[2]) for row in connection.execute(f"PRAGMA index_info({_quoted(name)})")]
    same = " AND ".join(f"i.{column} IS t.{column}" for column in [*columns, "sequence"])
    return f"EXISTS (SELECT 1 FROM audit_events AS i INDEXED BY {_quoted(name)} WHERE {same})"


def _comparable(connection: sqlite3.Connection) -> list[str]:
    """The indexes that a query may use."""
    things = _things(connection, {"audit_events"})
    return [t.name for t in things if t.type == "index" and (t.place in _wanted() or _is_plain(connection, t))]


def _is_plain(connection: sqlite3.Connection, index: Thing) -> bool:
    """Whether it only makes reading faster: an index of whole columns in the usual order that refuses nothing."""
    listed = {row[1].lower(): row for row in connection.execute(f"PRAGMA index_list({_quoted(index.table)})")}
    _, _, is_unique, _, is_partial = listed[index.name][:5]
    columns = [row for row in connection.execute(f"PRAGMA index_xinfo({_quoted(index.name)})") if row[5]]
    return not is_unique and not is_partial and all(cid >= -1 and coll == "BINARY" for _, cid, _, _, coll, _ in columns)


def _things(connection: sqlite3.Connection, tables: set[str]) -> list[Thing]:
    """What there is by our tables' names, and on them."""
    marks = ", ".join("?" * len(tables))
    query = f"SELECT type, name, tbl_name, sql FROM sqlite_master WHERE lower(tbl_name) IN ({marks}) ORDER BY rowid"
    rows = connection.execute(query, sorted(tables)).fetchall()
    return [Thing(type_, name.lower(), table.lower(), _plain(sql or "")) for type_, name, table, sql in rows]


@lru_cache(maxsize=1)
def _wanted() -> dict[tuple[str, str], Thing]:
    """By type and name, what our .sql files make."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript("".join(map(read_sql, SCRIPTS)))
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        tables = {row[0] for row in fresh.execute(query)}
        return {thing.place: thing for thing in _things(fresh, tables)}


def _plain(sql: str) -> str:
    """The statement without what a copy may have changed: comments, white space, case, quotes around names."""
    words = []
    for match in _TOKEN.finditer(sql):
        if match["name"]:
            words.append(match[0][1:-1].lower())
        elif match["text"]:
            words.append(match[0])
        elif not match["comment"]:
            words.append(match[0].lower())
    return " ".join(words).replace("if not exists ", "")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
