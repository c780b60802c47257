"""What a request costs in CPU, in one process without a server: what else runs on the machine weighs little on it.

    python -m benchmarks.request_cpu [--rounds 25]

* A FastAPI and a Flask application answer a GET that is not audited and a POST that is, with and without a trail in
  turn; no event is written. The least CPU of all rounds, in the thread that answers.
* 32 requests at once, whose application does nothing, leave their events on PostgreSQL: CPU for each of them by thread.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from flask import Flask

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware
from audit_flask import Audit

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
REQUESTS, AT_ONCE, EVENTS = 200, 32, 6_400


def scope_of(method: str) -> dict[str, Any]:
    return {
        "type": "http", "method": method, "path": "/patients/4711", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"clinic"), (b"user-agent", AGENT.encode()), (b"accept", b"*/*"), (b"cookie", b"a=b")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    """A client who listens to nothing."""


def fastapi(trail: AuditTrail | None) -> Callable[[str], object]:
    app, loop = FastAPI(), asyncio.new_event_loop()

    @app.api_route("/patients/{patient_id}", methods=["GET", "POST"])
    async def patient(patient_id: str) -> dict[str, bool]:
        return {"ok": True}

    if trail is not None:
        app.add_middleware(AuditMiddleware, trail=trail)

    async def many(method: str) -> None:
        for _ in range(REQUESTS):
            await app(scope_of(method), receive, send)

    return lambda method: loop.run_until_complete(many(method))


def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
    return bytes


def flask(trail: AuditTrail | None) -> Callable[[str], object]:
    app = Flask(__name__)

    @app.route("/patients/<patient_id>", methods=["GET", "POST"])
    def patient(patient_id: str) -> dict[str, bool]:
        return {"ok": True}

    if trail is not None:
        Audit(app, trail)

    def many(method: str) -> None:
        for _ in range(REQUESTS):
            environ = {
                "REQUEST_METHOD": method, "PATH_INFO": "/patients/4711", "SCRIPT_NAME": "", "QUERY_STRING": "",
                "SERVER_NAME": "clinic", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
                "HTTP_HOST": "clinic", "HTTP_USER_AGENT": AGENT, "HTTP_COOKIE": "a=b", "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True,
            }  # fmt: skip
            body = app(environ, start_response)
            list(body)
            body.close()  # type: ignore[attr-defined]

    return many


def answering(name: str, make: Callable[[AuditTrail | None], Callable[[str], object]], url: str, rounds: int) -> None:
    trail = AuditTrail(url, durable=False, lifecycle=False)
    trail._writer.submit = lambda _: Future()  # type: ignore[method-assign]  # noqa: SLF001
    variants = {"without": make(None), "with": make(trail)}
    for method in ("GET", "POST"):
        least = dict.fromkeys(variants, float("inf"))
        for _ in range(rounds):
            for variant, many in variants.items():
                began = time.thread_time()
                many(method)
                least[variant] = min(least[variant], (time.thread_time() - began) / REQUESTS * 1e6)
        without, extra = least["without"], least["with"] - least["without"]
        print(f"{name:8} {url.partition(':')[0]:7} {method:4} {without:4.0f} us without, {extra:+.0f} with", flush=True)


async def nothing(_: Any, __: Any, answer: Any) -> None:
    await answer({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await answer({"type": "http.response.body", "body": b"ok"})


async def recording(url: str, *, durable: bool) -> None:
    trail = AuditTrail(url, durable=durable)
    app = AuditMiddleware(nothing, trail=trail)

    async def client(requests: int) -> None:
        for _ in range(requests):
            await app(scope_of("POST"), receive, send)  # type: ignore[arg-type]

    await asyncio.gather(*(client(10) for _ in range(AT_ONCE)))
    before = cpu_by_thread()
    await asyncio.gather(*(client(EVENTS // AT_ONCE) for _ in range(AT_ONCE)))
    trail.flush(60)
    took = {name: (seconds - before.get(name, 0)) / EVENTS * 1e6 for name, seconds in cpu_by_thread().items()}
    figures = "  ".join(f"{name} {micro:.0f}" for name, micro in took.items())
    print(f"{'durable' if durable else 'buffered':9} us for each of {AT_ONCE} at once: {figures}", flush=True)
    trail.close()


def cpu_by_thread() -> dict[str, float]:
    """Seconds, as Linux counts them."""
    path = "/proc/self/task/{}/schedstat"
    return {t.name: int(Path(path.format(t.native_id)).read_text().split()[0]) / 1e9 for t in threading.enumerate()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    os.environ["AUDIT_STATE_DIR"] = folder = tempfile.mkdtemp()
    from tests.postgres.server import new_database

    for url in ("memory:", f"sqlite:///{folder}/clinic.db"):
        for name, make in (("fastapi", fastapi), ("flask", flask)):
            answering(name, make, url, rounds)
    for durable in (True, False):
        asyncio.run(recording(new_database(), durable=durable))


if __name__ == "__main__":
    main()
