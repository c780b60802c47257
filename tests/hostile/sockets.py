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
from typing import NamedTuple
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from hypothesis import HealthCheck, Phase, given, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware
from tests.adapters.servers import Server, UvicornServer, wait_until
from tests.hostile.answers import END, OPENING, Owed, answers
from tests.hostile.frames import TOO_BIG, attacks, handshake

SILENCE = 0.05  # seconds after which a client leaves
PATIENCE = 30.0  # of whoever waits for an answer that must come
SECRET = "hunter2"
GOODBYES = {"WebSocketDisconnect", "WebSocketDisconnected"}  # or the handler hears of it first: as chance has it
_IGNORED = re.compile(rb"(?m)^(?:Content-Length|Transfer-Encoding|X-Any):")  # in a handshake, by websockets-sansio
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
        self.ws = ws
        self.more = {"ws_max_size": TOO_BIG - 1, "ws_ping_interval": None, "timeout_graceful_shutdown": 1}


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
            except BaseException as error:
                name = type(error).__name__
                raised = None if name in GOODBYES else name
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

    def __init__(self, ports, sockets, trail, pool, site):
        self._ports, self._sockets, self._trail, self._pool, self._site = ports, sockets, trail, pool, site
        self._last = None  # event that has been seen
        self.sent, self.arrived, self.codes = 0, Counter(), Counter()

    def check(self, attack):
        """It goes as it would without us, and each that reached the application has its opening and its end."""
        if self._site == "hypercorn":  # it never ends one whose frames come with the handshake, and breaks off
            head, end, frames = attack.pieces[0].partition(END)
            attack = replace(attack, pieces=(head + end, frames, *attack.pieces[1:]))
        self.sent += 1
        places = [len(each.ended) for each in self._sockets]
        plain, audited = self._pool.map(lambda port: exchange(port, attack, self._site), self._ports)
        ended = [each.since(place) for each, place in zip(self._sockets, places, strict=True)]
        events = self._new(ended[1])  # before anything fails: the next attack has its own
        assert plain.agrees(audited), (attack, plain, audited)
        assert audited.opens or not attack.pieces[0].startswith(handshake()), (attack, audited)
        assert ended[0] == ended[1], (attack, ended)
        assert Counter(map(_kind, events)) == _wanted(ended[1]), (attack, ended, events)
        assert len({event.request_id for event in events}) == len(ended[1]), (attack, events)
        assert SECRET not in repr(events), (attack, events)
        self.arrived.update(accepted for accepted, _ in ended[1])
        self.codes.update(event.details["code"] for event in events if _kind(event) == "close")

    def _new(self, ended):
        """The events of WebSockets since the last attack, once there are as many as there must be."""
        events = []

        def are_there():
            events[:] = self._trail.events(after=self._last, newest_first=False)
            return len(_of_sockets(events)) >= _wanted(ended).total()

        wait_until(are_there)
        if events:
            self._last = events[-1].event_id
        return _of_sockets(events)


def _of_sockets(events):
    return [event for event in events if event.action.startswith("websocket.")]


def _wanted(ended):
    kinds = Counter()
    for accepted, _ in ended:
        kinds.update(["open", "close"] if accepted else ["refused"])
    return kinds


def _kind(event):
    if event.action == "websocket.close":
        assert isinstance(event.details["code"], int), event
        assert isinstance(event.details["duration_ms"], int), event
        return "close"
    assert event.action == "websocket.open", event
    return "open" if event.details["status"] == 101 else "refused"


class Said(NamedTuple):
    """How many of its answers somebody has waited for, and all that has arrived."""

    answers: int
    data: bytes
    is_all: bool  # otherwise it is chance what else comes

    @property
    def opens(self):
        return self.answers > 0 and self.data.startswith(OPENING)

    def agrees(self, other):
        if self.is_all and other.is_all:
            return self == other
        longer, shorter = sorted((self.data, other.data), key=len, reverse=True)
        return self.answers == other.answers and longer.startswith(shorter)


class Talk:
    """One client: it sends the next piece once the last one has been answered."""

    def __init__(self, client, site):
        self._client, self._site = client, site
        self._said, self._sent, self.owed = bytearray(), b"", Owed()
        self._heard = 0

    def send(self, piece):
        """It may have been closed already; what it has said is there even so."""
        if self._sent:
            self.owed.add(piece)
        self._sent += piece
        with suppress(OSError):
            self._client.sendall(piece)

    def hear(self):
        """Until all that is owed is there or the server closes: of who leaves before, it is chance how far he comes."""
        while answers(self._said) < self._due() and self._read(PATIENCE):
            pass
        if not self._due():
            self._read(SILENCE)
        self._heard = min(answers(self._said), self._due())

    def hear_the_rest(self):
        while self._read(SILENCE):
            pass

    def said(self, attack):
        is_all = attack.leaving == "waits" and attack.pieces[0] == handshake() and self.owed.is_all
        return Said(self._heard, _OURS.sub(b"", self._said), is_all)

    def _due(self):
        if END not in self._sent or (self._site == "websockets" and _IGNORED.search(self._sent)):
            return 0
        return 1 + self.owed.count if answers(self._said) and self._said.startswith(OPENING) else 1

    def _read(self, seconds):
        """Whether anything comes: nothing does where the server has closed, or is silent for so long."""
        self._client.settimeout(seconds)
        part = b""
        with suppress(OSError):
            part = self._client.recv(65536)
        self._said += part
        self._client.settimeout(PATIENCE)
        return bool(part)


def exchange(port, attack, site):
    """What the server says to it; who leaves does so without waiting for an answer to his last frames."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        talk = Talk(client, site)
        for place, piece in enumerate(attack.pieces):
            talk.send(piece)
            if place == 0 or place < len(attack.pieces) - 1 or attack.leaving == "waits":
                talk.hear()
            if talk.owed.broken:
                break
        with suppress(OSError):
            if attack.leaving == "half":
                client.shutdown(socket.SHUT_WR)
            if attack.leaving == "resets":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if attack.leaving in {"waits", "half"}:
            talk.hear_the_rest()
        return talk.said(attack)


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
        yield Pair(ports, wrappers, trail, stack.enter_context(ThreadPoolExecutor(2)), name)
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
