from audit_core.sqlite import SqliteDatabase
from audit_core.stores.memory import MemoryStore
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import StoreContract, TransactionalStoreContract


class TestSqliteStore(TransactionalStoreContract):
    def make_store(self, path):
        return SqliteStore(SqliteDatabase(path / "trail.db"))


class TestMemoryStore(StoreContract):
    def make_store(self, path):
        return MemoryStore()
