"""The contracts of stores and outboxes, fulfilled by PostgreSQL."""

import psycopg
import pytest

from audit_core.testing import TransactionalOutboxContract, TransactionalStoreContract
from audit_core.urls import open_url
from tests.postgres.server import VERSIONS, copy_of, make_trail


@pytest.fixture(params=VERSIONS, autouse=True)
def version(request):
    return request.param


class TestPostgresStore(TransactionalStoreContract):
    @pytest.fixture(autouse=True)
    def _version(self, version):
        self.version = version

    def make_store(self, path):
        return open_url(copy_of(make_trail, self.version)).store


class TestPostgresOutbox(TransactionalOutboxContract):
    @pytest.fixture(autouse=True)
    def _version(self, version):
        self.version = version

    def make_outbox(self, path):
        return open_url(copy_of(make_trail, self.version)).outbox

    def connect(self, outbox):
        return psycopg.connect(outbox.database.conninfo)
