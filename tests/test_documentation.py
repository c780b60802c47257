"""What the README shows is pasted and run; what the pages link to is there."""

import itertools
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.cli.app import app
from tests import warm

ROOT = Path(__file__).parent.parent
PRELOADED = (
    "tests.all_commands",
    "audit_core.orm.sqlalchemy",
    "audit_core.stores.sqlite",
    "audit_django.middleware",
    "audit_fastapi",
    "audit_flask",
    "celery",
    "django.core.management.commands.migrate",
    "fastapi",
    "flask.testing",
    "httpx",
    "pytest",
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    """The Python blocks of a page, by the heading that they stand under."""
    found: dict[str, list[str]] = {}
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]+)$|^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        else:
            found.setdefault(heading, []).append(match[2])
    return found


README = blocks(ROOT / "README.md")


def whole(page):
    """All Python of a page, in one piece."""
    return "\n".join(itertools.chain(*blocks(ROOT / "docs" / page).values()))


def run(folder, code, *more):
    script = folder / "pasted.py"
    script.write_text("\n".join([code, *map(textwrap.dedent, more)]))
    done = warm.run([str(script)], PRELOADED, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def events(folder, name="clinic.db"):
    with AuditTrail(f"sqlite:///{folder}/{name}", lifecycle=False) as trail:
        trail.flush()
        assert trail.chain.verify().findings == ()
        return list(trail.events(newest_first=False))


def named(found, action):
    (event,) = [event for event in found if event.action == action]
    return event


def test_the_fastapi_lines_work_when_pasted(tmp_path):
    drive = """
        from fastapi.testclient import TestClient
        with TestClient(app) as client:
            assert client.get("/patients/7").json() == {"id": 7}
    """
    run(tmp_path, README["FastAPI and Starlette"][0], drive)
    event = named(events(tmp_path), "GET /patients/{patient_id}")
    assert (event.actor_id, event.resource_type, event.resource_id) == ("dr-ada", "patient", "7")


def test_the_sqlalchemy_lines_work_when_pasted(tmp_path):
    run(tmp_path, README["SQLAlchemy: `Session` and `AsyncSession`"][0])
    event = named(events(tmp_path), "create")
    assert (event.resource_type, event.resource_id) == ("patient", "1")
    assert event.details["changes"]["name"] == {"old": None, "new": "Grace"}


def test_the_flask_lines_work_when_pasted(tmp_path):
    run(tmp_path, README["Flask"][0], 'assert app.test_client().post("/patients/7/notes").json == {"patient": 7}')
    event = named(events(tmp_path), "POST /patients/{patient_id}/notes")
    assert (event.actor_id, event.resource_type, event.resource_id) == ("nurse-bob", "patient", "7")


def test_the_lines_about_actors_work_when_pasted(tmp_path):
    run(tmp_path, whole("actors.md"))
    found = events(tmp_path)
    begun = named(found, "import.begun")
    assert (begun.actor_id, begun.actor_type) == ("nightly-import", "service")
    corrected = named(found, "invoice.correct")
    assert (corrected.actor_id, corrected.actor_type, corrected.on_behalf_of) == ("grace", "admin", "ada")
    assert named(found, "import.checked").actor_id == "ada", "in a thread"


def test_the_lines_about_celery_work_when_pasted(tmp_path):
    drive = """
        with trail.actor("ada"):
            discharge.apply(["7"])
    """
    run(tmp_path, whole("celery.md"), drive)
    event = named(events(tmp_path), "patient.discharge")
    assert (event.actor_id, event.details["task"]["name"]) == ("ada", "clinic.discharge")


def make_django_project(folder, settings):
    project = """
        from pathlib import Path
        SECRET_KEY = "x"
        DEBUG = True
        ROOT_URLCONF = "urls"
        INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
        MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "clinic.db"}}
        USE_TZ = True
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    """
    (folder / "settings.py").write_text(textwrap.dedent(project) + settings)
    (folder / "urls.py").write_text(
        "from django.http import HttpResponse\nfrom django.urls import path\n"
        'urlpatterns = [path("patients/<int:patient_id>/", lambda request, patient_id: HttpResponse("ok"))]\n'
    )


SET_UP = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django
    django.setup()
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    call_command("check", fail_level="WARNING")
"""


def test_the_django_lines_work_when_pasted(tmp_path):
    make_django_project(tmp_path, README["Django"][0])
    drive = """
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)
        from django.test import Client
        assert Client().get("/patients/7/", headers={"host": "localhost"}).content == b"ok"
        from django.contrib.auth.models import User
        User.objects.create_user("ada", password="hunter2")
    """
    run(tmp_path, "", SET_UP, drive)
    found = events(tmp_path)
    assert named(found, "GET /patients/{patient_id}/").resource_id == "7"
    user = named([event for event in found if event.resource_type == "user"], "create")
    assert user.details["changes"]["username"]["new"] == "ada"
    assert "hunter2" not in str(user.details)
    assert user.details["changes"]["password"]["new"] == "[redacted]"


def test_the_lines_for_anything_else_work_when_pasted(tmp_path):
    printed = run(tmp_path, README["Anything else"][0])
    assert "night-shift invoice.approve success" in printed


def test_the_fastapi_page_works_when_pasted(tmp_path):
    drive = """
        from fastapi.testclient import TestClient
        with TestClient(app) as client:
            assert client.put("/patients/7").json() == {"id": 7}
    """
    run(tmp_path, whole("fastapi.md"), drive)
    event = named(events(tmp_path), "PUT /patients/{patient_id}")
    assert (event.actor_id, event.resource_type, event.resource_id) == ("dr-grey", "patient", "7")


def test_the_flask_page_works_when_pasted(tmp_path):
    run(tmp_path, whole("flask.md"), 'assert app.test_client().put("/patients/7").json == {"id": 7}')
    event = named(events(tmp_path), "PUT /patients/{patient_id}")
    assert (event.actor_id, event.resource_type, event.resource_id) == ("dr-grey", "patient", "7")


def test_the_sqlalchemy_page_works_when_pasted(tmp_path):
    drive = """
        with SessionFactory.begin() as session:
            Base.metadata.create_all(session.connection())
            session.add_all([Patient(id=7, ssn="078-05-1120-7", scan=b"..."), LoginAttempt()])
    """
    run(tmp_path, whole("sqlalchemy.md"), drive)
    event = named(events(tmp_path), "create")
    assert (event.resource_type, event.resource_id) == ("patient", "7")
    assert event.details["changes"].keys() == {"id", "ssn"}
    assert event.details["changes"]["ssn"]["new"] == "••••20-7"


def test_a_verification_in_python_as_the_concepts_show_it_works_when_pasted(tmp_path):
    (code,) = (one for one in itertools.chain(*blocks(ROOT / "docs" / "concepts.md").values()) if "verify()" in one)
    printed = run(tmp_path, code, 'assert found.result == "unanchored"')
    later = 2  # that it was verified, and that the trail was stopped
    assert printed.splitlines() == [
        "unanchored",
        f"{len(events(tmp_path)) - later} events, of which 0 are vouched for from outside",
    ]


def test_the_reports_page_works_when_pasted(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db") as trail, trail.actor("dr-grey"):
        trail.record("chart.read", resource=("patient", "42"))
    printed = run(tmp_path, whole("reports.md"))
    row, *statements = printed.splitlines()
    assert row.endswith("dr-grey chart.read")
    assert statements[0].startswith("PCI DSS 4.0.1 10.2.1.1: partly (1 event; the trail begins only at ")


def test_the_page_about_several_chains_works_when_pasted(tmp_path):
    code = whole("scale.md").replace("s3://clinic-anchors/roof/", f"file://{tmp_path}/anchor")
    for place in ("host/north", "host/south", "elsewhere/roof"):
        code = code.replace(f"postgresql://{place}", f"sqlite:///{tmp_path}/{place.partition('/')[2]}.db")
    printed = run(tmp_path, code, "trails.anchor_now(); print(trails.verify().roof.result, sorted(trails.chains))")
    assert printed == "ok ['north', 'south']\n"


def test_what_a_rate_needs_is_reckoned_from_the_figures():
    page, figures = ((ROOT / "docs" / name).read_text() for name in ("scale.md", "figures.md"))
    for taken in ("42,300/s", "32,100 / 22,900", "113,000 / 152,000", "410 / 263"):
        assert taken in figures
    rows = [line for line in page.splitlines() if line.startswith("| ")]

    def row(begin):
        (line,) = (line for line in rows if line.startswith(f"| {begin}"))
        return [cell.strip() for cell in line.strip("|").split("|")[1:]]

    months = [(rate, rate * 2_592_000, -(-rate // 10_000)) for rate in (1_000, 50_000, 1_000_000)]
    assert row("chains, and") == [str(chains) for _, _, chains in months]
    assert row("PostgreSQL a month") == [
        f"{n * 673 / 1e12:,.{d}f} TB" for (_, n, _), d in zip(months, (1, 0, 0), strict=True)
    ]
    assert row("the same a chain") == [
        f"{n * 673 / 1e12 / c:.{d}f} TB" for (_, n, c), d in zip(months, (1, 0, 0), strict=True)
    ]
    assert row("in S3 a month") == [
        f"{n * 750 / 1e12:,.{d}f} TB" for (_, n, _), d in zip(months, (1, 0, 0), strict=True)
    ]
    hours = [(n / c / 113_000 / 3_600, n / c / 152_000 / 3_600) for _, n, c in months]
    assert row("verify a month's") == [f"{a:.{d}f} / {b:.{d}f} h" for (a, b), d in zip(hours, (1, 0, 0), strict=True)]
    assert row("what the month's events cost") == [f"${n * 750 / 1e9 * 0.023:,.0f}" for _, n, _ in months]
    assert row("what seven years") == [f"${84 * n * 750 / 1e9 * 0.023:,.0f}" for _, n, _ in months]


def test_the_django_page_works_when_pasted(tmp_path):
    settings, *code = itertools.chain(*blocks(ROOT / "docs" / "django.md").values())
    (models,) = (one for one in code if "models.Model" in one)
    code.remove(models)
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic" / "models.py").write_text(models)
    make_django_project(tmp_path, settings + 'INSTALLED_APPS += ["clinic"]\n')
    model = """
        from django.contrib.auth.models import User
        patient = User(username="grace")
    """
    drive = """
        from audit_core.policy import naming_of
        assert naming_of(chart, "GET").action == "chart.read"
    """
    run(tmp_path, "", SET_UP, model, *code, drive)
    found = events(tmp_path)
    assert named(found, "invoice.approve").details == {"total": "99.00"}
    saved = named(found, "create")
    assert (saved.actor_id, saved.actor_type, saved.resource_type) == ("nightly-import", "service", "user")
    drive = """
        from django.db import connection
        from clinic.models import LoginAttempt, Patient
        with connection.schema_editor() as editor:
            editor.create_model(Patient), editor.create_model(LoginAttempt)
        Patient.objects.create(ssn="078-05-1120-7", scan=b"..."), LoginAttempt.objects.create()
    """
    run(tmp_path, "", SET_UP, drive)
    changes = next(event for event in events(tmp_path) if event.resource_type == "patient").details["changes"]
    assert (changes.keys(), changes["ssn"]["new"]) == ({"id", "ssn"}, "••••20-7")
    assert not [event for event in events(tmp_path) if event.resource_type == "login_attempt"]


def test_the_page_about_tests_works_when_pasted(tmp_path):
    (tmp_path / "test_pasted.py").write_text(whole("testing.md"))
    drive = """
        import os, pytest
        os.environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_DEBUG_TEMPROOT": os.getcwd()}  # see tests/plugin
        pytest.main(["-p", "pytest_audit_core", "-p", "no:cacheprovider", "test_pasted.py"])
    """
    assert "2 passed" in run(tmp_path, "", drive)


def test_the_commands_for_an_auditor_work_when_pasted(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db") as trail:
        trail.record("chart.read", resource=("patient", "42"))
        trail.flush()
        (tmp_path / "verifier.key").write_text(str(trail.chain.key))
    shown = (ROOT / "README.md").read_text() + (ROOT / "docs" / "command-line.md").read_text()
    commands = re.findall(r"^\$ audit (.+)$", shown, re.MULTILINE)
    assert len(commands) == 10
    codes = []
    for command in commands:
        shutil.copy(tmp_path / "clinic.db", tmp_path / "copy.db")
        words = ["-m", "audit_core.cli", *command.partition("#")[0].split()]
        done = warm.run(words, PRELOADED, cwd=tmp_path, env={**os.environ, "AUDIT_URL": "sqlite:///clinic.db"})
        codes.append((command.split()[0], done.returncode))
    assert codes == [
        ("events", 0), ("report", 0), ("verify", 3), ("checkpoint", 0), ("verify", 0), ("status", 0),
        ("check", 0), ("checkpoint", 0), ("verify", 0), ("seal", 0),
    ]  # fmt: skip


def test_the_commands_of_the_page_for_auditors_work_on_what_an_auditor_gets(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "theirs"))
    url, anchor = f"sqlite:///{tmp_path}/copy.db", f"file://{tmp_path}/anchors"
    with AuditTrail(url, anchors=[anchor]) as trail:
        trail.record("chart.read", resource=("patient", "42"))
        trail.flush()
        trail.anchor_now()
        (tmp_path / "verifier.key").write_text(str(trail.chain.key))
        (tmp_path / "last-year.checkpoint").write_text(trail.chain.checkpoint_note())
    assert main(["prove", "1", "--url", url, "--out", str(tmp_path / "4711.proof")]) == 0
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "auditor"))
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "auditors.md").read_text()
    commands = re.findall(r"^audit-tools/bin/audit (.+)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(command.replace("--anchor URL", f"--anchor {anchor}").split()) == 0, capsys.readouterr()


def test_every_page_with_python_on_it_is_pasted_somewhere_here():
    pages = {page.name for page in PAGES if blocks(page) and page.parent.name == "docs"}
    found = "actors.md celery.md concepts.md django.md fastapi.md flask.md reports.md scale.md sqlalchemy.md testing.md"
    assert pages == {*found.split(), "triggers.md"}


def test_every_command_is_named_where_commands_are_listed():
    commands = get_command(app).commands
    names = [*commands, *(f"report {name}" for name in commands["report"].commands)]
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert [name for name in names if name != "report" and f"`audit {name}" not in page] == []
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in commands if f"`{name}`" not in changes] == []
    django = (ROOT / "audit_django" / "management" / "commands" / "audit.py").read_text()
    (help_,) = re.findall(r"^    help = \((.*?)^    \)$", django, re.MULTILINE | re.DOTALL)
    assert [name for name in commands if not re.search(rf"\b{name}\b", help_)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


OF_A_MACHINE = re.compile(r"(?<![\w.}])/(?:home|root|Users|tmp|opt|work|mnt|media|private|var)/[\w.-]+")
REGISTRY = re.compile(r"(?:--(?:extra-)?index-url|find-links|pypi\.org|registry\.npm|files\.pythonhosted)")


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("pattern", [OF_A_MACHINE, REGISTRY], ids=["path", "registry"])
def test_the_project_names_no_path_of_a_machine_and_no_registry(pattern):
    shipped = {name: (ROOT / name).read_text(errors="replace") for name in tracked()}
    del shipped["tests/test_documentation.py"]  # has the patterns
    for name in [name for name in shipped if name.startswith("docs/deploy/")]:
        del shipped[name]  # where things lie on a server, by its conventions
    assert {name: found[0] for name, text in shipped.items() if (found := pattern.search(text))} == {}


@pytest.mark.parametrize("path", ["/home/ada/x", "see /tmp/x.db", '"/root/.venv"', "file:///work/main", "(/Users/ada)"])
def test_a_path_of_a_machine_is_known_when_it_is_seen(path):
    assert OF_A_MACHINE.search(path)
