"""The project on PostgreSQL: what it does there as on SQLite, and what only a server asks for."""

import itertools
import os
import subprocess
import time
from contextlib import closing

import psycopg
import pytest

from tests.django.projects import Project
from tests.django.test_project import SUITE
from tests.postgres.server import as_role, shared

SETTINGS = "tests.django.postgres_settings"
ALIASES = ("default", "other")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server():
    return os.environ.get("AUDIT_TEST_POSTGRES") or shared().url


@pytest.fixture
def make_project(tmp_path, server, request):
    """Makes a project with its two databases, empty or as copies of others."""
    made = []

    def make(prefix, templates=None):
        with psycopg.connect(server, autocommit=True) as connection:
            for alias in ALIASES:
                template = f"{templates}_{alias}" if templates else "template1"
                connection.execute(f"CREATE DATABASE {prefix}_{alias} TEMPLATE {template}")
        made.append(prefix)
        return project_on(server, prefix, tmp_path)

    yield make
    drop(server, made)


def project_on(server, prefix, folder):
    project = Project(folder, DJANGO_SETTINGS_MODULE=SETTINGS, AUDIT_TEST_POSTGRES=server, AUDIT_TEST_DATABASE=prefix)
    project.urls = {alias: server.replace("/postgres?", f"/{prefix}_{alias}?") for alias in ALIASES}
    project.prefix = prefix
    return project


def drop(server, prefixes):
    with psycopg.connect(server, autocommit=True) as connection:
        for prefix in prefixes:
            for alias in ALIASES:
                connection.execute(f"DROP DATABASE {prefix}_{alias} WITH (FORCE)")


def new_prefix():
    return f"clinic_{os.getpid()}_{next(_numbers)}"


@pytest.fixture
def project(make_project):
    return make_project(new_prefix())


@pytest.fixture(scope="module")
def template(server, tmp_path_factory):
    """The prefix of two databases that are migrated."""
    prefix = new_prefix()
    with psycopg.connect(server, autocommit=True) as connection:
        for alias in ALIASES:
            connection.execute(f"CREATE DATABASE {prefix}_{alias}")
    migrate(project_on(server, prefix, tmp_path_factory.mktemp("template")))
    yield prefix
    drop(server, [prefix])


@pytest.fixture
def migrated(make_project, template):
    return make_project(new_prefix(), template)


def migrate(project):
    for alias in ALIASES:
        project.manage("migrate", "--run-syncdb", "-v0", f"--database={alias}")


def ask(project, query, alias="default"):
    with closing(psycopg.connect(project.urls[alias], autocommit=True)) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else None


def tables(project, alias):
    found = ask(project, "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('audit')", alias)
    return {name for (name,) in found if name in {"audit_outbox", "audit_events", "audit_checkpoints"}}


NOT_OF_THE_DATABASE = "not (template or name_the_resource or secret or file or vary or proxy or expressions)"


@pytest.mark.timeout(620)
def test_the_list_holds_on_postgresql_line_by_line(project):
    project.pytest("tests/django/test_the_list.py", timeout=600)


@pytest.mark.timeout(620)
@pytest.mark.long
@pytest.mark.parametrize("options", ["plain", "pool"])
def test_what_holds_on_sqlite_holds_on_postgresql(project, options):
    chosen = (
        NOT_OF_THE_DATABASE
        if options == "plain"
        else "savepoint or rollback or other_database or login or async or refuse"
    )
    project.environment["AUDIT_TEST_OPTIONS"] = options
    names = ("capture", "bulk", "links", "program", "values", "surroundings", "requests")
    files = [f"tests/django/test_{name}.py" for name in names]
    project.pytest("-x", *files, "-k", chosen, timeout=600)


# -- migrations


def test_migrate_makes_the_trail_here_and_the_outbox_there_and_may_be_repeated(project):
    migrate(project)
    assert tables(project, "default") == {"audit_outbox", "audit_events", "audit_checkpoints"}
    assert tables(project, "other") == {"audit_outbox"}
    project.manage("migrate", "audit_django", "zero", "-v0")
    migrate(project)
    ask(project, "DROP TABLE audit.audit_outbox")
    ask(project, "DELETE FROM django_migrations WHERE app = 'audit_django'")
    migrate(project)
    assert "audit_outbox" in tables(project, "default")


def test_the_migration_makes_what_the_core_makes(migrated):
    found = migrated.script(
        "from audit_django import get_trail\nprint([*get_trail().store.check_schema()])\n"
        "from audit_core import AuditTrail\nprint(len(get_trail().outboxes))"
    )
    assert found.stdout == "[]\n2\n"


def test_a_migration_that_fails_leaves_nothing(project):
    ask(project, "CREATE SCHEMA audit; CREATE TABLE audit.audit_checkpoints (x int)")
    assert project.manage("migrate", "audit_django", check=False).returncode != 0
    assert tables(project, "default") == {"audit_checkpoints"}


def test_sqlmigrate_shows_all_of_the_sql_whatever_is_there(project):
    for _ in range(2):
        shown = project.manage("sqlmigrate", "audit_django", "0001").stdout
        assert 'CREATE TABLE "audit".audit_events (' in shown
        assert "RAISE EXCEPTION '% is append-only'" in shown
        assert 'CREATE TABLE IF NOT EXISTS "audit".audit_outbox' in shown
        project.manage("migrate", "audit_django", "-v0")


def test_a_role_that_may_not_make_the_schema_is_told_so_in_one_sentence(project):
    with psycopg.connect(project.urls["default"], autocommit=True) as connection:
        connection.execute("DO $$ BEGIN CREATE ROLE audit_guest; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        connection.execute("GRANT ALL ON SCHEMA public TO audit_guest")
    as_role(project.urls["default"], "audit_guest")
    result = project.manage("migrate", "-v0", check=False, AUDIT_TEST_USER="audit_guest_login")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "GRANT CREATE ON DATABASE" in result.stderr
    assert tables(project, "default") == set()


# -- checks and commands


def test_check_finds_what_is_missing_and_a_role_that_may_not_insert(migrated):
    assert "audit.E" not in migrated.manage("check", "--database=default", "--database=other").stderr
    ask(migrated, "DROP TABLE audit.audit_outbox", "other")
    ask(migrated, "CREATE ROLE audit_nobody; GRANT SELECT ON django_migrations TO audit_nobody")
    as_role(migrated.urls["default"], "audit_nobody")
    try:
        lost = migrated.manage("check", "--database=other", check=False)
        assert "audit.E002" in lost.stderr
        refused = migrated.manage("check", "--database=default", check=False, AUDIT_TEST_USER="audit_nobody_login")
        assert "audit.E004" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        ask(migrated, "DROP OWNED BY audit_nobody; DROP ROLE audit_nobody_login; DROP ROLE audit_nobody")


def test_check_finds_that_nothing_can_be_sealed_for_want_of_its_lock(migrated):
    ask(migrated, "DROP TABLE audit.audit_lock")
    lost = migrated.manage("check", "--database=default", check=False)
    assert "audit.E006" in lost.stderr
    assert "lacks audit_lock" in lost.stderr
    assert "Traceback" not in lost.stderr
    migrated.manage("audit", "init")
    assert "audit.E" not in migrated.manage("check", "--database=default").stderr


def test_check_finds_a_role_that_may_add_to_the_trail_and_not_lock_its_sealing(migrated):
    ask(
        migrated,
        "CREATE ROLE audit_lockless; GRANT SELECT ON django_migrations TO audit_lockless; "
        "GRANT USAGE ON SCHEMA audit TO audit_lockless; "
        "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA audit TO audit_lockless",
    )
    as_role(migrated.urls["default"], "audit_lockless")
    try:
        refused = migrated.manage("check", "--database=default", check=False, AUDIT_TEST_USER="audit_lockless_login")
        assert refused.returncode == 1
        assert "audit.E007) " in refused.stderr
        assert "not lock audit_lock" in refused.stderr
        assert "Traceback" not in refused.stderr
    finally:
        ask(migrated, "DROP OWNED BY audit_lockless; DROP ROLE audit_lockless_login; DROP ROLE audit_lockless")


def test_check_finds_that_the_key_is_another(migrated):
    migrated.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
    another = str(migrated.folder / "another")
    assert "audit.W004" in migrated.manage("check", "--database=default", AUDIT_STATE_DIR=another).stderr
    assert "audit.W004" not in migrated.manage("check", "--database=default").stderr


def test_the_commands(migrated):
    migrated.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
    assert "postgresql" in migrated.manage("audit", "status").stdout
    assert "doctor" not in migrated.manage("audit", "seal").stderr
    assert migrated.manage("audit", "verify", check=False).returncode == 3  # unanchored
    assert "create" in migrated.manage("audit", "report", "access", "room:7").stdout
    assert "audit_events_default" in migrated.manage("audit", "partitions").stdout
    assert "WRONG" not in migrated.manage("audit", "doctor").stdout
    assert 'CREATE TABLE "audit".audit_events (' in migrated.manage("audit", "init", "--sql").stdout


@pytest.mark.parametrize("command", ["status", "verify", "seal"])
def test_a_command_says_in_one_sentence_that_there_is_no_trail_or_no_server(project, command):
    shown = project.manage("audit", command, check=False)
    assert (shown.returncode, shown.stdout, len(shown.stderr.splitlines())) == (2, "", 1), shown.stderr
    assert "manage.py migrate" in shown.stderr
    gone = f"host={project.folder} user=x dbname=postgres"
    shown = project.manage("audit", command, check=False, AUDIT_TEST_POSTGRES=gone)
    assert (shown.returncode, shown.stdout, len(shown.stderr.splitlines())) == (2, "", 1), shown.stderr


def test_a_sealer_of_its_own_seals_and_ends_when_it_is_told(migrated):
    sealer = migrated.start("-m", "django", "audit", "seal", "--follow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        ask(migrated, "INSERT INTO audit.audit_outbox (event) VALUES ('by hand')")
        deadline = time.monotonic() + 20
        while ask(migrated, "SELECT 1 FROM audit.audit_outbox") and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        sealer.terminate()
        _, errors = sealer.communicate(timeout=30)
    assert "Traceback" not in errors
    assert ask(migrated, "SELECT action FROM audit.audit_events ORDER BY sequence LIMIT 2") == [
        ("log.created",), ("outbox.unreadable",),
    ]  # fmt: skip


# -- processes

FOLLOWING = """
import time
from django.db import transaction
from audit_django import get_trail
from tests.django.clinic.models import Room

def sealed_after(number):
    began = time.monotonic()
    while not [e for e in get_trail().events(resource=("room", number)) if e.sealed]: time.sleep(0.01)
    return time.monotonic() - began

Room.objects.create(number="first")
sealed_after("first")
with transaction.atomic():
    Room.objects.create(number="slow")
    time.sleep(0.06)
print(sealed_after("slow") < 1, flush=True)
"""


def test_a_change_is_sealed_soon_after_its_commit(migrated):
    assert migrated.script(FOLLOWING).stdout == "True\n"


FORKING = """
import os
from audit_django import get_trail
from django.db import connections
from tests.django.clinic.models import Room
Room.objects.create(number="parent")
get_trail().flush()
connections.close_all()
children = []
for number in range(3):
    if not (child := os.fork()):
        Room.objects.create(number=f"child-{number}")
        get_trail().record("child.worked")
        get_trail().close()
        os._exit(0)
    children.append(child)
for child in children: assert os.waitpid(child, 0)[1] == 0
Room.objects.create(number="after")
get_trail().flush()
"""


def test_after_a_fork_every_process_seals_for_itself(migrated):
    migrated.script(FORKING)
    events = migrated.events()
    assert sorted(key for action, key, sealed in events if action == "create" and sealed == "True") == [
        "after", "child-0", "child-1", "child-2", "parent",
    ]  # fmt: skip
    assert [event[0] for event in events].count("child.worked") == 3


OUTSIDE = """
from django.conf import settings
from audit_core.errors import ConfigurationError
settings.AUDIT = {"URL": "%s"}
from audit_django import get_trail
from tests.django.clinic.models import Room
Room.objects.create(number="1")
Room.objects.using("other").create(number="2")
get_trail().flush()
print(sorted((e.resource_id, e.sealed) for e in get_trail().events(action="create")), len(get_trail().outboxes))
"""


def test_the_trail_may_lie_in_a_database_of_its_own(migrated):
    ask(migrated, f"CREATE DATABASE {migrated.prefix}_trail")
    url = migrated.urls["default"].replace("_default?", "_trail?")
    try:
        assert migrated.script(OUTSIDE % url).stdout == "[('1', True), ('2', True)] 3\n"
    finally:
        with psycopg.connect(migrated.urls["default"], autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {migrated.prefix}_trail WITH (FORCE)")


def test_a_url_of_its_own_may_name_the_default_database(migrated):
    assert migrated.script(OUTSIDE % migrated.urls["default"]).stdout == "[('1', True), ('2', True)] 2\n"


def test_the_trail_may_lie_in_a_file(migrated):
    assert migrated.script(OUTSIDE % f"sqlite:///{migrated.folder}/t.db").stdout == "[('1', True), ('2', True)] 3\n"


def test_another_database_may_be_sqlite(migrated):
    (migrated.folder / "mixed.py").write_text(
        "from tests.django.postgres_settings import *\nfrom tests.django.settings import _database\n"
        "DATABASES['other'] = _database('other')\n"
    )
    migrated.environment["PYTHONPATH"] += f"{os.pathsep}{migrated.folder}"
    migrated.environment["DJANGO_SETTINGS_MODULE"] = "mixed"
    migrate(migrated)
    code = OUTSIDE.replace('settings.AUDIT = {"URL": "%s"}', "")
    assert migrated.script(code).stdout == "[('1', True), ('2', True)] 2\n"


def test_a_database_without_outbox_is_told_with_its_cure(project):
    ask(project, "CREATE TABLE clinic_room (number varchar(10) PRIMARY KEY, beds int NOT NULL)")
    shown = project.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')", check=False)
    assert "run `manage.py migrate" in shown.stderr
    assert ask(project, "SELECT count(*) FROM clinic_room") == [(0,)]


BROKEN = """
from django.db import DatabaseError, transaction
from tests.django.clinic.models import Room
try:
    with transaction.atomic():
        try:
            Room.objects.raw("SELECT 1 / 0 AS number")[0]
        except DatabaseError:
            pass
        Room.objects.create(number="7")
except Exception as error:
    print(type(error).__module__, type(error).__name__)
Room.objects.create(number="8")
try:
    with transaction.atomic():
        Room.objects.filter(number="8").first().save()
        Room.objects.raw("SELECT 1 / 0 AS number")[0]
except Exception as error:
    print(type(error).__name__, error.__cause__ and type(error.__cause__).__name__)
"""


def test_a_failed_transaction_is_told_as_django_tells_it(migrated):
    assert migrated.script(BROKEN).stdout == "django.db.utils InternalError\nDataError DivisionByZero\n"


TOGETHER = """
import threading, time
from django.db import connection, transaction
from audit_django import get_trail
from tests.django.clinic.models import Room, Surgeon
Room.objects.create(number="7", beds=1)
surgeon = Surgeon.objects.create(name="first")
written = threading.Event()

def first():
    with transaction.atomic():
        Room(number="7", beds=2).save()
        Surgeon(pk=surgeon.pk, name="second").save()
        written.set()
        time.sleep(0.3)
    connection.close()

thread = threading.Thread(target=first)
thread.start()
written.wait()
Room(number="7", beds=3).save()
Surgeon(pk=surgeon.pk, name="third").save()
thread.join()
for event in get_trail().events(action="update", newest_first=False):
    change = event.details["changes"].get("beds") or event.details["changes"]["name"]
    print(event.resource_type, change["old"], change["new"])
"""


def test_the_old_value_is_the_one_that_was_replaced_whoever_else_writes_the_row(migrated):
    assert sorted(migrated.script(TOGETHER).stdout.splitlines()) == [
        "room 1 2", "room 2 3", "surgeon first second", "surgeon second third",
    ]  # fmt: skip


SERIALIZABLE = """
from audit_core.outbox.postgres import PostgresOutbox
from audit_core.errors import StoreUnavailableError
from django.db import OperationalError, transaction
from tests.django.clinic.models import Room
import psycopg

def refuse(self, events, connection):
    error = psycopg.errors.SerializationFailure("could not serialize access")
    raise StoreUnavailableError("told") from error

PostgresOutbox.put_json = refuse
try:
    Room.objects.create(number="7")
except OperationalError as error:
    print(error, type(error.__cause__).__name__, Room.objects.count())
"""


def test_a_transaction_that_the_server_takes_back_is_the_applications_to_try_again(migrated):
    assert migrated.script(SERIALIZABLE).stdout == "could not serialize access SerializationFailure 0\n"


REQUESTS = """
from django.test import Client
from tests.django.clinic.models import Patient
Patient.objects.create(name="Ada")
client = Client(raise_request_exception=False)
paths = ("/patients/?name=Eve", "/boom/", "/read-then-write/", "/rolled-back/")
print([client.post(path).status_code for path in paths])
print(Patient.objects.count())
from audit_django import get_trail
get_trail().flush()
"""


def test_with_atomic_requests_a_failed_view_leaves_its_request_and_no_change(migrated):
    migrated.environment["AUDIT_TEST_ATOMIC"] = "1"
    assert migrated.script(REQUESTS).stdout == "[201, 500, 200, 409]\n2\n"
    actions = [action for action, _, sealed in (event for event in migrated.events() if len(event) == 3)]
    assert sorted(action for action in actions if not action.startswith(("log.", "trail."))) == [
        "create", "create", "update",
    ]  # fmt: skip


# -- the user's own tests


@pytest.mark.parametrize(
    ("options", "memory"),
    [
        (["--parallel=2"], False),
        (["--keepdb"], False),
        *(pytest.param([], memory, marks=pytest.mark.long) for memory in (True, False)),
    ],
)
def test_djangos_test_runner_works_as_before(project, tmp_path, memory, options):
    if memory:
        project.environment["AUDIT_TEST_MEMORY"] = "1"
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_it.py").write_text(SUITE)
    for _ in range(2 if "--keepdb" in options else 1):
        result = project.manage("test", str(suite), *options)
        assert "OK" in result.stderr
        assert "audit_core" not in result.stderr
        assert "System check identified no issues" in result.stdout + result.stderr
    left = [name for (name,) in ask(project, "SELECT datname FROM pg_database") if project.prefix in name]
    for name in [name for name in left if name.startswith("test_") and "--keepdb" in options]:
        ask(project, f"DROP DATABASE {name}")
        left.remove(name)
    assert sorted(left) == sorted(f"{project.prefix}_{alias}" for alias in ALIASES), "no test database is left"
    assert tables(project, "default") == set(), "the real trail was not touched"


@pytest.mark.parametrize(
    "options", [["-n2"], *(pytest.param([one], marks=pytest.mark.long) for one in ("--nomigrations", "--reuse-db"))]
)
def test_pytest_django_works_as_before(project, tmp_path, options):
    (tmp_path / "test_it.py").write_text(SUITE)
    for _ in range(2 if options == ["--reuse-db"] else 1):
        project.pytest(*options, f"--rootdir={tmp_path}", str(tmp_path))
    assert tables(project, "default") == set()
    for name in [
        name for (name,) in ask(project, "SELECT datname FROM pg_database") if f"test_{project.prefix}" in name
    ]:
        assert options == ["--reuse-db"], "no test database is left"
        ask(project, f"DROP DATABASE {name}")  # refused while anybody is connected


def test_audit_check_says_what_no_trigger_tells_and_finds_a_database_without_an_outbox(project):
    project.manage("migrate", "--run-syncdb", "-v0")
    shown = project.manage("audit", "check", check=False)
    assert shown.returncode == 1
    assert "WRONG The database 'other' has no outbox, and its changes fail" in shown.stdout
    project.manage("migrate", "--run-syncdb", "-v0", "--database=other")
    project.manage("audit", "triggers", "install", "--database=other", "--tables=clinic.Room")
    with psycopg.connect(project.urls["other"], autocommit=True) as connection:
        shown = project.manage("audit", "check", check=False).stdout
        assert "'other': Each change of public.clinic_room leaves two events" in shown, "the hooks tell of it, too"
        on_other = next(line for line in shown.splitlines() if line.startswith("note  The database 'other'"))
        assert "leave no event in tables without triggers: " in on_other
        assert "public.clinic_note, " in on_other
        assert "clinic_room" not in on_other
        connection.execute("ALTER TABLE clinic_room DISABLE TRIGGER audit_update")
    shown = project.manage("audit", "check", check=False)
    assert shown.returncode == 1
    assert "WRONG The database 'other': public.clinic_room's trigger audit_update is disabled" in shown.stdout


WITH_SENT = """
import tempfile
from contextlib import contextmanager
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from tests.django.clinic.models import Note, Room, Token
from audit_django import get_trail

@contextmanager
def sent():
    with tempfile.TemporaryFile("w+") as file, CaptureQueriesContext(connection) as logged:
        connection.connection.pgconn.trace(file.fileno())
        yield
        connection.connection.pgconn.untrace()
        file.seek(0)
        statements = [line.split("\\t")[4].strip().strip('"') for line in file if "\\tQuery\\t" in line]
    words = [one.split() for one in statements]
    print(" | ".join(" ".join((*some[:2], *some[-1:])) if "COMMIT" in some else " ".join(some[:2]) for some in words))
    assert not [one["sql"] for one in logged if one["sql"].startswith("BEGIN;")]

Room.objects.create(number="0")  # the writer has begun, and the database is known
"""
EACH_BY_ITSELF = """
token = Token(key="7")
for work in (lambda: token.save(force_insert=True), lambda: setattr(token, "uses", 2) or token.save(), token.delete):
    with sent():
        work()
"""
TWO_AT_ONCE = """
with sent(), transaction.atomic():
    Room.objects.create(number="1")
    Room.objects.create(number="2")
"""
ENDED_BY_HAND = """
transaction.set_autocommit(False)
Room.objects.create(number="3")
print(connection.connection.info.transaction_status.name)
transaction.commit()
with connection.cursor() as cursor:
    cursor.execute(f"UPDATE {Room._meta.db_table} SET beds = 9")
transaction.rollback()
transaction.set_autocommit(True)
print(Room.objects.filter(beds=9).count(), Room.objects.count())
"""
REFUSED_BY_COMMIT = """
try:
    Note.objects.create(patient_id=999, text="nobody's")  # the foreign key is looked at by the COMMIT
except IntegrityError as error:
    print(type(error.__cause__).__name__)
print(connection.in_atomic_block, connection.get_autocommit(), Note.objects.count())
"""
REFUSED_BY_OUTBOX = """
from audit_core.errors import StoreUnavailableError
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE audit.audit_outbox ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
try:
    Room.objects.create(number="8")
except StoreUnavailableError as error:
    print("full_disk" in str(error))
print(connection.in_atomic_block, connection.get_autocommit(), Room.objects.filter(number="8").count())
"""


def test_a_change_in_a_transaction_of_its_own_takes_two_round_trips(migrated):
    assert migrated.script(WITH_SENT + EACH_BY_ITSELF).stdout.splitlines() == [
        "BEGIN; INSERT | INSERT INTO COMMIT",
        "BEGIN; UPDATE | INSERT INTO COMMIT",
        "BEGIN; DELETE | INSERT INTO COMMIT",
    ]


def test_a_change_beside_others_ends_no_transaction(migrated):
    assert migrated.script(WITH_SENT + TWO_AT_ONCE).stdout.splitlines() == [
        "BEGIN; INSERT | INSERT INTO | INSERT INTO | INSERT INTO | COMMIT COMMIT"
    ]


def test_a_transaction_that_is_ended_by_hand_goes_on_without_autocommit(migrated):
    assert migrated.script(WITH_SENT + ENDED_BY_HAND).stdout.split() == ["INTRANS", "0", "2"]


@pytest.mark.parametrize("options", ["plain", pytest.param("pool", marks=pytest.mark.long)])
def test_a_commit_that_fails_is_told_as_django_tells_it(migrated, options):
    script = migrated.script(WITH_SENT + REFUSED_BY_COMMIT, AUDIT_TEST_OPTIONS=options)
    assert script.stdout.split() == ["ForeignKeyViolation", "False", "True", "0"]


@pytest.mark.parametrize("options", ["plain", pytest.param("pool", marks=pytest.mark.long)])
def test_an_event_that_cannot_be_written_undoes_the_change_in_autocommit(migrated, options):
    assert migrated.script(WITH_SENT + REFUSED_BY_OUTBOX, AUDIT_TEST_OPTIONS=options).stdout.split() == [
        "True",
        "False",
        "True",
        "0",
    ]
