"""Contracts that every store and every outbox fulfils, as tests: subclass one, and say how to make yours.

class TestMyStore(TransactionalStoreContract):
    def make_store(self, path): return MyStore(...)
"""

import pytest

pytest.register_assert_rewrite("audit_core.testing.stores", "audit_core.testing.outboxes")

# Only from here on does a contract that fails show what it compared.
from audit_core.testing.making import ORIGIN, make_chain, make_event, seal  # noqa: E402
from audit_core.testing.outboxes import OutboxContract, TransactionalOutboxContract  # noqa: E402
from audit_core.testing.stores import StoreContract, TransactionalStoreContract  # noqa: E402

__all__ = [
    "ORIGIN",
    "OutboxContract",
    "StoreContract",
    "TransactionalOutboxContract",
    "TransactionalStoreContract",
    "make_chain",
    "make_event",
    "seal",
]
