import asyncio
import gc
from concurrent.futures import Future

import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from audit_core import AuditTrail
from audit_django import AuditMiddleware
from tests.adapters.behaviour import Behaviour
from tests.adapters.django_app import make_app
from tests.adapters.servers import UvicornServer, WaitressServer


class WsgiServer(WaitressServer):
    name = "django-wsgi"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class AsgiServer(UvicornServer):
    name = "django-asgi"
    lifespan = "off"  # Django knows none
    has_background = False

    def make_app(self, trail, probe):
        return make_app(trail, probe, asgi=True)


class TestDjangoWsgi(Behaviour):
    server = WsgiServer()


# Django leaves the body's temporary file open when a response raises after its start.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
class TestDjangoAsgi(Behaviour):
    server = AsgiServer()

    @pytest.fixture(autouse=True)
    def _its_files_are_collected_here(self):
        yield
        gc.collect()


def test_a_client_that_goes_away_while_the_event_is_written_leaves_a_second_event(monkeypatch):
    with AuditTrail("memory:", lifecycle=False) as trail:
        submit = trail.submit

        def never_done(*args, **event):
            submit(*args, **event)
            return Future()

        async def answer(request):
            return HttpResponse()

        async def cancel():
            task = asyncio.ensure_future(AuditMiddleware(answer, trail)(RequestFactory().post("/x")))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()

        monkeypatch.setattr(trail, "submit", never_done)
        asyncio.run(cancel())
        trail.flush()
        told = [(event.action, event.details.get("reason")) for event in trail.events(newest_first=False)][1:]
    assert told == [("POST (unrouted)", None), ("response.broken", "client disconnected")]
