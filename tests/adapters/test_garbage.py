"""A request leaves nothing to the garbage collector: its pauses would be everybody's."""

import asyncio
import gc
import io
import sys

from audit_core import AuditTrail
from tests.adapters.servers import Probe


def collected_after(requests):
    requests(20)  # whatever is made once
    gc.collect()
    gc.disable()
    try:
        requests(100)
        return gc.collect()
    finally:
        gc.enable()


def test_a_starlette_request_leaves_no_cycle_of_ours():
    from starlette.responses import PlainTextResponse

    from audit_fastapi import AuditMiddleware

    async def answer(scope, receive, send):
        await PlainTextResponse("ok")(scope, receive, send)

    async def call(app, count, method):
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            pass

        for _ in range(count):
            scope = {"type": "http", "method": method, "path": "/", "headers": [], "client": ("127.0.0.1", 1)}
            await app(scope, receive, send)

    with AuditTrail("memory:") as trail:
        app = AuditMiddleware(answer, trail=trail)
        assert collected_after(lambda count: asyncio.run(call(app, count, "GET"))) < 100


def test_a_django_request_leaves_no_cycle_of_ours():
    from tests.adapters.django_app import make_app, make_plain_app

    def call(app, count):
        for _ in range(count):
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/health", "wsgi.input": io.BytesIO()}
            app(environ, lambda status, headers: None).close()

    async def acall(app, count):
        for _ in range(count):
            told = [{"type": "http.request", "body": b""}]

            async def receive(told=told):
                return told.pop() if told else await asyncio.sleep(60)

            async def send(message):
                pass

            await app({"type": "http", "method": "GET", "path": "/health", "headers": []}, receive, send)

    with AuditTrail("memory:") as trail:
        for asgi, requests in ((False, call), (True, lambda app, count: asyncio.run(acall(app, count)))):
            counts = []
            for make in (make_plain_app, make_app):
                app = make(trail, Probe(), asgi=asgi)
                counts.append(collected_after(lambda count, app=app, requests=requests: requests(app, count)))
            without_us, with_us = counts
            # From 3.12 on each of Django's own cycles under ASGI also holds the frame of ours that called it, and the
            # four objects that it refers to.
            theirs = 5 * 100 if asgi and sys.version_info >= (3, 12) else 0
            assert with_us < without_us + theirs + 100


def test_a_flask_request_leaves_no_cycle_of_ours():
    from flask import Flask

    from audit_flask import Audit

    def call(app, count):
        for _ in range(count):
            app.test_client().get("/").close()

    plain, audited = Flask("plain"), Flask("audited")
    for app in (plain, audited):
        app.add_url_rule("/", view_func=lambda: "ok", endpoint="root")
    with AuditTrail("memory:") as trail:
        Audit(audited, trail)
        without_us = collected_after(lambda count: call(plain, count))
        assert collected_after(lambda count: call(audited, count)) < without_us + 100
