"""Commands and shells: the account of the operating system, and the command."""

import json
import os
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory

from audit_core.context import said
from audit_core.process.account import account
from audit_django import AuditMiddleware, get_trail, set_actor
from tests.django.clinic.models import Room
from tests.django.projects import migrated_project

ME = (account(), "system")
READ = """
import json
from audit_django import get_trail
for e in get_trail().events(newest_first=False):
    if e.action in ("create", "rooms.opened"): print(json.dumps([e.actor_id, e.actor_type, e.details.get("command")]))
"""


class TestFromTheCommandLine:
    @pytest.fixture
    def project(self, tmp_path):
        return migrated_project(tmp_path)

    @staticmethod
    def told(project):
        return [tuple(json.loads(line)) for line in project.script(READ).stdout.splitlines()]

    def test_what_a_command_does_names_the_account_and_the_command_without_its_arguments(self, project):
        project.manage("open_rooms", "1", "--password", "hunter2")
        assert self.told(project) == [(*ME, "open_rooms")] * 2

    def test_the_account_is_the_systems_word_and_not_the_environments(self, project):
        project.manage("open_rooms", "1", LOGNAME="mallory", USER="mallory", LNAME="mallory", USERNAME="mallory")
        assert self.told(project) == [(*ME, "open_rooms")] * 2

    def test_a_shell_is_a_command(self, project):
        create = "from tests.django.clinic.models import Room; Room.objects.create(number='7')"
        project.manage("shell", "-c", create)
        project.manage("shell", text=create.replace("7", "8"))
        assert self.told(project) == [(*ME, "shell")] * 2

    def test_a_script_that_names_nobody_is_the_system(self, project):
        project.script("from tests.django.clinic.models import Room; Room.objects.create(number='7')")
        assert self.told(project) == [(None, "system", None)]


pytestmark = pytest.mark.django_db(databases=["default", "other"], transaction=True)


def who(events):
    return [(event.actor_id, event.actor_type, event.details.get("command")) for event in events]


def test_a_command_that_is_called_outside_of_a_request_names_the_account(recorded):
    call_command("open_rooms", "1")
    assert who(recorded()) == [(*ME, "open_rooms")] * 2
    assert recorded()[-1].details == {"count": 1, "command": "open_rooms"}


def test_a_command_inside_of_a_request_acts_for_the_requests_actor(recorded):
    def view(request):
        set_actor("ada")
        call_command("open_rooms", "1")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().post("/rooms"))
    assert who(recorded()) == [("ada", "user", None)] * 3


def test_a_command_inside_of_a_block_acts_for_its_actor(recorded):
    with get_trail().actor("ada", on_behalf_of="grace"):
        call_command("open_rooms", "1")
    assert who(recorded()) == [("ada", "user", None)] * 2
    assert {event.on_behalf_of for event in recorded()} == {"grace"}


def test_a_command_may_name_its_actor(recorded):
    from django.core.management.base import BaseCommand

    class Nightly(BaseCommand):
        def handle(self, **_):
            set_actor("nightly", type="service")
            Room.objects.create(number="1")

    call_command(Nightly())
    assert who(recorded()) == [("nightly", "service", "test_commands")]


def test_nothing_is_left_over_after_a_command_even_if_it_fails(recorded):
    call_command("open_rooms", "1")
    with pytest.raises(CommandError):
        call_command("open_rooms")
    Room.objects.create(number="2")
    assert said() is None
    assert who(recorded())[-1] == (None, "system", None)


def test_the_threads_of_a_command_are_not_the_account(recorded):
    """A server that was started by a command serves requests in them."""
    from django.core.management.base import BaseCommand

    def serve():
        Room.objects.create(number="1")
        connections.close_all()

    class Command(BaseCommand):
        def handle(self, **_):
            thread = threading.Thread(target=serve)
            thread.start()
            thread.join()

    call_command(Command())
    assert who(recorded()) == [(None, "system", None)]


@pytest.mark.parametrize("name", ["runserver", "runserver_plus", "testserver", "test"])
def test_a_command_that_serves_others_is_not_the_account(name):
    from django.core.management.base import BaseCommand

    asked = []
    kind = type("Command", (BaseCommand,), {
        "handle": lambda *_, **__: asked.append(said()), "__module__": f"server.management.commands.{name}",
    })  # fmt: skip
    call_command(kind())
    assert asked == [None]


CELERY = """
from celery import Celery
app = Celery("clinic", broker="memory://")
app.conf.task_always_eager = True
import django; django.setup()
from audit_django import get_trail

@app.task(name="note")
def note(): get_trail().record("note.made")

with get_trail().actor("ada"): note.delay()
for e in get_trail().events(action="note.made"): print(e.actor_id, e.details["task"]["name"])
"""


def test_a_project_with_celery_needs_nothing_more(tmp_path):
    project = migrated_project(tmp_path)
    assert project.script(CELERY, prelude="").stdout.split() == ["ada", "note"]


def test_the_account_of_nobody_in_particular_is_its_number(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert account() == "os:54321"
