"""Every single change that somebody can make who owns the database and the folder of the archives."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from psycopg.types.json import Jsonb

from tests.attacks.attacker import superuser, without_guards

KEYS = {
    "audit_events": ("sequence",), "audit_checkpoints": ("tree_size",), "audit_archived": ("sequence",),
    "audit_private": ("sequence", "name"),
}  # fmt: skip
UNSIGNED = {"sealed_at"}  # of which docs/formats.md says that nobody signs it


class Owner:
    """Changes one thing at a time, and takes it back."""

    def __init__(self, life):
        self.life = life
        self.is_sqlite = life.kind == "sqlite"
        self.prefix, self.mark = ("", "?") if self.is_sqlite else ("audit.", "%s")

    def changes(self):
        """What can be changed: a table, a row, and a column; or the whole row, which is removed."""
        with self.connected() as connection:
            archived = {one[0] for one in connection.execute(f"SELECT sequence FROM {self.prefix}audit_archived")}
            for table, keys in KEYS.items():
                cursor = connection.execute(f"SELECT * FROM {self.prefix}{table}")
                columns = [column[0] for column in cursor.description]
                for row in map(dict, (zip(columns, one, strict=True) for one in cursor.fetchall())):
                    place = {key: row[key] for key in keys}
                    if table != "audit_events" or row["sequence"] not in archived:  # else it would have gone anyway
                        yield table, place, None
                    yield from ((table, place, name) for name in columns if name not in UNSIGNED)

    @contextmanager
    def changed(self, table, place, column):
        """In the block the cell is another, or the row is gone; afterwards all is as it was."""
        where = " AND ".join(f"{key} = {self.mark}" for key in place)
        with self.connected() as connection:
            cursor = connection.execute(f"SELECT * FROM {self.prefix}{table} WHERE {where}", (*place.values(),))
            names = [one[0] for one in cursor.description]
            row = dict(zip(names, cursor.fetchone(), strict=True))
            self._remove(connection, table, where, place)
            if column is not None:
                self._insert(connection, table, row | {column: other(row[column], column)})
        try:
            yield
        finally:
            with self.connected() as connection:
                if column is not None:
                    after = dict(place) | ({column: other(row[column], column)} if column in place else {})
                    self._remove(connection, table, where, after)
                self._insert(connection, table, row)

    def values(self):
        """All that lie beside the records."""
        with self.connected() as connection:
            return set(map(tuple, connection.execute(f"SELECT * FROM {self.prefix}audit_private").fetchall()))

    @contextmanager
    def added(self, value):
        """In the block a value is there again."""
        row = dict(zip(("sequence", "name", "salt", "value"), value, strict=True))
        with self.connected() as connection:
            self._insert(connection, "audit_private", row)
        yield
        with self.connected() as connection:
            where = f"sequence = {self.mark} AND name = {self.mark}"
            self._remove(connection, "audit_private", where, {key: row[key] for key in ("sequence", "name")})

    def _remove(self, connection, table, where, place):
        connection.execute(f"DELETE FROM {self.prefix}{table} WHERE {where}", (*place.values(),))

    def _insert(self, connection, table, row):
        values = [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
        marks = ", ".join([self.mark] * len(row))
        connection.execute(f"INSERT INTO {self.prefix}{table} ({', '.join(row)}) VALUES ({marks})", values)

    @contextmanager
    def connected(self):
        if self.is_sqlite:
            path = urlsplit(self.life.url).path
            with closing(sqlite3.connect(path)) as connection, connection, without_guards(connection):
                yield connection
            return
        with self.life.opened() as trail, superuser(trail.store) as connection:
            yield connection


def other(value, column):
    """Another value of the same type."""
    kinds = {
        dict: lambda: value | {"more": 1},
        bytes: lambda: bytes([value[0] ^ 1]) + value[1:],
        int: lambda: value + 1_000_000,
        datetime: lambda: value + timedelta(microseconds=1),
        uuid.UUID: lambda: uuid.UUID(int=value.int ^ 1),
        type(None): lambda: b"x" * 32 if column == "frontier" else "x",
    }
    if column == "ip_address":
        return "192.0.2.77"
    return kinds.get(type(value), lambda: f"{value[:-1]}{'1' if value[-1:] == '0' else '0'}")()
