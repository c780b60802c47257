"""WebSockets over real sockets: each leaves its opening and its end, however it ends."""

import asyncio
import socket
import struct
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, WebSocket, WebSocketException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware, set_actor, set_outcome
from tests.adapters.servers import UvicornServer, wait_until


async def room(websocket: WebSocket):
    """Does what it is told until it is told nothing more."""
    set_actor("dr-grey")
    await websocket.accept()
    while True:
        said = await websocket.receive_text()
        if said == "close":
            await websocket.close(4000, "enough")
            return
        if said == "return":
            return
        if said == "token":
            raise WebSocketException(1008)
        if said == "raise":
            raise ValueError("the password is hunter2")
        await websocket.send_text(said)


async def forbidden(websocket: WebSocket):
    await websocket.close()


async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("log in first", 401))


async def raising(websocket: WebSocket):
    raise ValueError("the password is hunter2")


async def refusing(websocket: WebSocket):
    raise HTTPException(404)


async def judged(websocket: WebSocket):
    """Says what it thinks of the opening, and of the end."""
    set_outcome("denied")
    await websocket.accept()
    if (said := await websocket.receive_text()) != "nothing":
        set_outcome(said)
    await websocket.close(1011 if said == "success" else 1000)


async def shared(websocket: WebSocket):
    """Two tasks listen, and one that hears the goodbye ends the other."""
    await websocket.accept()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(websocket.receive_text())
        tasks.create_task(asyncio.sleep(60))


ROUTES = {
    "/rooms/{room_id}": room, "/forbidden": forbidden, "/denied": denied, "/raising": raising, "/refusing": refusing,
    "/shared": shared, "/judged": judged,
}  # fmt: skip


def fastapi_app(trail):
    app = FastAPI()
    for path, endpoint in ROUTES.items():
        app.add_api_websocket_route(path, endpoint)
    app.add_middleware(AuditMiddleware, trail=trail)
    return app


def starlette_app(trail):
    app = Starlette(routes=[WebSocketRoute(path, endpoint) for path, endpoint in ROUTES.items()])
    app.add_middleware(AuditMiddleware, trail=trail)
    return app


class Sockets(UvicornServer):
    ws = "websockets-sansio"
    make_app = None  # each test brings its own


class Site:
    def __init__(self, trail, url):
        self.trail, self.url = trail, url.replace("http:", "ws:")

    def events(self, count):
        """Of the sockets since the last look, once there are so many."""

        def new():
            told = [event for event in self.trail.events(newest_first=False) if event.action.startswith("websocket.")]
            return told[self.seen :]

        assert wait_until(lambda: len(new()) >= count), new()
        found = new()
        self.seen += len(found)
        assert len(found) == count, found
        return found

    seen = 0


@pytest.fixture(scope="module", params=[fastapi_app, starlette_app])
def site(request, tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('sockets')}/clinic.db"
    with AuditTrail(url, lifecycle=False) as trail, Sockets().serve_app(request.param(trail)) as address:
        yield Site(trail, address)


def test_one_that_the_server_closes_has_its_code_and_its_duration(site):
    with connect(f"{site.url}/rooms/7?token=hunter2") as client:
        (opened,) = site.events(1)
        assert client.response.headers["X-Request-ID"] == opened.request_id
        client.send("close")
        with pytest.raises(ConnectionClosed):
            client.recv()
    (closed,) = site.events(1)
    for event in (opened, closed):
        assert (event.outcome, event.actor_id, event.resource_type, event.resource_id) == (
            "success", "dr-grey", "room", "7",
        )  # fmt: skip
        assert "hunter2" not in repr(event)
    assert closed.details["code"] == 4000
    assert isinstance(closed.details["duration_ms"], int)


def test_one_that_the_client_closes_has_the_clients_code(site):
    with connect(f"{site.url}/rooms/7") as client:
        client.close(4001, "goodbye")
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["code"]) == ("success", 4001)


def test_one_that_is_closed_because_its_first_message_has_a_wrong_token_is_denied(site):
    with connect(f"{site.url}/rooms/7") as client:
        client.send("token")
        with pytest.raises(ConnectionClosed):
            client.recv()
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["code"]) == ("denied", 1008)
    with connect(f"{site.url}/rooms/7") as client:
        client.close(1008)
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["code"]) == ("success", 1008), "a client denies nobody anything"


@pytest.mark.parametrize(
    ("said", "outcome"), [("nothing", "success"), ("denied", "denied"), ("failure", "failure"), ("success", "failure")]
)
def test_what_is_said_of_the_opening_is_not_said_of_the_end_and_a_code_of_failure_is_one(site, said, outcome):
    with connect(f"{site.url}/judged") as client:
        client.send(said)
        with pytest.raises(ConnectionClosed):
            client.recv()
    assert [event.outcome for event in site.events(2)] == ["denied", outcome]


def test_a_goodbye_that_a_task_of_a_group_hears_is_no_failure(site):
    with connect(f"{site.url}/shared") as client:
        client.close(4001)
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["code"]) == ("success", 4001)
    assert "exception" not in closed.details


def test_one_whose_client_is_cut_off_has_ended_without_a_word(site):
    with connect(f"{site.url}/rooms/7") as client:
        client.send("hello")
        assert client.recv() == "hello"
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.shutdown(socket.SHUT_RDWR)
    _, closed = site.events(2)
    assert closed.outcome == "success"
    assert closed.details["code"] in {1005, 1006}, "whichever the server says"


def test_one_whose_application_just_returns_has_ended_without_a_word(site):
    with connect(f"{site.url}/rooms/7") as client:
        client.send("return")
        with pytest.raises(ConnectionClosed):
            client.recv()
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["code"]) == ("success", 1006)


def test_one_whose_application_raises_is_a_failure_with_its_type_but_not_its_text(site):
    with connect(f"{site.url}/rooms/7") as client:
        client.send("raise")
        with pytest.raises(ConnectionClosed):
            client.recv()
    _, closed = site.events(2)
    assert (closed.outcome, closed.details["exception"]) == ("failure", "ValueError")
    assert "hunter2" not in repr(closed)


@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [
        ("/forbidden", 403, "denied"),
        ("/denied", 401, "denied"),
        ("/refusing", 404, "failure"),
        ("/no/such/path", 403, "denied"),
        ("/raising", 500, "failure"),
    ],
)
def test_one_that_is_refused_leaves_one_event_with_what_the_client_got(site, path, status, outcome):
    with pytest.raises(InvalidStatus) as refused, connect(f"{site.url}{path}"):
        pass
    (event,) = site.events(1)
    assert refused.value.response.status_code == status
    assert (event.action, event.details["status"], event.outcome) == ("websocket.open", status, outcome)
    assert "hunter2" not in repr(event)


def test_one_that_is_open_when_the_server_stops_has_its_end(tmp_path):
    trail = AuditTrail(f"sqlite:///{tmp_path}/clinic.db")
    with ExitStack() as afterwards, Sockets().serve_app(fastapi_app(trail)) as url:
        client = afterwards.enter_context(connect(f"{url.replace('http:', 'ws:')}/rooms/7"))
        client.send("hello")
        assert client.recv() == "hello"
    with AuditTrail(trail.url, lifecycle=False, create=False) as again:
        told = [event.action for event in sorted(again.events(), key=lambda event: event.sequence)]
        closed = next(again.events(action="websocket.close"))
    assert told[-3:] == ["websocket.open", "websocket.close", "trail.stopped"]
    assert closed.details["code"] == 1012, "RFC 6455's registry: the service restarts"


def test_a_request_for_an_upgrade_that_is_none_breaks_nothing(site):
    parts = urlsplit(site.url)
    for headers in (b"Sec-WebSocket-Version: 99\r\n", b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"):
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
            start = b"GET /rooms/7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            connection.sendall(start + headers + b"\r\n")
            assert b" 500" not in connection.makefile("rb").readline()
    site.events(0)


def test_a_goodbye_that_cannot_be_said_any_more_is_none():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    async def send(message):
        if message["type"] == "websocket.close":
            raise OSError("the client is gone")

    async def receive():
        return {"type": "websocket.connect"}

    with AuditTrail("memory:", lifecycle=False) as trail:
        with pytest.raises(OSError, match="gone"):
            asyncio.run(AuditMiddleware(app, trail=trail)({"type": "websocket", "path": "/"}, receive, send))
        trail.flush()
        (closed,) = trail.events(action="websocket.close")
    assert (closed.outcome, closed.details["code"]) == ("failure", 1006)


async def echo(scope, receive, send):
    """An application beside Django, which serves no WebSockets itself."""
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/forbidden":
        await send({"type": "websocket.close"})
        return
    scope["user"] = {"id": "dr-grey"}
    await send({"type": "websocket.accept"})
    message = await receive()
    await send({"type": "websocket.close", "code": 4000 if message.get("text") == "close" else 1000})


def django_app(trail):
    from tests.adapters.django_app import make_app
    from tests.adapters.servers import Probe

    django, sockets = make_app(trail, Probe(), asgi=True), AuditMiddleware(echo, trail=trail)

    async def application(scope, receive, send):
        await (sockets if scope["type"] == "websocket" else django)(scope, receive, send)

    return application


class SocketsBesideDjango(Sockets):
    lifespan = "off"


def test_those_of_an_application_that_stands_beside_django_are_told_and_its_requests_once(tmp_path):
    with (
        AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail,
        SocketsBesideDjango().serve_app(django_app(trail)) as url,
    ):
        site = Site(trail, url)
        with connect(f"{site.url}/rooms/7") as client:
            client.send("close")
            with pytest.raises(ConnectionClosed):
                client.recv()
        opened, closed = site.events(2)
        assert (opened.actor_id, opened.outcome, opened.details["path"]) == ("dr-grey", "success", "/rooms/7")
        assert (closed.actor_id, closed.details["code"]) == ("dr-grey", 4000)
        with pytest.raises(InvalidStatus), connect(f"{site.url}/forbidden"):
            pass
        (refused,) = site.events(1)
        assert (refused.outcome, refused.details["status"]) == ("denied", 403)
        httpx.post(f"{url}/patients")
        assert [event.action for event in trail.events(action="POST /patients")] == ["POST /patients"]


def test_a_user_whom_a_middleware_adds_to_a_copy_of_the_scope_is_seen_from_inside(tmp_path):
    """As Channels does it."""

    def named(app):
        async def copying(scope, receive, send):
            await app({**scope, "user": {"id": "dr-copy"}}, receive, send)

        return copying

    async def room(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    with (
        AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail,
        SocketsBesideDjango().serve_app(named(AuditMiddleware(room, trail=trail))) as url,
    ):
        site = Site(trail, url)
        with connect(f"{site.url}/rooms/7") as client, pytest.raises(ConnectionClosed):
            client.recv()
        assert {event.actor_id for event in site.events(2)} == {"dr-copy"}


@pytest.mark.parametrize("audited", [False, True])
def test_to_django_itself_one_is_answered_as_it_is_without_us(tmp_path, audited):
    from tests.adapters.django_app import make_app, make_plain_app
    from tests.adapters.servers import Probe

    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        app = (make_app if audited else make_plain_app)(trail, Probe(), asgi=True)
        with (
            SocketsBesideDjango().serve_app(app) as url,
            pytest.raises(InvalidStatus) as refused,
            connect(f"{url.replace('http:', 'ws:')}/rooms/7"),
        ):
            pass
    assert refused.value.response.status_code == 500
