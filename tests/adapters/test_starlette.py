import asyncio
import threading
from concurrent.futures import Future

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_fastapi import AuditMiddleware, audited
from audit_fastapi.waiting import settled_anywhere
from tests.adapters.behaviour import Behaviour
from tests.adapters.servers import UvicornServer
from tests.adapters.starlette_app import make_app


class StarletteServer(UvicornServer):
    name = "starlette"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class TestStarlette(Behaviour):
    server = StarletteServer()


class Chart(HTTPEndpoint):
    @audited("chart.read", resource="chart:{chart_id}")
    async def get(self, request):
        return Response()

    async def post(self, request):
        return Response()


async def plain(scope, receive, send):
    await Response()(scope, receive, send)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/charts/7", "chart.read"),
        ("POST", "/charts/7", "POST /charts/{chart_id}"),
        ("POST", "/plain/some/where", "POST /plain/{path}"),
        ("POST", "/a/a/charts/9", "POST /a/{x}/charts/{chart_id}"),
        ("POST", "/nested/two/charts/9", "POST /nested/two/charts/{chart_id}"),
        ("POST", "/hosted", "POST /hosted"),
    ],
)
def test_the_template_through_mounts_hosts_and_endpoint_classes(method, path, action, forgetful):
    """Older routers do not say in the scope which route they chose."""

    class Forgetful:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def forgetting(message):
                scope.pop("route", None)
                await send(message)

            await self.app(scope, receive, forgetting if forgetful else send)

    charts = [Route("/charts/{chart_id:int}", Chart)]
    routes = [
        *charts,
        Mount("/plain", app=plain),
        Mount("/a/{x}", routes=charts),
        Mount("/nested", app=Starlette(routes=[Mount("/two", app=Router(charts))])),
        Host("testserver", app=Router([Route("/hosted", Chart)])),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Forgetful)
    with AuditTrail("memory:", lifecycle=False) as trail:
        app.add_middleware(AuditMiddleware, trail=trail)
        with TestClient(app) as client:
            assert client.request(method, path).status_code == 200
        assert next(trail.events()).action == action


def test_under_trio_a_request_and_a_websocket_leave_their_events_and_the_lifespan_closes_the_trail(tmp_path):
    async def room(websocket):
        await websocket.accept()
        await websocket.close()

    def boom(request):
        raise ValueError

    routes = [Route("/charts/{chart_id:int}", Chart), Route("/boom", boom, methods=["POST"])]
    app = Starlette(routes=[*routes, WebSocketRoute("/room", room)])
    trail = AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False)
    app.add_middleware(AuditMiddleware, trail=trail)
    with TestClient(app, backend="trio", raise_server_exceptions=False) as client:
        assert client.post("/charts/7").status_code == 200
        assert client.post("/boom").status_code == 500
        with client.websocket_connect("/room"):
            pass
    assert [event.action for event in trail.events(newest_first=False) if not event.action.startswith("log.")] == [
        "POST /charts/{chart_id}", "POST /boom", "websocket.open", "websocket.close",
    ]  # fmt: skip
    assert all(event.sealed for event in trail.events())


def test_under_trio_an_event_is_waited_for_while_the_application_uses_all_threads():
    async def main():
        threads = anyio.to_thread.current_default_thread_limiter()
        for number in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(number)
        written = Future()
        threading.Thread(target=written.set_result, args=(None,)).start()
        with anyio.fail_after(10):
            assert await settled_anywhere(written)

    anyio.run(main, backend="trio")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_error_of_an_application_that_is_cancelled_is_still_its_own(backend):
    error = RuntimeError("its own")

    async def main():
        cancel = anyio.CancelScope()

        async def failing(scope, receive, send):
            cancel.cancel()
            raise error

        with cancel, pytest.raises(RuntimeError) as raised:
            await AuditMiddleware(failing, trail)({"type": "http", "method": "POST", "path": "/x"}, None, None)
        assert raised.value is error

    with AuditTrail("memory:", lifecycle=False) as trail:
        anyio.run(main, backend=backend)
        trail.flush()
        assert next(trail.events()).details["exception"] == "RuntimeError"


def test_the_id_of_a_session_that_the_server_keeps_is_a_keyed_hash():
    class Session(dict):
        session_id = "hunter2\0\ud800"

    async def with_session(scope, receive, send):
        scope["session"] = Session()
        await plain(scope, receive, send)

    with AuditTrail("memory:", lifecycle=False) as trail:
        TestClient(AuditMiddleware(with_session, trail)).post("/x")
        event = next(trail.events())
        assert event.session_id == trail.redactor.keyed_hash(Session.session_id)
    assert "hunter2" not in repr(event)


def test_a_scope_without_headers_is_a_request_like_another():
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    with AuditTrail("memory:", lifecycle=False) as trail:
        asyncio.run(AuditMiddleware(plain, trail)({"type": "http", "method": "POST", "path": "/x"}, receive, send))
        assert next(trail.events()).action == "POST (unrouted)"
    assert sent[0]["status"] == 200


@pytest.mark.parametrize(
    ("given", "named"), [("postgresql://clinic:hunter2@db/clinic", "'postgresql://"), (None, "a NoneType")]
)
def test_what_is_no_trail_is_refused_without_its_password(given, named):
    with pytest.raises(ConfigurationError, match=rf"not {named}.*: give trail=AuditTrail\(url\)") as refused:
        AuditMiddleware(Starlette(), trail=given)
    assert "hunter2" not in str(refused.value)
