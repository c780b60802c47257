"""An empty store of each kind, for the attacks to be made on."""

import os
from contextlib import contextmanager
from functools import cache

from audit_core.s3 import open_bucket
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.memory import MemoryStore
from audit_core.stores.s3 import S3AuditStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.urls import open_url
from tests.attacks.attacker import UNIQUE_EVENTS, Loot, put_back, superuser
from tests.postgres.server import new_database, shared
from tests.s3.server import new_place

TABLES = ("memory", "sqlite", "postgres")  # whose rows an attacker edits one by one
STORES = (*TABLES, "s3")


@contextmanager
def empty_store(kind, tmp_path):
    """Made already; on PostgreSQL all tests share one database, which is emptied first."""
    store = (
        _emptied(_database(os.environ.get("AUDIT_TEST_POSTGRES") or shared().url))
        if kind == "postgres"
        else _made(kind, tmp_path)
    )
    yield store
    store.close()


def _made(kind, tmp_path):
    if kind == "s3":
        bucket, prefix = open_bucket(new_place())
        return S3AuditStore(bucket, prefix, mirror=tmp_path / "mirror.db")
    store = MemoryStore() if kind == "memory" else SqliteStore(SqliteDatabase(tmp_path / "trail.db"))
    store.create()
    return store


def spoil():
    """The schema is not what it was: the next test gets another database."""
    _database.cache_clear()


@cache
def _database(server):
    """On this server: one that is full gives way to another."""
    url = new_database(url=server)
    store = open_url(url).store
    store.create()
    store.close()
    return url


def _emptied(url):
    store = open_url(url).store
    with superuser(store) as connection:
        connection.execute("DELETE FROM audit.audit_events")
        connection.execute("DELETE FROM audit.audit_private")
        connection.execute(UNIQUE_EVENTS)
    put_back(store, Loot([], []))
    return store
