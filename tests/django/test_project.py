"""The project around it: migrations, checks, commands, servers, test runners, and a process that dies."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager, suppress

import pytest

from tests.django.projects import PRELUDE, ROOT, Project, migrated_project
from tests.queues.redis_server import new_queue


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def migrated(tmp_path):
    return migrated_project(tmp_path)


@contextmanager
def opened(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def tables(project, name):
    with opened(project.folder / f"{name}.sqlite3") as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'audit_%'")}


# -- migrations


def test_migrate_makes_the_trail_here_and_the_outbox_there_and_may_be_repeated(project):
    for _ in range(2):
        shown = project.manage("migrate", "--run-syncdb")
        assert "System check" not in shown.stdout + shown.stderr, "it stays quiet"
        project.manage("migrate", "--database=other", "--run-syncdb", "-v0")
    assert {"audit_outbox", "audit_events", "audit_checkpoints", "audit_events_no_delete"} <= tables(project, "default")
    assert tables(project, "other") == {"audit_outbox"}


def test_the_migration_makes_what_the_core_makes(project, tmp_path):
    from audit_core import AuditTrail

    project.manage("migrate", "-v0")
    AuditTrail(f"sqlite:///{tmp_path}/core.sqlite3").close()
    schemas = []
    for name in ("default", "core"):
        with opened(tmp_path / f"{name}.sqlite3") as connection:
            query = (
                "SELECT name, sql FROM sqlite_master WHERE tbl_name LIKE 'audit_%' AND sql IS NOT NULL ORDER BY name"
            )
            schemas.append(connection.execute(query).fetchall())
    assert schemas[0] == schemas[1]


def test_migrating_back_to_zero_leaves_the_trail_and_forth_again_finds_it(migrated):
    migrated.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
    migrated.manage("migrate", "audit_django", "zero", "-v0")
    migrated.manage("migrate", "audit_django", "-v0")
    assert ("create", "7", "True") in migrated.events()


def test_sqlmigrate_shows_the_sql(project):
    shown = project.manage("sqlmigrate", "audit_django", "0001").stdout
    assert "CREATE TABLE IF NOT EXISTS audit_events" in shown
    assert "RAISE(ABORT, 'audit_events is append-only'); END;" in shown


def test_makemigrations_check_stays_quiet(project):
    shown = project.manage("makemigrations", "--check", "audit_django")
    assert "No changes detected" in shown.stdout
    assert not shown.stderr


# -- checks


def test_check_says_what_is_not_covered_and_other_commands_do_not(project):
    shown = project.manage("check")
    assert "audit.I001" in shown.stdout + shown.stderr
    assert "clinic.Draft" in shown.stdout + shown.stderr


def test_check_is_one_message_and_information_where_nothing_is_wrong(project):
    shown = project.manage("check", "--fail-level", "WARNING")
    said = shown.stdout + shown.stderr
    assert said.count("(audit.") == 1
    assert "Fields with personal names and no rule: " in said
    assert "`manage.py audit check` lists all of it." in said


def test_audit_check_lists_what_is_not_covered(migrated):
    pytest.importorskip("typer")
    shown = migrated.manage("audit", "check")
    lines = [line.removeprefix("note  ") for line in shown.stdout.splitlines()]
    for name in ("default", "other"):
        assert any(line.startswith(f"The database '{name}': raw SQL, cascades") for line in lines)
    assert "Models that are not audited: clinic.Draft, prison.FineSketch, prison.Sketch." in lines
    own = "admin.LogEntry, auth.Permission, contenttypes.ContentType, prison.OwnSession, sessions.Session"
    assert f"Django's own, and not audited: {own}." in lines
    assert "Not managed by Django, so that others may write them unseen: prison.Imported." in lines
    personal = next(line for line in lines if "personal data" in line)
    assert "user.first_name, user.last_name, user.email" in personal
    assert "passport" not in personal, "its class has a rule"
    assert "password" not in personal


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ({"EXCLUDE": ["clinic.Drafd"]}, 1, "WRONG settings.AUDIT['EXCLUDE'] names 'clinic.Drafd'"),
        ({"REDS": []}, 1, "WRONG settings.AUDIT knows no REDS"),
        ({"DATABASES": ["default"]}, 0, "Databases that are not audited: other."),
        (
            {"REDACT": {"clinic.Doctor.ward": "mask", "doctor.ward_id": "mask", "view.ward": "mask"}},
            1,
            "WRONG There is a rule for clinic.Doctor.ward, and doctor has no field of this name.",
        ),
    ],
)
def test_audit_check_fails_only_where_something_is_wrong(migrated, settings, code, sentence):
    pytest.importorskip("typer")
    (migrated.folder / "own.py").write_text(f"from tests.django.settings import *\nAUDIT = {settings}\n")
    path = f"{migrated.folder}{os.pathsep}{migrated.environment['PYTHONPATH']}"
    shown = migrated.manage("audit", "check", check=False, DJANGO_SETTINGS_MODULE="own", PYTHONPATH=path)
    said = shown.stdout + shown.stderr
    assert "Traceback" not in said
    assert sentence in said
    assert said.count("There is a rule") == ("There is a rule" in sentence)
    assert shown.returncode == code


def test_audit_check_finds_that_an_outbox_is_missing(project):
    pytest.importorskip("typer")
    project.manage("migrate", "--run-syncdb", "-v0")
    shown = project.manage("audit", "check", check=False)
    assert shown.returncode == 1
    assert "WRONG The database 'other' has no outbox, and its changes fail: run `manage.py migrate`" in shown.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("settings.MIDDLEWARE = settings.MIDDLEWARE[1:]", "audit.W001"),
        ("settings.MIDDLEWARE = settings.MIDDLEWARE[::-1]", "audit.W002"),
        ("settings.AUDIT = {'REDS': ['patient']}", "settings.AUDIT knows no REDS"),
        ("settings.AUDIT = {'READS': 'patient'}", "audit.E001"),
        ("settings.AUDIT = {'EXCLUDE': 'clinic.Draft'}", "audit.E001"),
        ("settings.AUDIT = {'TRIGGERS': ['clinic.Patient']}", "settings.AUDIT['TRIGGERS'] is True or False"),
        ("settings.AUDIT = {'TRUSTED_PROXIES': '10.0.0.0/8'}", "audit.E001"),
        ("settings.AUDIT = {'EXCLUDE': ['clinic.Draft', 'clinic.Draftt']}", "audit.E003"),
        ("settings.AUDIT = {'EXCLUDE': ['clinc']}", "names 'clinc', which is no installed app and no model"),
        ("settings.AUDIT = {'INCLUDE': ['clinic.Drafd']}", "Did you mean 'clinic.Draft'?"),
        ("settings.AUDIT = {'INCLUDE': 'clinic'}", "audit.E001"),
        ("settings.AUDIT = {'CHOOSE': 'clinic.nothing'}", "audit.E003"),
        (
            "from tests.django.clinic.models import *; import audit_django; audit_django.redacted(bedz='mask')(Room)",
            "(audit.E005) @redacted on clinic.Room names 'bedz', which is none of its fields. Did you mean 'beds'?",
        ),
        (
            "from tests.django.clinic.models import Guest; from audit_django import unaudited; unaudited(Guest)",
            "@unaudited on clinic.Guest, which is a proxy: say it on clinic.Patient.",
        ),
        ("settings.AUDIT = {'URL': 'mysql://'}", "audit.E001"),
        ("settings.AUDIT = {'ARCHIVES': ['mysql://']}", "An archive's URL is file:///folder"),
        ("settings.DATABASES['other']['ENGINE'] = 'django.db.backends.dummy'", "only PostgreSQL and SQLite can"),
    ],
)
def test_check_finds_what_is_set_up_wrongly(project, change, message):
    code = f"""
from django.conf import settings
{change}
from django.core.management import call_command
try: call_command("check")
except Exception as error: print(error)
"""
    result = project.script(code, check=False)
    assert message in result.stdout + result.stderr


def test_check_refuses_settings_of_a_wrong_type_each_with_a_sentence(project):
    code = """
from pathlib import Path
from django.conf import settings
from django.core.management import call_command
for wrong in (
    {"URL": Path("audit.db")}, {"URL": 5}, {"URL": []}, {"REDACT": ["patient.name"]}, {"REDACT": {"name": 5}},
    {"READS": [5]}, {"READS": None}, {"SKIP": 5}, {"RULES": ["/exports"]}, {"RULES": 5}, {"TRUSTED_PROXIES": [5]},
    {"ANCHORS": [5]}, {"ANCHORS": None}, {"ARCHIVES": [5]}, {"QUEUE": 5}, {"BULK_LIMIT": "200"}, {"BULK": 200},
    {"ON_FAILURE": ["block"]}, {"PROXY_HEADER": 5}, {"DATABASES": 5}, {"EXCLUDE": 5}, {"INCLUDE": [5]}, {"CHOOSE": 5},
):
    settings.AUDIT = wrong
    try: call_command("check")
    except Exception as error: print(wrong, type(error).__name__, "(audit.E" in str(error), "object" in str(error))
    else: print(wrong, "accepted")
"""
    lines = project.script(code).stdout.splitlines()
    assert len(lines) == 23
    assert [line for line in lines if not line.endswith("SystemCheckError True False")] == []


def test_a_middleware_line_without_the_app_is_refused_with_the_cure(project):
    code = """
from django.conf import settings
settings.INSTALLED_APPS.remove("audit_django")
from django.core.wsgi import get_wsgi_application
get_wsgi_application()
"""
    refused = project.script(code, check=False, prelude="")
    assert refused.returncode == 1
    assert "ImproperlyConfigured: AuditMiddleware is in MIDDLEWARE" in refused.stderr
    assert 'INSTALLED_APPS += ["audit_django"]' in refused.stderr


def test_check_has_nothing_to_say_of_the_line_of_the_documentation(tmp_path):
    project = Project(tmp_path, DJANGO_SETTINGS_MODULE="clinic.settings")
    project.environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    project.manage("startproject", "clinic", str(tmp_path), DJANGO_SETTINGS_MODULE="")
    page = (ROOT / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(INSTALLED_APPS \+=.*?)```", page, re.DOTALL)
    with (tmp_path / "clinic" / "settings.py").open("a") as settings:
        settings.write(snippet)
    shown = project.manage("check", "--fail-level", "WARNING")
    assert "audit.I001" in shown.stdout + shown.stderr


def test_a_database_that_cannot_hold_every_text_is_refused_with_the_cure(project):
    with opened(project.folder / "default.sqlite3") as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE other (id)")
    result = project.manage("migrate", "audit_django", "-v0", check=False)
    assert "UTF-16" in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert result.returncode == 1


def test_check_finds_that_the_trail_was_dropped(migrated):
    with opened(migrated.folder / "default.sqlite3") as connection:
        connection.execute("DROP TABLE audit_events")
    result = migrated.manage("check", "--database=default", check=False)
    assert "audit.E002" in result.stderr
    assert result.returncode == 1


def test_check_finds_that_the_key_is_another(migrated):
    migrated.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
    shown = migrated.manage("check", "--database=default")
    assert "audit.W004" not in shown.stderr
    shown = migrated.manage("check", "--database=default", AUDIT_STATE_DIR=str(migrated.folder / "another"))
    assert "audit.W004" in shown.stderr


def test_a_database_that_is_left_out_may_be_any_engine(project):
    code = """
from django.conf import settings
settings.DATABASES["other"]["ENGINE"] = "django.db.backends.dummy"
settings.AUDIT = {"DATABASES": ["default"]}
from audit_django import get_trail
print(get_trail().url, len(get_trail().outboxes))
"""
    assert project.script(code).stdout.endswith("default.sqlite3 1\n")


def test_a_trail_of_its_own_file_drains_every_database(migrated):
    code = """
from django.conf import settings
settings.AUDIT = {"URL": "sqlite:///%s/trail.db" % settings._folder}
from tests.django.clinic.models import Room
Room.objects.create(number="1")
Room.objects.using("other").create(number="2")
from audit_django import get_trail
get_trail().flush()
print([(e.action, e.resource_id, e.sealed) for e in get_trail().events(action="create")])
""".replace("settings._folder", repr(str(migrated.folder)))
    assert migrated.script(code).stdout == "[('create', '2', True), ('create', '1', True)]\n"


# -- commands and servers


def test_manage_audit_passes_on_to_the_command_line_with_the_projects_trail(migrated):
    pytest.importorskip("typer")
    migrated.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
    verified = migrated.manage("audit", "verify", "--json", check=False)
    assert verified.returncode == 3, verified.stdout + verified.stderr  # unanchored
    status = migrated.manage("audit", "status", "--settings=tests.django.settings", "--pythonpath=.")
    assert "default.sqlite3" in status.stdout
    newest = json.loads(migrated.manage("audit", "events", "--action=create", "--limit=1", "--format=json").stdout)
    assert [(row["resource_type"], row["resource_id"]) for row in newest["rows"]] == [("room", "7")]
    with opened(migrated.folder / "default.sqlite3") as connection:
        connection.execute("DROP TRIGGER audit_events_no_update")
        connection.execute("UPDATE audit_events SET resource_id = '8' WHERE resource_id = '7'")
    assert migrated.manage("audit", "verify", check=False).returncode == 1


@pytest.mark.parametrize(
    ("command", "name"), [("verify", "default.sqlite3"), ("status", "trail.db"), ("seal", "trail.db")]
)
def test_a_command_that_reads_makes_no_database_and_says_how_to(project, command, name):
    pytest.importorskip("typer")
    (project.folder / "own.py").write_text(
        f"from tests.django.settings import *\nAUDIT = {{'URL': 'sqlite:///{project.folder}/{name}'}}\n"
    )
    path = f"{project.folder}{os.pathsep}{project.environment['PYTHONPATH']}"
    shown = project.manage("audit", command, check=False, DJANGO_SETTINGS_MODULE="own", PYTHONPATH=path)
    assert (shown.returncode, shown.stdout, len(shown.stderr.splitlines())) == (2, "", 1)
    assert "manage.py migrate" in shown.stderr
    assert not (project.folder / name).exists()
    made = project.manage("audit", "init", DJANGO_SETTINGS_MODULE="own", PYTHONPATH=path)
    assert "origin" in made.stdout


def test_a_trail_that_was_migrated_and_never_begun_is_neither_sound_nor_tampered(project):
    pytest.importorskip("typer")
    project.manage("migrate", "-v0")
    shown = project.manage("audit", "verify", check=False)
    assert (shown.returncode, shown.stdout, len(shown.stderr.splitlines())) == (2, "", 1)
    assert "nothing to verify yet. `manage.py audit init` or the first event begins it" in shown.stderr
    project.manage("audit", "init")
    assert project.manage("audit", "verify", check=False).returncode == 3


@pytest.mark.parametrize("words", [("--url", "sqlite:///copy.db", "verify"), ("verify", "--url", "sqlite:///copy.db")])
def test_another_trail_is_not_verified_in_the_guise_of_the_projects(project, words):
    pytest.importorskip("typer")
    project.manage("migrate", "-v0")
    shown = project.manage("audit", *words, check=False)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "about the trail of this project" in shown.stderr


def test_commands_do_not_start_and_stop_the_trail_and_only_reading_is_an_event(project):
    pytest.importorskip("typer")
    project.manage("migrate", "-v0")
    project.script("""
from contextlib import suppress
from django.core.management import CommandError, call_command
for words in (["init"], ["status"], ["seal"], ["verify"], ["checkpoint"], ["report", "privileged"]):
    with suppress(CommandError):  # UNANCHORED is one
        call_command("audit", *words)
""")
    with opened(project.folder / "default.sqlite3") as connection:
        rows = connection.execute("SELECT action FROM audit_events ORDER BY sequence").fetchall()
    assert [action for (action,) in rows] == ["log.created", "trail.verified", "trail.read"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def post(port, path):
    for _ in range(200):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(f"POST {path} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
                return connection.makefile("rb").readline()
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the server did not start")


@pytest.mark.parametrize("options", [["--noreload"], []])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runserver_seals_what_waits_when_it_is_stopped(migrated, options, number):
    port = free_port()
    server = migrated.start(
        "-m", "django", "runserver", f"127.0.0.1:{port}", *options,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert b"200" in post(port, "/indifferent/")
    finally:
        (os.killpg if number == signal.SIGINT else os.kill)(server.pid, number)
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors
    assert not list(migrated.folder.glob("*-audit/*.spill"))
    actions = [event for event in migrated.events() if event[0] == "POST"]
    assert [event[-1] for event in actions] == ["True"]


def test_uvicorn_seals_what_waits_when_it_is_stopped(migrated, tmp_path):
    port = free_port()
    (tmp_path / "asgi.py").write_text(
        "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
    )
    server = migrated.start(
        "-m", "uvicorn", "asgi:application", "--app-dir", str(tmp_path), "--port", str(port), "--log-level", "warning",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert b"200" in post(port, "/indifferent/")
    finally:
        server.terminate()
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors
    assert [event[0] for event in migrated.events()] == ["log.created", "trail.started", "POST", "trail.stopped"]


def test_runserver_reloads_cleanly(migrated, tmp_path):
    port = free_port()
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "watched_module.py").write_text("x = 1\n")
    migrated.environment["PYTHONPATH"] += f"{os.pathsep}{extra}"
    runner = (
        "import watched_module, sys; from django.core.management import execute_from_command_line as run; run(sys.argv)"
    )
    main = tmp_path / "extra" / "manage.py"
    main.write_text(runner)
    server = migrated.start(
        str(main), "runserver", f"127.0.0.1:{port}",
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert b"200" in post(port, "/indifferent/")
        time.sleep(1.2)
        (extra / "watched_module.py").write_text("x = 2\n")
        deadline = time.monotonic() + 20
        while sum(event[0] == "trail.stopped" for event in migrated.events()) < 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        answer = b""
        while not answer and time.monotonic() < deadline:  # who ends may still take a connection, and drop it
            with suppress(ConnectionResetError):
                answer = post(port, "/indifferent/")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors
    assert b"200" in answer
    assert sum(event[0] == "trail.started" for event in migrated.events()) >= 2


# -- a process that dies


DYING = """
import os, signal
from audit_core import AuditTrail
from tests.django.clinic.models import Room
{hook}
Room.objects.create(number="7")
os.kill(os.getpid(), signal.SIGKILL)
"""
BEFORE_THE_COMMIT = """
tell = AuditTrail.tell
def die(self, *args):
    tell(self, *args)
    os.kill(os.getpid(), signal.SIGKILL)
AuditTrail.tell = die
"""


def test_killed_between_the_event_and_the_commit_neither_is_there(migrated):
    migrated.script(DYING.format(hook=BEFORE_THE_COMMIT), check=False)
    shown = migrated.script("from tests.django.clinic.models import Room; print(Room.objects.count())")
    assert shown.stdout.strip() == "0"
    assert "create" not in [event[0] for event in migrated.events()]


def test_killed_after_the_commit_both_are_there(migrated):
    migrated.script(DYING.format(hook=""), check=False)
    shown = migrated.script("from tests.django.clinic.models import Room; print(Room.objects.count())")
    assert shown.stdout.strip() == "1"
    assert ("create", "7", "True") in migrated.events()


# -- the user's own tests


SUITE = """
from django.contrib.auth.models import User
from django.test import TestCase, TransactionTestCase
from audit_django import get_trail
from tests.django.clinic.models import Room


def numbers():
    return {event.resource_id for event in get_trail().events(action="create", resource=("room", None))}


class Inside(TestCase):
    databases = {"default", "other"}

    def test_what_was_recorded_is_seen_inside_a_transaction_that_never_commits(self):
        Room.objects.create(number="inside")
        Room.objects.using("other").create(number="in-other")
        self.assertTrue({"inside", "in-other"} <= numbers() or get_trail().url != "memory:")
        with self.assertNumQueries(1):
            Room.objects.create(number="counted")

    def test_requests(self):
        self.assertEqual(self.client.post("/patients/").status_code, 201)


class Outside(TransactionTestCase):
    def test_commits(self):
        Room.objects.create(number="outside")
        self.assertIn("outside", numbers())

    def test_commits_again(self):
        Room.objects.create(number="outside-2")
        self.assertIn("outside-2", numbers())
"""


def test_a_test_run_does_not_drain_a_real_database_that_its_tests_do_not_use(migrated, tmp_path):
    with opened(tmp_path / "other.sqlite3") as connection:
        connection.execute("INSERT INTO audit_outbox (event) VALUES ('real')")
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_it.py").write_text(SUITE.replace('databases = {"default", "other"}', "").replace(', "in-other"', ""))
    lines = (suite / "test_it.py").read_text().splitlines(keepends=True)
    (suite / "test_it.py").write_text("".join(line for line in lines if 'using("other")' not in line))
    migrated.manage("test", str(suite))
    with opened(tmp_path / "other.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM audit_outbox").fetchone() == (1,)


@pytest.mark.parametrize(
    ("options", "memory"),
    [
        ([], True),
        (["--parallel=2"], False),
        (["--keepdb"], False),
        pytest.param([], False, marks=pytest.mark.long),
        pytest.param(["--parallel=2"], True, marks=pytest.mark.long),
        pytest.param(["--keepdb"], True, marks=pytest.mark.long),
    ],
)
def test_djangos_test_runner_works_as_before(project, tmp_path, memory, options):
    if memory:
        project.environment["AUDIT_TEST_MEMORY"] = "1"
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_it.py").write_text(SUITE)
    for _ in range(2 if options == ["--keepdb"] else 1):
        result = project.manage("test", str(suite), *options)
        assert "OK" in result.stderr
        assert "audit_core" not in result.stderr
        assert "System check identified no issues" in result.stdout + result.stderr
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith("test_")}
    if "--keepdb" not in options:
        assert left == set(), "no test database, and nothing beside it"
    assert not (tmp_path / "default.sqlite3").exists(), "the real trail was not touched"


@pytest.mark.parametrize(
    "options", [["--reuse-db"], *(pytest.param([one], marks=pytest.mark.long) for one in ("--nomigrations", "-n2"))]
)
def test_pytest_django_works_as_before(project, tmp_path, options):
    (tmp_path / "test_it.py").write_text(SUITE)
    for _ in range(2 if options == ["--reuse-db"] else 1):
        project.pytest(*options, f"--rootdir={tmp_path}", str(tmp_path))
    assert bool(list(tmp_path.glob("test_*sqlite3*"))) == (options == ["--reuse-db"])


def test_the_events_of_a_project_wait_in_the_queue_that_its_settings_name(migrated):
    queue = new_queue()
    settings = f"from django.conf import settings\nsettings.AUDIT = {{**settings.AUDIT, 'QUEUE': {queue!r}}}\n"
    code = (
        "from audit_django import get_trail\ntrail = get_trail()\ntrail.opened()\ntrail.record('chart.read')\n"
        "print([event.action for event in trail.queue.waiting()])\ntrail.closed()\ntrail.close()\n"
    )
    assert "chart.read" in migrated.script(settings + PRELUDE + code, prelude="").stdout
    assert migrated.events()[0][0] == "log.created"
    assert ("chart.read", "None", "True") in migrated.events()
    check = "from django.core.management import call_command\ncall_command('check', databases=['default'])\n"
    wrong = settings.replace("redis://", "redis://nobody:wrong@")
    found = migrated.script(wrong + PRELUDE + check, prelude="", check=False)
    assert "Events of no transaction wait in spill files" in found.stdout + found.stderr


def test_the_trail_of_a_project_is_anchored_where_its_settings_say(migrated):
    folder = migrated.folder / "elsewhere"
    settings = (
        f"from django.conf import settings\nsettings.AUDIT = {{**settings.AUDIT, 'ANCHORS': ['file://{folder}']}}\n"
    )
    code = "from audit_django import get_trail\nget_trail().record('chart.read')\nget_trail().close()\n"
    migrated.script(settings + PRELUDE + code, prelude="")
    assert list(folder.glob("*.checkpoint"))
    verify = "from django.core.management import call_command\ncall_command('audit', 'verify')\n"
    assert "OK:" in migrated.script(settings + PRELUDE + verify, prelude="").stdout
    assert "UNANCHORED" in migrated.script(verify, check=False).stdout
    wrong = settings.replace(f"['file://{folder}']", f"'file://{folder}'")
    assert "give a list of strings" in migrated.script(wrong + PRELUDE + code, prelude="", check=False).stderr
