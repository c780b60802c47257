import asyncio
import gc
from concurrent.futures import Future

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import path

from audit_core import AuditTrail
from audit_core.context import current
from audit_core.errors import StoreUnavailableError
from audit_django import AuditMiddleware, set_actor
from tests.adapters.behaviour import Behaviour
from tests.adapters.django_app import make_app, make_app_of
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


def test_a_response_that_nobody_gets_any_more_is_closed(monkeypatch):
    closed, made = [], HttpResponse()
    made._resource_closers[:] = [lambda: 1 / 0, lambda: closed.append(current().request_id)]

    async def answer(request):
        return made

    async def cancel(trail):
        task = asyncio.ensure_future(AuditMiddleware(answer, trail)(RequestFactory().post("/x")))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    with AuditTrail("memory:", lifecycle=False) as trail:
        submit = trail.submit
        monkeypatch.setattr(trail, "submit", lambda *args, **event: submit(*args, **event) and Future())
        asyncio.run(cancel(trail))
        trail.flush()
        assert closed == [event.request_id for event in trail.events() if event.action == "response.broken"]


class Parts:
    """A stream of the application's own."""

    def __init__(self, closed):
        self._closed = closed

    def __iter__(self):
        return iter([b"first"])

    def close(self):
        self._closed.append(current())


@pytest.mark.parametrize("is_refused", [True, False])
def test_what_a_response_does_while_it_is_closed_is_done_in_its_request(monkeypatch, is_refused):
    closed = []

    def answer(request):
        set_actor("dr-grey")
        return StreamingHttpResponse(Parts(closed))

    with AuditTrail("memory:", lifecycle=False) as trail:
        if is_refused:
            refused = Future()
            refused.set_exception(StoreUnavailableError("full"))
            monkeypatch.setattr(trail, "submit", lambda *args, **event: refused)
        response = AuditMiddleware(answer, trail)(RequestFactory().post("/x"))
        assert response.status_code == (503 if is_refused else 200)
        response.close()
    (context,) = set(map(id, closed)) and closed[:1]
    assert (context.actor.id, context.request_id) == ("dr-grey", response.headers["X-Request-ID"])


async def leave_in_the_midst(app):
    """A client that goes away while a part of its answer is sent."""
    started, left = asyncio.Event(), asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        if message := next(messages, None):
            return message
        await started.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            started.set()
            await left.wait()

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/export", "query_string": b""}
    await app(
        {**scope, "scheme": "http", "headers": [], "server": ("x", 80), "client": ("192.0.2.1", 1)}, receive, send
    )
    await asyncio.sleep(0.05)


def test_what_an_asynchronous_stream_does_when_its_client_has_gone_is_told_of_its_request():
    with AuditTrail("memory:", lifecycle=False) as trail:

        async def parts():
            try:
                while True:
                    yield b"x"
            finally:
                await asyncio.sleep(0)
                trail.record("export.ended")

        async def export(request):
            set_actor("dr-grey")
            return StreamingHttpResponse(parts())

        app = make_app_of(trail, [path("export", export)], "tests.adapters.django_app.audit", asgi=True)
        asyncio.run(leave_in_the_midst(app))
        *_, request, broken, ended = trail.events(newest_first=False)
    assert [request.action, broken.action, ended.action] == ["POST /export", "response.broken", "export.ended"]
    assert {event.actor_id for event in (request, broken, ended)} == {"dr-grey"}
    assert {event.request_id for event in (request, broken, ended)} == {request.request_id}
    assert ended.details == {"after_request": True}
