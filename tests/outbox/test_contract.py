import sqlite3

from audit_core.outbox.memory import MemoryOutbox
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.sqlite import SqliteDatabase
from audit_core.testing import OutboxContract, TransactionalOutboxContract


class TestSqliteOutbox(TransactionalOutboxContract):
    def make_outbox(self, path):
        return SqliteOutbox(SqliteDatabase(path / "app.db"))

    def connect(self, outbox):
        return sqlite3.connect(outbox.database.path)

    def test_another_database_is_not_its_own(self, outbox, tmp_path):
        other = sqlite3.connect(tmp_path / "other.db")
        assert not outbox.owns(other)
        other.close()


class TestMemoryOutbox(OutboxContract):
    def make_outbox(self, path):
        return MemoryOutbox()
