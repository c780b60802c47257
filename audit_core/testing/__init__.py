"""What tests need: what was recorded while they ran, and contracts.

Contracts that every store and every outbox fulfils, as tests: subclass one, and say how to make yours.

class TestMyStore(TransactionalStoreContract):
    def make_store(self, path): return MyStore(...)
"""

from importlib.util import find_spec

from audit_core.testing.making import ORIGIN, make_chain, make_event, seal
from audit_core.testing.recording import Recorded, recording

if find_spec("pytest"):  # Django's own test runner can do without
    import pytest

    # Only from here on does a contract that fails show what it compared.
    pytest.register_assert_rewrite("audit_core.testing.stores", "audit_core.testing.outboxes")
    from audit_core.testing.outboxes import OutboxContract, TransactionalOutboxContract
    from audit_core.testing.stores import StoreContract, TransactionalStoreContract

__all__ = [
    "ORIGIN",
    "OutboxContract",
    "Recorded",
    "StoreContract",
    "TransactionalOutboxContract",
    "TransactionalStoreContract",
    "make_chain",
    "make_event",
    "recording",
    "seal",
]
