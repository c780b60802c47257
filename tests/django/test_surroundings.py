"""acceptance: who changed it, in which database, and what is no change of the application's."""

import threading

import pytest
from django.apps import apps
from django.db import connection, connections, transaction
from django.db.migrations.state import ProjectState
from django.db.models.signals import post_migrate

from audit_core.errors import ConfigurationError
from audit_django.trail import bulk_rule
from tests.django.clinic.models import Doctor, Patient, Room, Ward
from tests.django.projects import Project

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_a_router_chooses_the_outbox(recorded, settings):
    settings.DATABASE_ROUTERS = [ToOther()]
    doctor = Doctor.objects.create(name="Grey")
    ward = Ward.objects.create(name="North")
    Ward.objects.bulk_create([Ward(name="South")])
    Ward.objects.update(name="East")
    doctor.wards.add(ward)
    doctor.delete()
    assert {event.details.get("database") for event in recorded()} == {"other"}
    assert len(recorded()) == 8


class ToOther:
    def db_for_read(self, model, **hints):
        return "other"

    db_for_write = db_for_read

    def allow_relation(self, *_, **__):
        return True


def test_historical_models_of_migrations_are_not_audited(recorded):
    room = ProjectState.from_apps(apps).apps.get_model("clinic", "Room")
    room.objects.create(number="1")
    room.objects.bulk_create([room(number="2")])
    room.objects.update(beds=3)
    room.objects.all().delete()
    assert recorded() == []


def test_the_signal_after_a_migration_may_be_sent_without_a_database():
    app = apps.get_app_config("auth")
    post_migrate.send(sender=app, app_config=app, verbosity=0)


def test_two_threads_at_once_of_which_one_is_rolled_back_do_not_mix(recorded):
    if connection.vendor == "sqlite":
        pytest.skip("it has one writer at a time")
    barrier = threading.Barrier(2)

    def work(name, fails):
        try:
            with transaction.atomic():
                Ward.objects.bulk_create([Ward(name=name)])
                barrier.wait(10)
                Ward.objects.filter(name=name).update(name=f"{name}!")
                barrier.wait(10)
                transaction.set_rollback(fails)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=args) for args in (("kept", False), ("lost", True))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(change[0], change[3]["name"]) for change in recorded.changes()] == [
        ("create", (None, "kept")), ("update", ("kept", "kept!")),
    ]  # fmt: skip


def test_a_bulk_update_waits_for_who_writes_the_row_and_tells_what_it_replaced(recorded):
    if connection.vendor == "sqlite":
        pytest.skip("it has one writer at a time")
    Room.objects.bulk_create([Room(number="1"), Room(number="2"), Room(number="3")])
    written, done = threading.Event(), []

    def first():
        with transaction.atomic():
            Room.objects.filter(number="1").update(beds=5)
            Room.objects.filter(number="2").update(beds=0)
            written.set()
            while not waiting():
                pass
        connections.close_all()

    def waiting():
        with connections["other"].cursor() as cursor:  # a connection of this thread
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return cursor.fetchone()[0]

    thread = threading.Thread(target=first)
    thread.start()
    written.wait()
    done.append(Room.objects.filter(beds__gt=0).update(beds=9))
    thread.join()
    assert done == [2]
    ours = [(key, changes["beds"]) for action, _, key, changes in recorded.changes() if action == "update"][2:]
    assert sorted(ours) == [("1", (5, 9)), ("3", (1, 9))]


@pytest.mark.parametrize("wrong", [{"BULK": "perhaps"}, {"BULK_LIMIT": -1}, {"BULK_LIMIT": "many"}])
def test_settings_for_bulk_operations_that_say_nothing_are_refused_and_checked(recorded, settings, wrong):
    from audit_django.checks import check_project

    settings.AUDIT = {**settings.AUDIT, **wrong}
    with pytest.raises(ConfigurationError):
        bulk_rule()
    assert [message.id for message in check_project(None)] == ["audit.E001"]
    with pytest.raises(ConfigurationError):
        Patient.objects.update(age=3)


SWAPPED = """
from django.contrib.auth import get_user_model
from django.test import Client
from audit_django import get_trail
member = get_user_model().objects.create_user("ada", password="pw")
get_user_model().objects.update(nickname="A")
client = Client()
assert client.login(login="ada", password="pw")
for e in get_trail().events(newest_first=False):
    if e.resource_id == str(member.pk): print(e.action, e.resource_type, sorted(e.details.get("changes", ())))
"""


def test_a_user_model_of_the_applications_own(tmp_path):
    project = Project(tmp_path, DJANGO_SETTINGS_MODULE="tests.django.swapped_settings")
    project.manage("migrate", "--run-syncdb", "-v0")
    assert project.script(SWAPPED).stdout.splitlines() == [
        "create member ['id', 'login', 'nickname', 'password']",
        "update member ['nickname']",
        "update member ['last_login']",
        "user.login member []",
    ]
