import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Response, WebSocket, WebSocketDisconnect
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from audit_core import AuditPolicy, AuditTrail
from audit_core.context import current
from audit_fastapi import AuditMiddleware, add_details, audited, set_actor
from tests.adapters.behaviour import Behaviour
from tests.adapters.fastapi_app import make_app
from tests.adapters.processes import running, sealed_and_stopped
from tests.adapters.servers import UvicornServer, wait_until


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


def test_a_middleware_that_is_added_twice_records_a_request_once(trail):
    app = routed_app(trail)
    app.add_middleware(AuditMiddleware, trail=trail)
    with httpx_client(AuditMiddleware(app, trail)) as client:
        response = client.post("/api/deep/9")
        assert client.post("/api/deep/9").status_code == 200, "the next request is another one"
    first, _ = events(trail)
    assert (first.action, first.resource_id) == ("POST /api/deep/{deep_id}", "9")
    assert response.headers.get_list("x-request-id") == [first.request_id]


def test_an_application_that_is_mounted_in_another_records_a_request_once_for_each_trail(trail):
    with AuditTrail("memory:", lifecycle=False) as own_trail:
        outer, both, own = FastAPI(), routed_app(trail), routed_app(own_trail)
        outer.mount("/both", both)
        outer.mount("/own", own)
        outer.add_middleware(AuditMiddleware, trail=trail)
        with httpx_client(outer) as client:
            client.post("/both/api/deep/9")
            client.post("/own/api/deep/9")
        assert [event.action for event in events(trail)] == [
            "POST /both/api/deep/{deep_id}",
            "POST /own/api/deep/{deep_id}",
        ]
        assert [(e.action, e.details["path"]) for e in events(own_trail)] == [
            ("POST /api/deep/{deep_id}", "/own/api/deep/9")
        ]


def test_a_secret_in_the_path_of_a_mount_is_recorded_nowhere(trail):
    outer, inner = FastAPI(), routed_app(trail)
    outer.mount("/by/{token}", inner)
    with httpx_client(outer) as client:
        client.post("/by/hunter2/api/deep/9")
    (event,) = events(trail)
    assert (event.action, event.details["path"]) == ("POST /api/deep/{deep_id}", "/by/[redacted]/api/deep/9")


def test_a_websocket_that_is_refused_because_it_cannot_be_recorded_says_so(tmp_path, monkeypatch):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False, on_failure="block") as trail:
        app = FastAPI()
        app.add_middleware(AuditMiddleware, trail=trail)

        @app.websocket("/rooms/{room_id}")
        async def room(websocket: WebSocket, room_id: str):
            await websocket.accept()

        with TestClient(app) as client:
            with monkeypatch.context() as broken:
                Behaviour.break_storage(broken, trail)
                with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/rooms/7"):
                    pass
            assert refused.value.code == 1013
            trail.record("room.cleaned")
            opened, closed = [event for event in events(trail) if event.action.startswith("websocket.")]
    assert (opened.details["status"], closed.outcome, closed.details["code"]) == (101, "failure", 1013)
    assert "refused" in closed.details["reason"]


def test_a_task_that_outlives_its_request_says_so_and_a_background_task_is_part_of_it(trail):
    app = FastAPI()
    app.add_middleware(AuditMiddleware, trail=trail)
    workers = []

    @app.post("/jobs")
    async def job(tasks: BackgroundTasks):
        set_actor("ada")
        ended = asyncio.Event()
        tasks.add_task(lambda: trail.submit("mail.send"))

        async def work():
            await ended.wait()
            trail.submit("queue.work")

        workers.append((asyncio.create_task(work()), ended))

    async def play():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            await client.post("/jobs")
        task, ended = workers[0]
        ended.set()
        await task

    asyncio.run(play())
    trail.flush()
    told = {event.action: (event.actor_id, event.details.get("after_request")) for event in events(trail)}
    assert told == {"POST /jobs": ("ada", None), "mail.send": ("ada", None), "queue.work": ("ada", True)}


def test_a_websocket_that_is_cancelled_while_its_opening_is_written_has_an_end(trail, monkeypatch):
    waiting = asyncio.Event()

    async def never(written):
        waiting.set()
        await asyncio.Event().wait()

    async def application(scope, receive, send):
        await send({"type": "websocket.accept"})

    async def cancelled():
        scope = {"type": "websocket", "path": "/rooms/7", "headers": [], "query_string": b"", "client": None}
        task = asyncio.create_task(AuditMiddleware(application, trail=trail)(scope, None, None))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr("audit_fastapi.websocket.settled_anywhere", never)
    asyncio.run(cancelled())
    trail.flush()
    closed, opened = [event for event in trail.events() if event.action.startswith("websocket.")]
    assert (opened.action, closed.action, closed.outcome) == ("websocket.open", "websocket.close", "failure")


class Base(BaseHTTPMiddleware):
    """Starlette's own way to write a middleware, which runs what is inside of it in a task of its own."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["X-Base"] = "1"
        return response


@pytest.mark.parametrize("place", ["inside", "outside", "both"])
def test_starlettes_base_middleware_takes_nothing_away(trail, place):
    app, ran = FastAPI(), []
    if place != "outside":
        app.add_middleware(Base)
    app.add_middleware(AuditMiddleware, trail=trail)
    if place != "inside":
        app.add_middleware(Base)

    @app.post("/boom")
    def boom():
        set_actor("dr-grey")
        raise ValueError("hunter2")

    def dependency():
        set_actor("dr-grey")

    @app.post("/patients/{patient_id}", dependencies=[Depends(dependency)])
    async def patient(patient_id: int, tasks: BackgroundTasks):
        add_details(ward="7")
        tasks.add_task(lambda: ran.append(current().request_id))
        return {}

    @app.post("/bad-background")
    async def bad_background(tasks: BackgroundTasks):
        def fail():
            raise RuntimeError("hunter2")

        tasks.add_task(fail)

    with httpx_client(app) as client:
        assert client.post("/boom").status_code == 500
        response = client.post("/patients/7")
        client.post("/bad-background")
    boomed, answered, *rest = events(trail)
    assert (boomed.actor_id, boomed.outcome, boomed.details["exception"]) == ("dr-grey", "failure", "ValueError")
    assert (answered.actor_id, answered.resource_id, answered.details["ward"]) == ("dr-grey", "7", "7")
    assert response.headers["x-base"] == "1"
    assert ran == [answered.request_id] == response.headers.get_list("x-request-id")
    assert [event.action for event in rest] == ["POST /bad-background", "response.broken"]
    assert rest[1].details["reason"] == "RuntimeError after the response"


class BasedServer(FastAPIServer):
    name = "fastapi-based"

    def make_app(self, trail, probe):
        app = make_app(trail, probe)
        app.add_middleware(Base)  # outside of ours
        app.user_middleware.append(Middleware(Base))  # inside of it
        return app


class Based(Behaviour):
    server = BasedServer()


def test_within_starlettes_base_middleware_a_stream_that_does_not_end_leaves_a_second_event():
    with Based.site_of("memory:") as site:
        Based().test_a_client_that_disconnects_leaves_a_second_event_that_says_so(site)
        response = site.client.post("/broken-stream")
        _, broken = Based.of_request(site, response, 2)
    assert response.content == b"first", "which that middleware ends as if it were complete"
    assert (broken.action, broken.details["reason"]) == ("response.broken", "RuntimeError after the response")


@pytest.mark.parametrize(
    ("path", "action", "resource"),
    [
        ("/", "POST /", (None, None)),
        ("//", "POST (unrouted)", (None, None)),
        ("/s/7", "POST /s/{s_id}", ("s", "7")),
        ("/größen/7", "POST /größen/{n}", ("größen", "7")),
        ("/x/7/8", "POST /x/{a}/{b_id}", ("b", "8")),
        ("/mounted/anything/else", "POST /mounted/{path}", ("mounted", None)),
    ],
)
def test_the_names_of_unusual_paths(trail, path, action, resource):
    async def handler():
        return {}

    async def answer(scope, receive, send):
        await Response()(scope, receive, send)

    app = FastAPI()
    for template in ("/", "/s/{s_id}", "/größen/{n}", "/x/{a}/{b_id}"):
        app.add_api_route(template, handler, methods=["POST"])
    app.mount("/mounted", answer)
    app.add_middleware(AuditMiddleware, trail=trail)
    with httpx_client(app) as client:
        client.post(f"http://testserver{path}")
    (event,) = events(trail)
    assert (event.action, event.resource_type, event.resource_id) == (action, *resource)


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


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
def test_around_an_application_with_a_root_path_of_its_own_the_template_is_the_one_of_its_route():
    app = FastAPI(root_path="/api")

    @app.get("/reports/monthly")
    def report():
        return {}

    for inner in (app, GZipMiddleware(app)):
        with AuditTrail("memory:", lifecycle=False, policy=AuditPolicy(reads=["/reports/*"])) as trail:
            TestClient(AuditMiddleware(inner, trail=trail)).get("/reports/monthly")
            (event,) = events(trail)
        assert (event.action, event.details["path"]) == ("GET /reports/monthly", "/api/reports/monthly")


def test_what_another_application_calls_its_root_path_is_no_mount():
    async def answer(scope, receive, send):
        await PlainTextResponse("")(scope, receive, send)

    answer.root_path = Path("/srv/clinic")  # Quart's is a folder
    with AuditTrail("memory:", lifecycle=False) as trail:
        TestClient(AuditMiddleware(answer, trail=trail)).post("/x")
        (event,) = events(trail)
    assert event.details["path"] == "/x"


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
            assert trail._places.gate._open == 1
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()

        asyncio.run(cancel())
        assert wait_until(lambda: trail._places.gate._open == 0)
        trail.flush()
        (event,) = events(trail)
        assert (event.outcome, event.details["exception"]) == ("failure", "CancelledError")


def test_a_commit_of_ours_holds_up_a_request_but_not_the_event_loop(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        writing, done, in_time = threading.Event(), threading.Event(), []

        def write():
            with trail._places.gate.alone():
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
        trail.flush()  # whoever was in the gate just then counts what has ended when he leaves it
        assert wait_until(lambda: trail._places.gate._open == 0)
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
        assert wait_until(lambda: trail._places.gate._open == 0)
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


def test_a_websocket_whose_application_raises_before_the_handshake_waits_for_its_event(trail, monkeypatch):
    async def raising(scope, receive, send):
        raise ValueError("hunter2")

    waited = []

    async def settled(written):
        waited.append(await asyncio.wrap_future(written))
        return True

    monkeypatch.setattr("audit_fastapi.websocket.settled_anywhere", settled)
    scope = {"type": "websocket", "path": "/rooms/7", "headers": [], "query_string": b"", "client": None}
    with pytest.raises(ValueError, match="hunter2"):
        asyncio.run(AuditMiddleware(raising, trail)(scope, None, None))
    (opened,) = waited
    assert (opened.action, opened.outcome, opened.details["exception"]) == ("websocket.open", "failure", "ValueError")


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
