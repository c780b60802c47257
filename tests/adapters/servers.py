"""One framework's application under one real server. Whoever adds a framework derives from one of these.

A class answers ``make_app(trail, probe)`` with the application that every framework has in the same form:

    POST   /patients                          201
    GET    /patients/{patient_id}             200, {"id": patient_id}; patient_id is an integer in the route
    PUT    /patients/{patient_id}             200
    DELETE /patients/{patient_id}             204
    POST   /patients/{patient_id}/notes       201; set_actor(the X-Actor header) where there is one, and then
                                              trail.record("note.written", details={"marker": the X-Marker header})
    GET    /patients/{patient_id}/chart       200; marked @audited("chart.read", resource="chart:{patient_id}")
    GET    /reports/monthly                   200
    GET    /health                            200
    ANY    /boom                              calls fail(), whose ValueError nobody handles
    ANY    /denied/{status}                   an empty response of that status (an integer)
    POST   /stream                            a stream: b"first", then a wait for probe.release, then b"second"
    POST   /broken-stream                     a stream: b"first", then RuntimeError(SECRET)
    POST   /endless                           a stream: b"more" (as bytes) every 10 ms, for ten seconds at most
    POST   /large                             a stream: LARGE_CHUNKS times one MiB, from large(probe) or alarge(probe)
    GET    /reports/live                      a stream of Server-Sent Events, one for each that stands in probe.ticks,
                                              until that is None: events(probe) or aevents(probe)
    POST   /cookies                           two Set-Cookie headers, a=1 and b=2
    POST   /login                             set_actor("dr-grey"), from a synchronous dependency where there are such
    POST   /late                              the framework's own way to say who it is, as late as it can be: "dr-late"
    POST   /outcome                           200 after set_outcome("denied")
    POST   /contradiction                     set_outcome("success"), and then ValueError(SECRET), which nobody handles
    POST   /acting                            200 after set_outcome("denied") and add_details(ward="7"), both inside of
                                              trail.actor("importer", type="service")
    POST   /reset/{token}                     200
    POST   /details                           200 after add_details(ward="7")
    POST   /own-id                            a response header X-Request-ID: from-the-application
    POST   /unread                            200, without having looked at the body
    POST   /upload                            200, the number of bytes in the body as text
    POST   /background                        202, and afterwards probe.calls["background"] += 1 (ASGI only)
    POST   /bad-background                    202, and afterwards RuntimeError(SECRET) (ASGI only)

Each handler counts itself with ``probe.calls[the path of its route] += 1``.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from audit_core import AuditTrail

SECRET = "the password is hunter2"
PATIENCE_SECONDS = 10.0
LARGE_CHUNKS = 256
_CHUNK = bytes(2**20)


def fail() -> None:
    """Raise a ValueError that has a secret wherever an exception can have one."""
    error = ValueError(SECRET, {"password": SECRET})
    error.add_note(SECRET)
    try:
        raise ExceptionGroup(SECRET, [KeyError(SECRET)])  # noqa: TRY301 - to be the cause
    except ExceptionGroup as cause:
        raise error from cause


@dataclass
class Probe:
    """What a test sees of the application, and says to it."""

    calls: Counter[str] = field(default_factory=Counter)
    release: threading.Event = field(default_factory=threading.Event)
    ticks: queue.Queue[int | None] = field(default_factory=queue.Queue)


def large(probe: Probe) -> Iterator[bytes]:
    """More than anybody should keep in memory."""
    for _ in range(LARGE_CHUNKS):
        probe.calls["chunk"] += 1
        yield _CHUNK


async def alarge(probe: Probe) -> AsyncIterator[bytes]:
    """The same, under ASGI."""
    for chunk in large(probe):
        yield chunk


def events(probe: Probe) -> Iterator[bytes]:
    """Each as soon as there is something to tell."""
    while (tick := probe.ticks.get(timeout=PATIENCE_SECONDS)) is not None:
        yield b"data: %d\n\n" % tick


async def aevents(probe: Probe) -> AsyncIterator[bytes]:
    """The same, under ASGI."""
    while (tick := await asyncio.to_thread(probe.ticks.get, timeout=PATIENCE_SECONDS)) is not None:
        yield b"data: %d\n\n" % tick


class Server(ABC):
    name: str
    has_background = False  # whether the framework runs tasks after the response

    @abstractmethod
    def make_app(self, trail: AuditTrail, probe: Probe) -> Any:
        """The application of the table above, audited with ``trail``."""

    @abstractmethod
    def run(self, app: Any, listener: socket.socket) -> Iterator[None]:
        """Start serving, yield once it accepts requests, and stop in an orderly way; a generator."""

    @contextmanager
    def serve(self, trail: AuditTrail, probe: Probe) -> Iterator[str]:
        """The URL at which the application answers, for the length of the block."""
        with self.serve_app(self.make_app(trail, probe)) as url:
            yield url

    @contextmanager
    def serve_app(self, app: Any) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        with contextmanager(self.run)(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class UvicornServer(Server):
    has_background = True

    def run(self, app: Any, listener: socket.socket) -> Iterator[None]:
        import uvicorn

        # Uvicorn by itself believes X-Forwarded-For of a local peer: the trail is to decide that.
        config = uvicorn.Config(
            app, http=self.http, log_level=60, lifespan=self.lifespan, proxy_headers=False, ws=self.ws, **self.more
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive())
            yield
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)

    lifespan, ws = "on", "none"
    http: Any = "h11"
    more: Mapping[str, Any] = MappingProxyType({})


class WaitressServer(Server):
    def run(self, app: Any, listener: socket.socket) -> Iterator[None]:
        from waitress import wasyncore
        from waitress.server import create_server

        watched: dict[int, Any] = {}
        server = create_server(
            app, map=watched, sockets=[listener], threads=16, clear_untrusted_proxy_headers=False, ident=None
        )
        stopping = threading.Event()

        def loop() -> None:
            while not stopping.is_set():
                wasyncore.loop(timeout=0.05, map=watched, use_poll=True, count=1)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(PATIENCE_SECONDS)
            server.task_dispatcher.shutdown()
            wasyncore.close_all(watched)


def wait_until(condition: Any, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether the condition came true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return False
