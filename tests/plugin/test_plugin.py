"""The pytest plugin, in runs of pytest that are not ours."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import warm
from tests.postgres.server import shared

ROOT = Path(__file__).parents[2]
PRELOADED = (  # neither the plugin itself nor what needs settings
    "audit_core.orm.sqlalchemy",
    "audit_core.stores.sqlite",
    "audit_django.middleware",
    "audit_fastapi",
    "django.core.management.commands.migrate",
    "django.test.client",
    "django.test.runner",
    "pytest",
    "starlette.testclient",
)
INI = """
[pytest]
filterwarnings =
    error
    ignore:Using `httpx` with `starlette.testclient` is deprecated
"""


@pytest.fixture
def run(tmp_path):
    """Runs pytest, with the plugin as if it were installed, over a test file and more files."""

    def run(code, *arguments, preloaded=PRELOADED, **environment):
        (tmp_path / "test_it.py").write_text(code)
        (tmp_path / "pytest.ini").write_text(INI)
        command = ["-m", "pytest", "-p", "pytest_audit_core", "-p", "no:cacheprovider", *arguments]
        usual = {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "AUDIT_STATE_DIR": str(tmp_path / "state")}
        usual["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to load them all takes longer than most of these runs
        usual["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path)  # it shuts the folder of all others' to other users
        return warm.run(command, preloaded, cwd=tmp_path, env={**os.environ, **usual, **environment})

    return run


def passes(result, tests):
    assert f"{tests} passed" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 0


PLAIN = """
import threading
from audit_core import AuditTrail

trail = AuditTrail("memory:")

def test_what_is_recorded(audit_events):
    with trail.actor("dr-ada"):
        event = trail.record("invoice.approve", resource=("invoice", 42), details={"total": "99.00"})
    assert list(audit_events) == [event]
    for resource in ("invoice:42", ("invoice", 42), "invoice", None):
        assert audit_events.assert_recorded("invoice.approve", resource, actor="dr-ada") is audit_events[-1]

def test_each_test_sees_its_own(audit_events):
    assert not audit_events
    trail.submit("night.begins").result()
    audit_events.clear()
    other = AuditTrail("memory:")
    thread = threading.Thread(target=other.record, args=["day.begins"])
    thread.start()
    thread.join()
    assert [event.action for event in audit_events] == ["day.begins"]
    other.close()

def test_the_end():
    trail.close()
"""


def test_what_a_test_records_by_any_trail_and_in_any_thread_is_collected(run):
    passes(run(PLAIN), 3)


FAILING = """
from audit_core import AuditTrail

def test_it(audit_events):
    with AuditTrail("memory:", lifecycle=False) as trail:
        trail.record("invoice.approve", resource="invoice:41", outcome="denied", details={"total": "99.00"})
        audit_events.assert_recorded("invoice.approve", "invoice:42", actor="dr-ada", changes={"total": (1, None)})

def test_nothing(audit_events):
    audit_events.assert_recorded("invoice.approve")
"""


def test_a_failure_shows_what_was_asked_for_and_what_there_was(run):
    output = run(FAILING).stdout
    assert "no event 'invoice.approve' of invoice:42 by dr-ada with total: 1 -> None, but 1 recorded:" in output
    assert "'invoice.approve' of invoice:41 by system (denied) {'total': '99.00'}" in output
    assert "There is no event 'invoice.approve', but nothing recorded" in output


SQLALCHEMY = """
import pytest
from decimal import Decimal
from sqlalchemy import Numeric, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor

class Base(DeclarativeBase): ...

class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    password: Mapped[str | None]

@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = create_engine(f"sqlite:///{tmp_path_factory.mktemp('app')}/app.db")
    # What SQLAlchemy's documentation says of savepoints on SQLite.
    event.listen(engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
    yield engine
    engine.dispose()

@pytest.fixture(scope="module")
def factory(engine):
    factory = sessionmaker()
    with AuditTrail(str(engine.url)) as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        yield factory
        assert not list(trail.events(action="create")), "nothing was committed"

@pytest.fixture
def session(engine, factory):
    with engine.connect() as connection:
        transaction = connection.begin()
        with factory(bind=connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()

def test_inside_of_a_transaction_that_never_commits(session, audit_events):
    session.add(Invoice(id=42, total=Decimal("99.00"), password="secret"))
    session.commit()
    session.get(Invoice, 42).total += 1
    session.commit()
    audit_events.assert_recorded("create", "invoice:42", changes={"total": (None, Decimal("99.00"))})
    audit_events.assert_recorded("update", "invoice", changes={"total": ("99.00", Decimal("100.00"))})
    assert len(audit_events) == 2

def test_what_is_undone_was_not_recorded(session, audit_events):
    session.add(Invoice(id=1, total=1))
    session.flush()
    with session.begin_nested():
        session.add(Invoice(id=2, total=1))
        session.flush()
        inner = session.begin_nested()
        session.add(Invoice(id=3, total=1))
        session.flush()
        inner.rollback()
    session.add(Invoice(id=4, total=1))
    session.flush()
    assert [event.resource_id for event in audit_events] == ["1", "2", "4"]
    session.rollback()
    assert not audit_events
    session.add(Invoice(id=5, total=1))
    session.commit()
    session.rollback()
    audit_events.assert_recorded("create", "invoice:5")
"""


def test_a_sqlalchemy_suite_that_rolls_back_each_test_sees_what_was_recorded_and_not_undone(run):
    passes(run(SQLALCHEMY), 2)


ASYNC = """
import asyncio
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from audit_core import AuditTrail
from audit_core.orm.sqlalchemy import SQLAlchemyAuditor

class Base(DeclarativeBase): ...

class Room(Base):
    __tablename__ = "room"
    id: Mapped[int] = mapped_column(primary_key=True)

async def work(url):
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    factory = async_sessionmaker(engine)
    with AuditTrail("memory:") as trail:
        SQLAlchemyAuditor(trail).attach(factory)
        async with factory() as session:
            session.add(Room(id=1))
            await session.commit()
            session.add(Room(id=2))
            await session.flush()
            await session.rollback()
    await engine.dispose()

def test_it(tmp_path, audit_events):
    asyncio.run(work(f"sqlite+aiosqlite:///{tmp_path}/app.db"))
    audit_events.assert_recorded("create", "room:1")
    assert len(audit_events) == 1
"""


def test_an_asynchronous_session_is_seen_too(run):
    passes(run(ASYNC), 1)


FASTAPI = """
import pytest
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from audit_core import AuditTrail, set_actor
from audit_fastapi import AuditMiddleware

trail = AuditTrail("memory:")
app = FastAPI()
app.add_middleware(AuditMiddleware, trail=trail)

@app.post("/invoices/{invoice_id}/approval")
async def approve(invoice_id: int):
    set_actor("dr-ada")
    if invoice_id == 1:
        raise HTTPException(403)

@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client

@pytest.mark.parametrize("number", [42, 43])
def test_requests(client, audit_events, number):
    client.post(f"/invoices/{number}/approval")
    audit_events.assert_recorded("POST /invoices/{invoice_id}/approval", ("invoice", number), actor="dr-ada")
    assert client.post("/invoices/1/approval").status_code == 403
    event = audit_events.assert_recorded("POST /invoices/{invoice_id}/approval", "invoice:1")
    assert event.outcome == "denied"
    assert len(audit_events) == 2
"""


def test_the_requests_of_a_test_client_are_seen(run):
    passes(run(FASTAPI), 2)


DJANGO = """
import asyncio
import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase, TransactionTestCase
from tests.django.clinic.models import Note, Patient, Room

@pytest.mark.django_db
def test_inside_of_a_transaction_that_never_commits(audit_events, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        Patient.objects.create(name="Ada")
        Patient.objects.update(name="Grace")
    audit_events.assert_recorded("create", "patient", changes={"name": (None, "Ada")})
    audit_events.assert_recorded("update", "patient", changes={"name": ("Ada", "Grace")}, actor=None)
    assert callbacks == []

@pytest.mark.django_db
def test_what_is_undone_was_not_recorded(audit_events):
    undo()
    assert [event.resource_id for event in audit_events] == ["1", "3"]

@pytest.mark.django_db(transaction=True)
def test_in_real_transactions_too(audit_events):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Room.objects.create(number="0")
        1 / 0
    undo()
    assert [event.resource_id for event in audit_events] == ["1", "3"]
    asyncio.run(Room.objects.acreate(number="4"))
    audit_events.assert_recorded("create", "room:4")
    audit_events.clear()
    with pytest.raises(IntegrityError):
        Note.objects.create(patient_id=4711)
    assert not audit_events, "the COMMIT has failed"

def undo():
    with transaction.atomic():
        Room.objects.create(number="1")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Room.objects.create(number="2")
            1 / 0
        Room.objects.create(number="3")

class TestUnittest(TestCase):
    @pytest.fixture(autouse=True)
    def _events(self, audit_events):
        self.audit_events = audit_events

    def test_a_class(self):
        with self.assertNumQueries(1):
            Room.objects.create(number="5")
        self.client.post("/patients/")
        self.audit_events.assert_recorded("create", "room:5")
        self.audit_events.assert_recorded("POST /patients/")
"""


@pytest.mark.parametrize(
    ("options", "memory"), [(["-n2"], False), (["--reuse-db"], False), pytest.param([], True, marks=pytest.mark.long)]
)
def test_a_django_suite_sees_what_was_recorded_and_not_undone(run, tmp_path, options, memory):
    environment = {"DJANGO_SETTINGS_MODULE": "tests.django.settings", "AUDIT_TEST_FOLDER": str(tmp_path / "databases")}
    (tmp_path / "databases").mkdir()
    if memory:
        environment["AUDIT_TEST_MEMORY"] = "1"
    for _ in range(2 if options == ["--reuse-db"] else 1):
        passes(run(DJANGO, "-p", "pytest_django.plugin", "-p", "xdist.plugin", *options, **environment), 4)


@pytest.mark.parametrize("memory", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_django_suite_on_postgresql_sees_the_same(run, tmp_path, memory):
    environment = {"DJANGO_SETTINGS_MODULE": "tests.django.postgres_settings", "AUDIT_TEST_FOLDER": str(tmp_path)}
    environment["AUDIT_TEST_POSTGRES"] = os.environ.get("AUDIT_TEST_POSTGRES") or shared().url
    environment["AUDIT_TEST_DATABASE"] = f"plugin_{os.getpid()}"
    if memory:
        environment["AUDIT_TEST_MEMORY"] = "1"
    # A thread of asyncio's keeps its connection, and with it the database that is to be dropped.
    code = DJANGO.replace('asyncio.run(Room.objects.acreate(number="4"))', 'Room.objects.create(number="4")')
    passes(run(code, "-p", "pytest_django.plugin", **environment), 4)


RUNNER = """
from django.test import TestCase
from audit_core.testing import recording
from tests.django.clinic.models import Room

class Rooms(TestCase):
    def test_it(self):
        with recording() as events:
            Room.objects.create(number="1")
        Room.objects.create(number="2")
        assert len(events) == 1
        events.assert_recorded("create", "room:1")
"""


def test_djangos_own_runner_has_the_same_in_a_block_and_needs_no_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text(RUNNER)
    (tmp_path / "pytest").mkdir()
    hide = "import sys; sys.modules['pytest'] = None; sys.argv = ['manage.py', 'test', sys.argv[1], '-v0']\n"
    hide += "import importlib.util; find = importlib.util.find_spec\n"
    hide += "importlib.util.find_spec = lambda name, *more: None if name == 'pytest' else find(name, *more)\n"
    code = hide + "from django.core.management import execute_from_command_line as run; run()"
    environment = {"DJANGO_SETTINGS_MODULE": "tests.django.settings", "AUDIT_TEST_FOLDER": str(tmp_path)}
    usual = {**os.environ, "PYTHONPATH": str(ROOT), "AUDIT_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**usual, **environment}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr


UNUSED = """
import sys

def test_it(request):
    assert request.config.pluginmanager.has_plugin("pytest_audit_core")
    packages = ("audit_core", "audit_django", "audit_fastapi", "audit_flask", "django", "sqlalchemy")
    assert not [name for name in packages if name in sys.modules]
"""


def test_a_suite_that_does_not_use_it_loads_nothing_of_ours(run):
    passes(run(UNUSED, preloaded=()), 1)


def test_the_distribution_announces_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_audit_core": "pytest_audit_core"}
    assert "pytest_audit_core.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
