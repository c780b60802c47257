import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.triggers import install
from tests.postgres.server import copy_of, make_trail


class Database:
    """A database with a trail, and a connection that speaks raw SQL."""

    def __init__(self, version):
        self.url = copy_of(make_trail, version)
        self.trail = AuditTrail(self.url, lifecycle=False)
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.run, self.transaction = self.connection.execute, self.connection.transaction

    def make(self, script, *tables, **options):
        """Make tables, and install the triggers of all."""
        self.run(script)
        with self.transaction():
            install(self.connection, tables, **options)

    def events(self):
        """What was recorded, sealed and verified."""
        self.trail.flush()
        found = self.trail.chain.verify()
        assert found.findings == ()
        return [event for event in self.trail.events(newest_first=False) if event.action != "log.created"]

    def told(self):
        return [(event.action, event.resource_id, event.details.get("changes")) for event in self.events()]

    def actions(self):
        return [(event.resource_type, event.action, event.resource_id) for event in self.events()]


@pytest.fixture(params=[18, pytest.param(16, marks=pytest.mark.long)])
def db(state, request):
    made = Database(request.param)
    yield made
    made.connection.close()
    made.trail.close()


@pytest.fixture
def patients(db):
    db.make("CREATE TABLE patient (id int PRIMARY KEY, name text)")
    return db
