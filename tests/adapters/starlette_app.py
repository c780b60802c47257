"""The application of ``servers.py`` in bare Starlette: a mount with a parameter, AuthenticationMiddleware."""

import asyncio

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware, add_details, audited, set_actor, set_outcome
from tests.adapters.servers import SECRET, Probe, aevents, alarge, fail

ALL = ["GET", "POST", "PUT", "DELETE"]


class Backend(AuthenticationBackend):
    async def authenticate(self, conn):
        if conn.url.path == "/late":
            return AuthCredentials(), SimpleUser("dr-late")
        return None


def make_app(trail: AuditTrail, probe: Probe) -> Starlette:  # noqa: C901 - a function for each route
    def ok(path, status=200):
        async def handler(request):
            probe.calls[path] += 1
            return JSONResponse(request.path_params, status_code=status)

        return handler

    async def delete(request):
        probe.calls["/patients/{patient_id}"] += 1
        return Response(status_code=204)

    async def add_note(request):
        probe.calls["/patients/{patient_id}/notes"] += 1
        if actor := request.headers.get("x-actor"):
            set_actor(actor)
        await asyncio.sleep(0.002)
        marker = request.headers.get("x-marker")
        await asyncio.to_thread(trail.record, "note.written", details={"marker": marker})
        return JSONResponse({}, status_code=201)

    def boom(request):
        probe.calls["/boom"] += 1
        fail()

    async def denied(request):
        probe.calls["/denied/{status}"] += 1
        return Response(status_code=request.path_params["status"])

    async def stream(request):
        probe.calls["/stream"] += 1

        async def body():
            yield b"first"
            await asyncio.to_thread(probe.release.wait, 10)
            yield b"second"

        return StreamingResponse(body())

    def live(request):
        return StreamingResponse(aevents(probe), media_type="text/event-stream")

    async def broken_stream(request):
        probe.calls["/broken-stream"] += 1

        async def body():
            yield b"first"
            raise RuntimeError(SECRET)

        return StreamingResponse(body())

    async def endless(request):
        probe.calls["/endless"] += 1

        async def body():
            for _ in range(1000):
                yield b"more"
                await asyncio.sleep(0.01)

        return StreamingResponse(body())

    async def cookies(request):
        probe.calls["/cookies"] += 1
        response = Response()
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def login(request):
        probe.calls["/login"] += 1
        set_actor("dr-grey")
        return Response()

    def contradiction(request):
        set_outcome("success")
        raise ValueError(SECRET)

    def acting(request):
        with trail.actor("importer", type="service"):
            set_outcome("denied")
            add_details(ward="7")
        return Response()

    def outcome(request):
        probe.calls["/outcome"] += 1
        set_outcome("denied")
        return Response()

    def details(request):
        probe.calls["/details"] += 1
        add_details(ward="7")
        return Response()

    async def own_id(request):
        probe.calls["/own-id"] += 1
        return Response(headers={"X-Request-ID": "from-the-application"})

    async def upload(request):
        probe.calls["/upload"] += 1
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
        return PlainTextResponse(str(total))

    async def background(request):
        probe.calls["/background"] += 1
        return Response(status_code=202, background=BackgroundTask(probe.calls.update, ["background"]))

    async def bad_background(request):
        def fail():
            raise RuntimeError(SECRET)

        return Response(status_code=202, background=BackgroundTask(fail))

    chart = audited("chart.read", resource="chart:{patient_id}")(ok("/patients/{patient_id}/chart"))
    routes = [
        Route("/patients", ok("/patients", 201), methods=["POST"]),
        Route("/patients/{patient_id:int}", ok("/patients/{patient_id}"), methods=["GET", "PUT"]),
        Route("/patients/{patient_id:int}", delete, methods=["DELETE"]),
        Mount(
            "/patients/{patient_id:int}",
            routes=[Route("/notes", add_note, methods=["POST"]), Route("/chart", chart)],
        ),
        Route("/reports/monthly", ok("/reports/monthly")),
        Route("/reports/live", live),
        Route("/health", ok("/health")),
        Route("/boom", boom, methods=ALL),
        Route("/denied/{status:int}", denied, methods=ALL),
        Route("/stream", stream, methods=["POST"]),
        Route("/broken-stream", broken_stream, methods=["POST"]),
        Route("/endless", endless, methods=["POST"]),
        Route("/large", lambda request: StreamingResponse(alarge(probe)), methods=["POST"]),
        Route("/cookies", cookies, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/late", ok("/late"), methods=["POST"]),
        Route("/outcome", outcome, methods=["POST"]),
        Route("/contradiction", contradiction, methods=["POST"]),
        Route("/acting", acting, methods=["POST"]),
        Route("/reset/{token}", ok("/reset/{token}"), methods=["POST"]),
        Route("/details", details, methods=["POST"]),
        Route("/own-id", own_id, methods=["POST"]),
        Route("/unread", ok("/unread"), methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/background", background, methods=["POST"]),
        Route("/bad-background", bad_background, methods=["POST"]),
    ]
    middleware = [Middleware(AuditMiddleware, trail=trail), Middleware(AuthenticationMiddleware, backend=Backend())]
    return Starlette(routes=routes, middleware=middleware)
