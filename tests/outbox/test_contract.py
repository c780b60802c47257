import sqlite3
from types import SimpleNamespace

from audit_core.outbox.memory import MemoryOutbox
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.sqlite import SqliteDatabase
from audit_core.testing import OutboxContract, TransactionalOutboxContract


class TestSqliteOutbox(TransactionalOutboxContract):
    def make_outbox(self, path):
        return SqliteOutbox(SqliteDatabase(path / "app.db"))

    def connect(self, outbox):
        return sqlite3.connect(outbox.database.path)


class TestMemoryOutbox(OutboxContract):
    def make_outbox(self, path):
        return MemoryOutbox()

    def connect(self, outbox):
        return SimpleNamespace(commit=lambda: None, close=lambda: None)
