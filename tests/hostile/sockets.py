"""The same frames to the same application, with an audit and without one, under each server that speaks WebSocket."""

import asyncio
import logging
import os
import re
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from hypothesis import HealthCheck, Phase, given, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware
from tests.adapters.servers import Server, UvicornServer, wait_until
from tests.hostile.frames import TOO_BIG, attacks, handshake

SILENCE = 0.05  # seconds after which a client leaves
HANDSHAKE = 1.0  # in which a server answers a bad one, or never
PATIENCE = 30.0  # of whoever waits for an answer that must come
SECRET = "hunter2"
_OURS = re.compile(rb"(?im)^(?:date|x-request-id):[^\r\n]*\r\n")


async def room(websocket: WebSocket):
    """Says again what it is told."""
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) == "close":
            await websocket.close(4000)
        elif text is not None:
            await websocket.send_text(text)
        else:
            await websocket.send_bytes(message["bytes"])


async def forbidden(websocket: WebSocket):
    await websocket.close()


async def denied(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("log in first", 401))


async def raising(websocket: WebSocket):
    raise ValueError(SECRET)


async def falling(websocket: WebSocket):
    await websocket.accept()
    raise ValueError(SECRET)


ROUTES = {
    "/rooms/{room:path}": room,
    "/forbidden": forbidden,
    "/denied": denied,
    "/raising": raising,
    "/falling": falling,
}


def fastapi_app(*middleware):
    app = FastAPI(middleware=middleware)
    for path, endpoint in ROUTES.items():
        app.add_api_websocket_route(path, endpoint)
    return app


def starlette_app(*middleware):
    return Starlette(routes=[WebSocketRoute(*route) for route in ROUTES.items()], middleware=middleware)


class Uvicorn(UvicornServer):
    lifespan = "off"
    make_app = None

    def __init__(self, ws):
        self.ws, self.more = ws, {"ws_max_size": TOO_BIG - 1, "timeout_graceful_shutdown": 1}


class Hypercorn(Server):
    make_app = None

    def run(self, app, listener):
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        config, ends, loops = Config(), asyncio.Event(), []
        config.bind, config.websocket_max_message_size = [f"fd://{os.dup(listener.fileno())}"], TOO_BIG - 1
        config.errorlog, config.graceful_timeout = logging.getLogger("hostile"), 1
        config.errorlog.disabled = True

        async def main():
            loops.append(asyncio.get_running_loop())
            loops[0].set_exception_handler(lambda *_: None)  # wsproto raises where a header is not ASCII
            await serve(app, config, shutdown_trigger=ends.wait, mode="asgi")

        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        with listener:
            try:
                assert wait_until(lambda: loops)
                yield
            finally:
                loops[0].call_soon_threadsafe(ends.set)
                thread.join()


class Sockets:
    """A wrapper around the application: which have reached it, whether it accepted them, and what it raised."""

    def __init__(self):
        self.running, self.ended = 0, []

    def around(self, app):
        async def wrapped(scope, receive, send):
            if scope["type"] != "websocket":
                await app(scope, receive, send)
                return
            accepted, raised = False, None

            async def sending(message):
                nonlocal accepted
                accepted = accepted or message["type"] == "websocket.accept"
                await send(message)

            self.running += 1
            try:
                await app(scope, receive, sending)
            except WebSocketDisconnect:  # or the handler hears of it first: as chance has it
                raise
            except BaseException as error:
                raised = type(error).__name__
                raise
            finally:
                self.ended.append((accepted, raised))
                self.running -= 1

        return wrapped

    def since(self, place):
        """Those that have ended since, once none is running."""
        assert wait_until(lambda: not self.running, PATIENCE), "one never ends"
        return self.ended[place:]


class Pair:
    """One application twice, and what it has been told so far."""

    def __init__(self, ports, sockets, trail, *, whole):
        """``whole``: whether frames may come in one piece with the handshake."""
        self._ports, self._sockets, self._trail, self._whole = ports, sockets, trail, whole
        self._pool = ThreadPoolExecutor(2)
        self._seen, self._counted = set(), 0
        self.sent, self.arrived, self.codes = 0, Counter(), Counter()

    def check(self, attack):
        """It goes as it would without us, and each that reached the application has its opening and its end."""
        if not self._whole:
            head, end, frames = attack.pieces[0].partition(b"\r\n\r\n")
            attack = replace(attack, pieces=(head + end, frames, *attack.pieces[1:]))
        self.sent += 1
        places = [len(each.ended) for each in self._sockets]
        plain, audited = self._pool.map(lambda port: exchange(port, attack), self._ports)
        ended = [each.since(place) for each, place in zip(self._sockets, places, strict=True)]
        assert plain.startswith(audited) or audited.startswith(plain), (attack, plain, audited)
        assert ended[0] == ended[1], (attack, ended)
        self.arrived.update(accepted for accepted, _ in ended[1])
        self._told(attack, ended[1])

    def _told(self, attack, ended):
        wanted = Counter()
        for accepted, _ in ended:
            wanted.update(["open", "close"] if accepted else ["refused"])

        def told():
            events = [event for event in self._trail.events() if event.action.startswith("websocket.")]
            return [event for event in events if event.event_id not in self._seen]

        assert wait_until(lambda: len(told()) >= wanted.total()), (attack, ended, told())
        events = told()
        self._seen |= {event.event_id for event in events}
        assert Counter(map(_kind, events)) == wanted, (attack, ended, events)
        assert len({event.request_id for event in events}) == len(ended), (attack, events)
        assert SECRET not in repr(events), (attack, events)
        self.codes.update(event.details["code"] for event in events if _kind(event) == "close")


def _kind(event):
    if event.action == "websocket.close":
        assert isinstance(event.details["code"], int), event
        assert isinstance(event.details["duration_ms"], int), event
        return "close"
    assert event.action == "websocket.open", event
    return "open" if event.details["status"] == 101 else "refused"


def exchange(port, attack):
    """What the server answers; how much of it arrives before somebody leaves is chance."""
    said = bytearray()
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        for place, piece in enumerate(attack.pieces):
            client.sendall(piece)
            if place == 0:
                said += _read(client, _seconds(piece))
        if attack.leaving == "half":
            client.shutdown(socket.SHUT_WR)
        if attack.leaving == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        while attack.leaving in {"waits", "half"} and (part := _read(client, SILENCE)):
            said += part
    return _OURS.sub(b"", bytes(said))


def _seconds(start):
    """How long to wait for the first answer: of whoever leaves before it, nobody knows how far he comes."""
    if start.startswith(handshake()):
        return PATIENCE
    return HANDSHAKE if b"\r\n\r\n" in start else SILENCE


def _read(client, seconds):
    """What comes next; nothing where the server closes, or is silent for so long."""
    client.settimeout(seconds)
    try:
        return client.recv(65536)
    except TimeoutError:
        return b""
    finally:
        client.settimeout(PATIENCE)


@contextmanager
def paired(name):
    """Afterwards the servers have stopped, everything is sealed, and the trail is verified."""
    server, make_app = (SITES | SLOW)[name]
    wrappers = Sockets(), Sockets()
    with ExitStack() as stack:
        trail = stack.enter_context(AuditTrail("memory:", lifecycle=False))
        audit = Middleware(AuditMiddleware, trail=trail)
        apps = wrappers[0].around(make_app()), wrappers[1].around(make_app(audit))
        addresses = [stack.enter_context(server.serve_app(app)) for app in apps]
        ports = [urlsplit(address).port for address in addresses]
        yield Pair(ports, wrappers, trail, whole=name != "hypercorn")  # it never ends one that comes so, and breaks off
        assert not trail.verify().findings


SITES = {
    "websockets": (Uvicorn("websockets-sansio"), fastapi_app),
    "wsproto": (Uvicorn("wsproto"), starlette_app),
    "hypercorn": (Hypercorn(), fastapi_app),
}
SLOW = {"websockets-legacy": (Uvicorn("websockets"), starlette_app)}  # waits many seconds for who has left


def fuzz(pair, examples, *, repeatable):
    """So many, the same ones each time if they are to be repeatable."""

    @settings(
        max_examples=examples,
        derandomize=repeatable,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(attacks())
    def check(attack):
        pair.check(attack)

    check()
