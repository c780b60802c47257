"""Django beside triggers, in projects on PostgreSQL: cases in one process, and what migrations do."""

import os

import pytest

from tests.django.test_postgres import (  # noqa: F401 - fixtures
    ALIASES,
    SETTINGS,
    ask,
    make_project,
    migrated,
    project,
    server,
    template,
)
from tests.test_documentation import ROOT, blocks

MODELS = """
from django.db import models
class Item(models.Model):
    name = models.CharField(max_length=20, db_column="title")
    {field}
class Hidden(models.Model):
    text = models.TextField()
"""
FIRST = """
from django.db import migrations, models
from audit_django.operations import InstallTriggers
class Migration(migrations.Migration):
    initial = True
    dependencies = [{dependency}]
    operations = [
        migrations.CreateModel("Item", [
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("name", models.CharField(max_length=20, db_column="title")),
        ]),
        migrations.CreateModel("Hidden", [
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("text", models.TextField()),
        ]),
        {operation}
    ]
"""
SECOND = """
from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.AddField("Item", "price", models.IntegerField(default=0))]
"""
SHOP_SETTINGS = """
from {settings} import *
INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
AUDIT = {{**AUDIT, "TRIGGERS": True, "EXCLUDE": ["shop.Hidden", "clinic.Draft"]}}
"""
DEPENDENCY = '("audit_django", "0001_initial")'


class Shop:
    """An app of the project whose migrations install triggers."""

    def __init__(self, at, settings=SETTINGS):
        self.project, self.folder = at, at.folder / "shop"
        (self.folder / "migrations").mkdir(parents=True)
        for path in ("__init__.py", "migrations/__init__.py"):
            (self.folder / path).touch()
        (at.folder / "shop_settings.py").write_text(SHOP_SETTINGS.format(settings=settings))
        at.environment["PYTHONPATH"] += f"{os.pathsep}{at.folder}"
        at.environment["DJANGO_SETTINGS_MODULE"] = "shop_settings"

    def write(self, *, dependency=DEPENDENCY, operation="InstallTriggers(),", second=False):
        field = "price = models.IntegerField(default=0)" if second else ""
        (self.folder / "models.py").write_text(MODELS.format(field=field))
        first = FIRST.format(dependency=dependency, operation=operation)
        (self.folder / "migrations/0001_initial.py").write_text(first)
        if second:
            (self.folder / "migrations/0002_price.py").write_text(SECOND)
        return self.project.manage

    def triggers(self, alias="default"):
        names = ask(self.project, "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'audit_create'", alias)
        return sorted(name for (name,) in names)

    def told(self):
        lines = self.project.script(
            "from audit_django import get_trail\nget_trail().flush()\n"
            "for e in get_trail().events(newest_first=False):\n"
            "    if e.resource_type == 'item': print(e.action, *sorted(e.details['changes']))"
        )
        return lines.stdout.splitlines()


@pytest.fixture
def shop(project):  # noqa: F811 - the fixture
    return Shop(project)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", ["plain", pytest.param("pool", marks=pytest.mark.long)])
def test_what_django_changes_is_told_once_by_triggers_or_hooks(project, options):  # noqa: F811
    project.environment.update(AUDIT_TEST_OPTIONS=options, AUDIT_TEST_TRIGGERS="1")
    chosen = ["-k", "way or actor or failed or savepoint or bound"] if options == "pool" else []
    project.pytest("-x", "tests/django/triggered.py", *chosen, timeout=290)


def test_a_migration_installs_triggers_and_takes_them_away_again(shop):
    manage = shop.write()
    for alias in ALIASES:
        manage("migrate", "shop", "-v0", f"--database={alias}")
        assert shop.triggers(alias) == ["shop_item"]  # Hidden is excluded
    ask(shop.project, "INSERT INTO shop_item (title) VALUES ('a')")
    assert shop.told() == ["create id name"]
    assert "No changes detected" in manage("makemigrations", "--check").stdout
    assert "Install audit triggers for all audited models" in manage("migrate", "shop", "zero", "--plan").stdout
    manage("migrate", "shop", "zero", "-v0")
    assert shop.triggers() == []
    assert not ask(shop.project, "SELECT 1 FROM pg_proc WHERE proname LIKE 'audit_tell_%'")


def test_the_settings_and_the_migration_of_the_page(shop):
    settings, migration = blocks(ROOT / "docs" / "triggers.md")["Django"]
    with (shop.folder.parent / "shop_settings.py").open("a") as file:
        file.write(settings)
    manage = shop.write(operation="")
    code = "from django.db import migrations\n" + migration.replace('"clinic"', '"shop"')
    (shop.folder / "migrations/0002_triggers.py").write_text(code)
    manage("migrate", "shop", "-v0")
    assert shop.triggers() == ["shop_hidden", "shop_item"]  # these settings exclude none


def test_triggers_follow_later_migrations(shop):
    manage = shop.write()
    for alias in ALIASES:
        manage("migrate", "shop", "-v0", f"--database={alias}")
    shop.write(second=True)
    assert "Audit triggers follow: shop_item" in manage("migrate", "shop").stdout
    assert "follow" not in manage("migrate", "shop").stdout
    ask(shop.project, "INSERT INTO shop_item (title, price) VALUES ('a', 3)")
    assert shop.told() == ["create id name price"]
    assert "audit.W005" not in [line for line in manage("check", "--database=default").stderr if "shop" in line]
    manage("migrate", "shop", "0001", "-v0")
    ask(shop.project, "INSERT INTO shop_item (title) VALUES ('b')")
    assert shop.told() == ["create id name price", "create id name"]


def test_named_models_have_triggers_unless_the_settings_exclude_them(shop):
    shop.write(operation='InstallTriggers("Hidden", "Item"),')("migrate", "shop", "-v0")
    assert shop.triggers() == ["shop_item"]


def test_a_model_that_is_excluded_later_is_found_and_told_no_longer(shop):
    manage = shop.write()
    for alias in ALIASES:
        manage("migrate", "-v0", f"--database={alias}")
    manage("audit", "triggers", "install")
    checks = [("audit", "triggers", "check"), ("audit", "check"), ("check", "--database=default")]
    sentence = "public.shop_item has triggers, and rows of shop.Item, which is not audited"
    for command in checks:
        shown = manage(*command)
        assert "not audited: they are told" not in shown.stdout + shown.stderr
    with (shop.folder.parent / "shop_settings.py").open("a") as file:
        file.write("AUDIT['EXCLUDE'] += ['shop.Item']\n")
    for command in checks:
        shown = manage(*command, check=False)
        assert sentence in shown.stdout + shown.stderr, command
        assert shown.returncode == (0 if command[0] == "check" else 1)
    refused = manage("audit", "triggers", "install", "--tables", "shop.Item", check=False)
    assert (refused.returncode, "which is not audited" in refused.stderr) == (2, True)
    manage("audit", "triggers", "install", "--database=other")
    shown = manage("audit", "triggers", "install")
    assert "dropped public.shop_item" in shown.stdout
    assert "told    public.auth_user" in shown.stdout
    ask(shop.project, "INSERT INTO shop_item (title) VALUES ('a')")
    assert shop.told() == []
    for command in checks:
        shown = manage(*command)
        assert sentence not in shown.stdout + shown.stderr


def test_undone_the_operation_removes_triggers_of_what_was_excluded_meanwhile(shop):
    manage = shop.write(operation="")
    migration = "from django.db import migrations\n" + blocks(ROOT / "docs" / "triggers.md")["Django"][1]
    (shop.folder / "migrations/0002_triggers.py").write_text(migration.replace('"clinic"', '"shop"'))
    manage("migrate", "shop", "-v0")
    assert shop.triggers() == ["shop_item"]
    with (shop.folder.parent / "shop_settings.py").open("a") as file:
        file.write("AUDIT['EXCLUDE'] += ['shop.Item']\n")
    manage("migrate", "shop", "0001", "-v0")
    assert shop.triggers() == []


def test_the_migration_of_the_page_alone_leaves_nothing_to_warn_of(shop):
    manage = shop.write()
    manage("migrate", "-v0")
    manage("audit", "triggers", "check")
    shown = manage("check", "--database=default").stderr
    assert "audit.W005" not in shown
    assert "having no triggers: " in shown
    assert "public.auth_user" in shown


def test_links_whose_field_has_a_rule_get_no_triggers(migrated):  # noqa: F811
    shown = migrated.manage("audit", "triggers", "install", "--tables", "clinic_doctor_wards", AUDIT_TEST_TRIGGERS="1")
    assert "told    public.clinic_doctor_wards" in shown.stdout
    migrated.manage("audit", "triggers", "install", AUDIT_TEST_TRIGGERS="1")
    (migrated.folder / "ruled.py").write_text(
        f"from {SETTINGS} import *\nAUDIT = {{**AUDIT, 'TRIGGERS': True, 'REDACT': {{'doctor.wards': 'exclude'}}}}\n"
    )
    migrated.environment["PYTHONPATH"] += f"{os.pathsep}{migrated.folder}"
    ruled = {"DJANGO_SETTINGS_MODULE": "ruled"}
    assert "rows of clinic.Doctor_wards" in migrated.manage("audit", "triggers", "check", check=False, **ruled).stdout
    shown = migrated.manage("audit", "triggers", "install", **ruled).stdout
    assert "dropped public.clinic_doctor_wards" in shown


INHERITED = """
from django.db import models
class Person(models.Model):
    phone = models.CharField(max_length=20)
class Employee(Person):
    salary = models.IntegerField()
class Visitor(models.Model):
    badge = models.CharField(max_length=20)
"""
RULED = """
from {settings} import *
INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
AUDIT = {{**AUDIT, "TRIGGERS": True, {rule}}}
"""


@pytest.mark.parametrize("rule", ["REDACT", "EXCLUDE"])
def test_rules_of_a_model_hold_in_the_tables_that_it_inherits(shop, rule):
    manage = shop.write()
    (shop.folder / "migrations/0001_initial.py").unlink()
    (shop.folder / "models.py").write_text(INHERITED)
    said = {"REDACT": '"REDACT": {"shop.Employee.phone": "exclude"}', "EXCLUDE": '"EXCLUDE": ["shop.Employee"]'}[rule]
    (shop.folder.parent / "shop_settings.py").write_text(RULED.format(settings=SETTINGS, rule=said))
    manage("makemigrations", "shop", "-v0")
    for alias in ALIASES:
        manage("migrate", "-v0", f"--database={alias}")
    manage("audit", "triggers", "install")
    ask(shop.project, "INSERT INTO shop_person (phone) VALUES ('0123456789012')")
    ask(shop.project, "INSERT INTO shop_employee (person_ptr_id, salary) VALUES (1, 5)")
    found = shop.project.script(
        "from audit_django import get_trail\nget_trail().flush()\n"
        "for e in get_trail().events(newest_first=False):\n"
        "    if e.resource_type in ('person', 'employee'): print(e.resource_type, e.details)"
    ).stdout
    assert "0123456789012" not in found
    assert ("employee" in found) == (rule == "REDACT")
    assert shop.triggers().count("shop_visitor") == 1


def test_sqlmigrate_shows_the_triggers_where_the_tables_are(shop):
    manage = shop.write()
    manage("migrate", "audit_django", "-v0")
    shown = manage("sqlmigrate", "shop", "0001").stdout
    assert ("CREATE TABLE" in shown, "TRIGGER" in shown) == (True, False)
    manage("migrate", "shop", "-v0")
    assert "CREATE OR REPLACE TRIGGER audit_create" in manage("sqlmigrate", "shop", "0001").stdout


def test_a_migration_that_comes_before_the_outbox_says_what_it_depends_on(shop):
    shown = shop.write(dependency="")("migrate", "shop", "-v0", check=False)
    assert (shown.returncode, len(shown.stderr.strip().splitlines())) == (1, 1), shown.stderr
    assert 'depend on ("audit_django", "0001_initial")' in shown.stderr
    assert "Traceback" not in shown.stderr


def test_on_sqlite_the_migration_does_nothing(tmp_path):
    from tests.django.projects import Project

    shop = Shop(Project(tmp_path), "tests.django.settings")
    manage = shop.write()
    manage("migrate", "shop", "-v0")
    manage("migrate", "shop", "zero", "-v0")
    assert "audit." not in manage("check").stdout.replace("audit.I001", "")


def test_the_command_knows_the_models_and_the_databases(migrated):  # noqa: F811
    for alias in ALIASES:
        shown = migrated.manage("audit", "triggers", "install", f"--database={alias}", AUDIT_TEST_TRIGGERS="1")
        assert "told    public.clinic_patient" in shown.stdout
        assert "draft" not in shown.stdout
        migrated.manage("audit", "triggers", "check", f"--database={alias}", AUDIT_TEST_TRIGGERS="1")
    ask(migrated, "INSERT INTO clinic_locker (nr, belongs_to, digits) VALUES ('1', NULL, '12')", "other")
    code = (
        "from audit_django import get_trail\nget_trail().flush()\n"
        "for e in get_trail().events(action='create'): print(e.resource_type, e.resource_id, e.details['database'])"
    )
    assert migrated.script(code, AUDIT_TEST_TRIGGERS="1").stdout == "locker 1 other\n"
    migrated.manage("audit", "triggers", "drop", "--all", "--database=other")
    assert "No table has triggers." in migrated.manage("audit", "triggers", "check", "--database=other").stdout
    migrated.manage("audit", "triggers", "check", AUDIT_TEST_TRIGGERS="1")


def test_the_projects_check_says_which_tables_have_no_triggers(migrated):  # noqa: F811
    shown = migrated.manage("check", "--database=default", AUDIT_TEST_TRIGGERS="1").stderr
    assert "Told by the hooks alone, having no triggers: " in shown
    assert "public.clinic_patient" in shown
    migrated.manage("audit", "triggers", "install", AUDIT_TEST_TRIGGERS="1")
    assert "audit.W005" not in migrated.manage("check", "--database=default", AUDIT_TEST_TRIGGERS="1").stderr
    assert "gives two events" in migrated.manage("check", "--database=default").stderr
    shown = migrated.manage("audit", "triggers", "check", check=False)
    assert shown.returncode == 1
    assert "leaves two events: the hooks tell of these tables too, so set AUDIT['TRIGGERS'] to True." in shown.stdout


def test_a_setting_that_is_neither_on_nor_off_is_one_sentence(migrated):  # noqa: F811
    (migrated.folder / "odd.py").write_text(f"from {SETTINGS} import *\nAUDIT = {{'TRIGGERS': 'yes'}}\n")
    migrated.environment["PYTHONPATH"] += f"{os.pathsep}{migrated.folder}"
    shown = migrated.manage("check", check=False, DJANGO_SETTINGS_MODULE="odd")
    assert "settings.AUDIT['TRIGGERS'] is True or False, not 'yes'" in shown.stderr
    assert "Traceback" not in shown.stderr


PERSISTENT = """
from django.db import connections, transaction
from django.core.signals import request_finished, request_started
from django.test import Client
from audit_django import get_trail
from tests.django.clinic.models import Room
pooled = "pool" in connections["default"].settings_dict["OPTIONS"]
if not pooled:
    connections["default"].settings_dict["CONN_MAX_AGE"] = 600
pids = []
def pid():
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pids.append(cursor.fetchone()[0])
for name in ("ann", None, "bob"):
    request_started.send(sender=None)
    pid()
    if name:
        with get_trail().actor(name), transaction.atomic():
            Room.objects.create(number=name)
    else:
        with connections["default"].cursor() as cursor:
            cursor.execute("UPDATE clinic_room SET beds = 9")
            cursor.execute("SELECT current_setting('audit.context', true)")
            assert not cursor.fetchone()[0]
    request_finished.send(sender=None)
assert pooled or len(set(pids)) == 1
get_trail().flush()
print([(e.action, e.actor_id) for e in get_trail().events(newest_first=False) if e.resource_type == "room"])
"""


@pytest.mark.parametrize("options", ["plain", pytest.param("pool", marks=pytest.mark.long)])
def test_nobody_is_left_on_a_connection_that_is_kept(migrated, options):  # noqa: F811
    migrated.environment.update(AUDIT_TEST_TRIGGERS="1", AUDIT_TEST_OPTIONS=options)
    migrated.manage("audit", "triggers", "install")
    found = migrated.script(PERSISTENT).stdout
    assert found == "[('create', 'ann'), ('update', 'postgres'), ('create', 'bob')]\n"


TEST_SUITE = """
from django.test import TestCase
from audit_django import get_trail
from tests.django.clinic.models import Room
class Rooms(TestCase):
    def test_what_was_recorded_is_seen_where_nothing_is_committed(self):
        from django.core.management import call_command
        Room.objects.create(number="1")
        assert [e.action for e in get_trail().events(resource=("room", "1"))] == ["create"]
"""


def test_a_test_case_sees_what_was_recorded_where_tests_have_a_trail_in_memory(project, tmp_path):  # noqa: F811
    project.environment.update(AUDIT_TEST_TRIGGERS="1", AUDIT_TEST_MEMORY="1")
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_it.py").write_text(TEST_SUITE)
    result = project.manage("test", str(suite))
    assert "OK" in result.stderr
