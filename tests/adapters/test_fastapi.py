import asyncio
import threading

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Response, WebSocket, WebSocketDisconnect
from starlette.testclient import TestClient

from audit_core import AuditPolicy, AuditTrail
from audit_core.context import current
from audit_fastapi import AuditMiddleware, audited, set_actor
from tests.adapters.behaviour import Behaviour
from tests.adapters.fastapi_app import make_app
from tests.adapters.processes import running, sealed_and_stopped
from tests.adapters.servers import UvicornServer


class FastAPIServer(UvicornServer):
    name = "fastapi"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class TestFastAPI(Behaviour):
    server = FastAPIServer()


class Refusing:
    """A middleware that answers before the router is reached."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/api/secret"):
            await Response(status_code=401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class Copying(Refusing):
    """A middleware that passes on a copy of the scope."""

    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


def routed_app(trail, *middleware):
    app, router, inner, deep, mounted = FastAPI(), APIRouter(), APIRouter(), APIRouter(), FastAPI()

    async def handler():
        return {}

    deep.add_api_route("/{deep_id:int}", handler, methods=["POST"])
    inner.add_api_route("/secret/{secret_id}", handler, methods=["POST"])
    mounted.add_api_route("/items/{item_id}", handler, methods=["POST"])

    inner.include_router(deep, prefix="/deep")
    router.include_router(inner, prefix="/api")
    app.include_router(router)
    app.mount("/tenants/{tenant}/store", mounted)
    for kind in middleware:
        app.add_middleware(kind)
    app.add_middleware(AuditMiddleware, trail=trail)
    return app


@pytest.fixture
def trail():
    with AuditTrail("memory:", lifecycle=False, policy=AuditPolicy(skip=["/skipped*"])) as trail:
        yield trail


def events(trail):
    return [event for event in trail.events(newest_first=False) if not event.action.startswith(("log.", "trail."))]


@pytest.mark.parametrize("middleware", [[], [Refusing], [Copying], [Copying, Refusing]])
@pytest.mark.parametrize(
    ("path", "action", "resource"),
    [
        ("/api/secret/7", "POST /api/secret/{secret_id}", ("secret", "7")),
        ("/api/deep/9", "POST /api/deep/{deep_id}", ("deep", "9")),
        ("/tenants/acme/store/items/7", "POST /tenants/{tenant}/store/items/{item_id}", ("item", "7")),
        ("/nowhere", "POST (unrouted)", (None, None)),
    ],
)
def test_the_template_is_whole_wherever_the_request_was_answered(trail, middleware, path, action, resource):
    with httpx_client(routed_app(trail, *middleware)) as client:
        client.post(path)
    (event,) = events(trail)
    assert (event.action, event.resource_type, event.resource_id) == (action, *resource)


def test_a_root_path_is_in_the_recorded_path_and_not_in_the_template(trail):
    with TestClient(routed_app(trail), root_path="/proxied") as client:
        client.post("/api/secret/7")
        client.post("/proxied/api/secret/7")
    assert [(e.action, e.details["path"]) for e in events(trail)] == [
        ("POST /api/secret/{secret_id}", "/proxied/api/secret/7")
    ] * 2


def test_around_the_whole_application_an_exception_is_still_one_event():
    """And then even the framework's own error page carries the request id."""
    app = FastAPI()

    @app.post("/boom")
    def boom():
        raise ValueError

    with AuditTrail("memory:", lifecycle=False) as trail:
        with TestClient(AuditMiddleware(app, trail=trail), raise_server_exceptions=False) as client:
            response = client.post("/boom")
        (event,) = events(trail)
    assert (event.outcome, event.details["status"]) == ("failure", 500)
    assert response.headers["x-request-id"] == event.request_id


def test_the_end_of_the_lifespan_closes_the_trail(tmp_path):
    trail = AuditTrail(f"sqlite:///{tmp_path}/clinic.db")
    with TestClient(routed_app(trail)) as client:
        client.post("/api/deep/9")
    assert not trail._writer.running
    assert next(trail.events()).action == "trail.stopped"
    assert all(event.sealed for event in trail.events())


def test_a_request_that_is_cancelled_leaves_its_event_and_opens_the_gate(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:

        async def hang(scope, receive, send):
            await asyncio.sleep(60)

        async def cancel():
            task = asyncio.create_task(AuditMiddleware(hang, trail)(http_scope(), None, None))
            await asyncio.sleep(0.01)
            assert trail._gate._open == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()

        asyncio.run(cancel())
        assert trail._gate._open == 0
        trail.flush()
        (event,) = events(trail)
        assert (event.outcome, event.details["exception"]) == ("failure", "CancelledError")


def test_a_commit_of_ours_holds_up_a_request_but_not_the_event_loop(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        writing, done, in_time = threading.Event(), threading.Event(), []

        def write():
            with trail._gate.alone():
                writing.set()
                in_time.append(done.wait(5))

        async def answer(scope, receive, send):
            await Response()(scope, receive, send)

        async def send(message):
            pass

        async def ask():
            task = asyncio.create_task(AuditMiddleware(answer, trail)(http_scope(), None, send))
            await asyncio.sleep(0.05)
            assert not task.done()
            done.set()
            await task

        thread = threading.Thread(target=write)
        thread.start()
        assert writing.wait(5)
        asyncio.run(ask())
        thread.join()
        assert in_time == [True]
        assert trail._gate._open == 0
        trail.flush()
        assert len(events(trail)) == 1


def test_a_client_that_goes_away_while_the_event_is_written_takes_nothing_along(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:

        async def answer(scope, receive, send):
            await Response()(scope, receive, send)

        async def cancel():
            async def send(message):
                await asyncio.sleep(0)

            task = asyncio.create_task(AuditMiddleware(answer, trail)(http_scope(), None, send))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancel())
        assert trail._gate._open == 0
        trail.flush()
        assert events(trail)[0].action == "POST (unrouted)"


def test_an_application_that_never_answers_is_a_failure(trail):
    async def silent(scope, receive, send):
        pass

    asyncio.run(AuditMiddleware(silent, trail)(http_scope(), None, None))
    assert events(trail)[0].outcome == "failure"


def test_a_websockets_opening_and_end_are_events(trail):
    app = FastAPI()
    app.add_middleware(AuditMiddleware, trail=trail)

    @app.websocket("/rooms/{room_id}")
    async def room(websocket: WebSocket, room_id: str):
        set_actor("dr-grey")
        await websocket.accept()
        await websocket.send_text(current().request_id)
        await websocket.receive_text()
        await websocket.close(4000)

    @app.websocket("/forbidden")
    async def forbidden(websocket: WebSocket):
        await websocket.close()

    @app.websocket("/left")
    async def left(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    @app.websocket("/broken")
    async def broken(websocket: WebSocket):
        await websocket.accept()
        raise ValueError("hunter2")

    @app.websocket("/skipped")
    async def skipped(websocket: WebSocket):
        await websocket.accept()
        await websocket.close()

    with TestClient(app) as client:
        with client.websocket_connect("/rooms/7?token=hunter2") as websocket:
            request_id = websocket.receive_text()
            assert events(trail)[0].action == "websocket.open", "before the handshake ends"
            websocket.send_text("bye")
            websocket.receive()
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/left") as websocket:
            websocket.close(1001)
        for path in ("/forbidden", "/broken", "/skipped"):
            with pytest.raises(Exception), client.websocket_connect(path) as websocket:  # noqa: B017, PT011
                websocket.receive_text()
    opened, closed, _, gone, refused, _, broke = events(trail)
    for event in (opened, closed):
        assert (event.actor_id, event.resource_type, event.resource_id) == ("dr-grey", "room", "7")
        assert event.details["route"] == "/rooms/{room_id}"
        assert event.request_id == request_id
    assert (opened.outcome, closed.details["code"]) == ("success", 4000)
    assert (gone.outcome, gone.details["code"]) == ("success", 1001)
    assert (refused.action, refused.outcome, refused.details["status"]) == ("websocket.open", "denied", 403)
    assert (broke.action, broke.outcome, broke.details["exception"]) == ("websocket.close", "failure", "ValueError")
    assert "hunter2" not in repr(events(trail))


def test_an_options_request_is_not_taken_for_the_read_of_an_audited_route(trail):
    app = FastAPI()
    app.add_middleware(AuditMiddleware, trail=trail)

    @app.api_route("/chart", methods=["GET", "OPTIONS"])
    @audited("chart.read")
    def chart():
        return {}

    with httpx_client(app) as client:
        client.options("/chart")
        assert events(trail) == []
        client.get("/chart")
        assert events(trail)[0].action == "chart.read"


def test_a_sigterm_under_uvicorn_seals_what_waits(tmp_path):
    url = f"sqlite:///{tmp_path}/clinic.db"
    command = ["-m", "uvicorn", "--factory", "tests.adapters.fastapi_app:from_environment", "--port", "{port}"]
    with running(command, url) as address:
        for _ in range(5):
            assert httpx.post(f"{address}/patients").status_code == 201
    sealed_and_stopped(url)


def httpx_client(app):
    return TestClient(app, raise_server_exceptions=False)


def http_scope():
    return {
        "type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b"", "client": ("10.0.0.1", 1),
    }  # fmt: skip
