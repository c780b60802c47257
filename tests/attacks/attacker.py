"""An attacker who can write every table, as a superuser could: takes all out, changes it, puts all back."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from audit_core.canonical import encode_record
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import GENESIS_HASH, leaf_hash
from audit_core.integrity.merkle import Frontier
from audit_core.rows import STORED_COLUMNS
from audit_core.stores import StoredCheckpoint
from audit_core.stores.memory import MemoryStore
from audit_core.stores.postgres import PostgresStore
from audit_core.stores.s3 import S3AuditStore
from audit_core.stores.s3_objects import first_of, key_of

AT = {name: place for place, name in enumerate(STORED_COLUMNS)}


@dataclass
class Loot:
    rows: list[list]
    heads: list[StoredCheckpoint]

    def edit(self, place: int, /, **columns: object) -> None:
        for name, value in columns.items():
            self.rows[place][AT[name]] = value

    def relink(self, log: str) -> None:
        """New sequences, links and hashes, as a valid chain has them."""
        previous = GENESIS_HASH
        for sequence, row in enumerate(self.rows):
            row[AT["sequence"]], row[AT["previous_hash"]] = sequence, previous
            previous = row[AT["event_hash"]] = leaf_hash(encode_record(tuple(row[:-1]), log)).hex()

    def resign(self, log: str, signer: object = None) -> None:
        """New roots and frontiers; signatures only if he has a key, else the old ones."""
        leaves = [bytes.fromhex(row[AT["event_hash"]]) for row in self.rows]
        heads = []
        for head in self.heads:
            tree = Frontier()
            tree.extend(leaves[: head.tree_size])
            root = tree.root()
            signature = Checkpoint(log, head.tree_size, root).sign(signer) if signer else head.signature
            heads.append(
                head._replace(root=base64.b64encode(root).decode(), signature=signature, frontier=tree.to_bytes())
            )
        self.heads = heads


def steal(store: object) -> Loot:
    return Loot([list(row) for row in store.rows()], list(store.checkpoints()))


def put_back(store: object, loot: Loot) -> None:
    if isinstance(store, MemoryStore):
        store.events = [tuple(row) for row in loot.rows]
        store.heads = list(loot.heads)
        return
    if isinstance(store, PostgresStore):
        put_back_in_postgres(store, loot)
        return
    if isinstance(store, S3AuditStore):
        getattr(store, "put_back", put_back_in_s3)(store, loot)
        return
    with store.database.transaction(5) as connection, without_guards(connection):
        connection.execute("DELETE FROM audit_events")
        connection.execute("DELETE FROM audit_checkpoints")
        marks = ", ".join("?" * len(STORED_COLUMNS))
        connection.executemany(f"INSERT INTO audit_events ({', '.join(STORED_COLUMNS)}) VALUES ({marks})", loot.rows)
        connection.executemany("INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?, ?, ?)", loot.heads)


def put_back_in_postgres(store: PostgresStore, loot: Loot) -> None:
    """As a superuser: no trigger fires, and an event may be there twice."""
    marks = ", ".join(["%s"] * len(STORED_COLUMNS))
    with superuser(store) as connection:
        connection.execute("DROP INDEX audit.audit_events_event_id")
        connection.execute("DELETE FROM audit.audit_events")
        connection.execute("DELETE FROM audit.audit_checkpoints")
        columns = f"INSERT INTO audit.audit_events ({', '.join(STORED_COLUMNS)}, ip_text) VALUES ({marks}, %s)"
        try:
            with connection.cursor() as cursor:
                cursor.executemany(columns, [_as_postgres(row) for row in loot.rows])
                cursor.executemany("INSERT INTO audit.audit_checkpoints VALUES (%s, %s, %s, %s, %s, %s)", loot.heads)
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
            raise ImpossibleError(str(error)) from error
        with suppress(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute(UNIQUE_EVENTS)


def put_back_in_s3(store: S3AuditStore, loot: Loot) -> None:
    """As whoever has the disks of the server, where no lock holds: the objects are others, and have no past.

    Raises ImpossibleError for what no line of JSON holds.
    """
    objects = _as_objects(store, loot)
    store._prefix = f"{store._prefix}x/"
    store._recent.clear()
    for first, body in objects.items():
        store._bucket.put_new(f"{store._prefix}{key_of(first)}", body)
    store._mirror.open()
    store._sync()


def put_over_in_s3(store: S3AuditStore, loot: Loot) -> None:
    """As whoever may write to the bucket: locks hold, and he adds locked versions, delete markers and objects."""
    objects = _as_objects(store, loot)
    there = {first_of(versions[0].key.removeprefix(store._prefix)) for versions in store._bucket.objects(store._prefix)}
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + timedelta(days=9_999)}
    for first in there | objects.keys():
        which = {"Bucket": store._bucket.name, "Key": f"{store._prefix}{key_of(first)}"}
        if first in objects:
            store._bucket._client.put_object(**which, Body=objects[first], **lock)
        else:
            store._bucket._client.delete_object(**which)


def _as_objects(store: S3AuditStore, loot: Loot) -> dict[int, bytes]:
    log = _origin_of(loot.rows) or _origin_of(store.rows(0, 1))
    rows, ends, objects = list(loot.rows), [head.tree_size for head in loot.heads], {}
    for head, start, end in zip(loot.heads, [0, *ends], ends, strict=False):
        mine = [row for row in rows if row[AT["sequence"]] < end]
        rows = [row for row in rows if row not in mine]
        first = head.first_sequence if isinstance(head.first_sequence, int) else start
        objects[first] = as_object(mine, head, log)
    if rows:
        first = max(0, *ends) if len(ends) > 1 else sum(ends)
        objects[first] = as_object(rows, None, log)
    return objects


def _origin_of(rows: Iterable[Sequence]) -> str:
    try:
        return json.loads(next(iter(rows))[AT["details"]])["origin"]
    except (StopIteration, ValueError, TypeError, LookupError):
        return ""


def as_object(rows: list[list], head: StoredCheckpoint | None, log: str) -> bytes:
    lines = []
    for row in rows:
        record = dict(zip(STORED_COLUMNS, row, strict=True)) | {"log": log, "v": 1}
        event_hash, details = record.pop("event_hash"), record.pop("details")
        line = _as_json({"event_hash": event_hash, "record": record})
        details = details if isinstance(details, str) else _as_json(details)
        lines.append(line.replace('"record": {', f'"record": {{"details": {details}, ', 1))
    if head is not None:
        frontier = base64.b64encode(head.frontier).decode() if isinstance(head.frontier, bytes) else head.frontier
        lines.append(_as_json({"checkpoint": head._asdict() | {"frontier": frontier}}))
    return "".join(f"{line}\n" for line in lines).encode()


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise ImpossibleError(str(error)) from error


class ImpossibleError(Exception):
    """A column's type does not take it."""


UNIQUE_EVENTS = "CREATE UNIQUE INDEX IF NOT EXISTS audit_events_event_id ON audit.audit_events (event_id, timestamp)"
_ADDRESS = re.compile(r"[0-9.]+")


def _as_postgres(row: list) -> list:
    values = [*row, None]
    for name in ("previous_hash", "event_hash"):
        values[AT[name]] = f"\\x{row[AT[name]]}"
    if (address := row[AT["ip_address"]]) is not None and not _ADDRESS.fullmatch(address):
        values[AT["ip_address"]], values[-1] = None, address
    return values


@contextmanager
def superuser(store: PostgresStore) -> Iterator[psycopg.Connection]:
    """A transaction in which no trigger of the tables fires."""
    with psycopg.connect(store.database.conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        yield connection


@contextmanager
def without_guards(connection: sqlite3.Connection) -> Iterator[None]:
    """Takes away what refuses his changes, and puts it back where it still can be."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE type = 'trigger' OR name = 'audit_events_event_id'"
    guards = connection.execute(query).fetchall()
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for type_, name, _ in guards:
        connection.execute(f'DROP {type_} "{name}"')
    yield
    connection.execute("PRAGMA ignore_check_constraints = OFF")
    for _, _, sql in guards:
        with suppress(sqlite3.OperationalError, sqlite3.IntegrityError):  # an event is there twice, or no table
            connection.execute(sql)
