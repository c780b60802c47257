"""The application in FastAPI and in bare Starlette: its handlers look at all that a request has."""

from typing import Annotated, Any

from fastapi import Body, FastAPI, Header, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from audit_fastapi import AuditMiddleware

ALL = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def look(request):
    """What applications ask of a request; whatever hostile input breaks here breaks without us as well."""
    list(request.query_params.multi_items()), request.cookies, request.headers.items(), request.session
    return PlainTextResponse(str(len(str(request.url)) and "ok"))


def fastapi_app(trail):
    app = FastAPI()
    app.add_middleware(SessionMiddleware, secret_key="x")
    if trail is not None:
        app.add_middleware(AuditMiddleware, trail=trail)

    @app.api_route("/read/{number}", methods=ALL)
    def read(request: Request, number: int, x_actor: Annotated[str | None, Header()] = None):
        return look(request)

    @app.api_route("/files/{path:path}", methods=ALL)
    async def files(request: Request, path: str, number: int = 0):
        return look(request)

    @app.api_route("/json", methods=ALL)
    async def take_json(request: Request, given: Annotated[Any, Body()] = None):
        return look(request)

    @app.api_route("/whole", methods=ALL)
    async def whole(request: Request):
        await request.body()
        return look(request)

    @app.api_route("/unread", methods=ALL)
    async def unread():
        return "ok"

    @app.api_route("/refused", methods=ALL)
    async def refused():
        return PlainTextResponse("no", status_code=403)

    @app.api_route("/boom", methods=ALL)
    def boom():
        raise ValueError("password=hunter2")

    return app


def starlette_app(trail):
    async def files(request: StarletteRequest):
        return look(request)

    async def take_json(request):
        await request.json()
        return look(request)

    async def whole(request):
        await request.body()
        return look(request)

    def boom(request):
        raise ValueError("password=hunter2")

    def refused(request):
        return PlainTextResponse("no", status_code=403)

    audit = [] if trail is None else [Middleware(AuditMiddleware, trail=trail)]
    return Starlette(
        routes=[
            Route("/read/{number:int}", files, methods=ALL),
            Route("/files/{path:path}", files, methods=ALL),
            Route("/json", take_json, methods=ALL),
            Route("/whole", whole, methods=ALL),
            Route("/unread", lambda request: PlainTextResponse("ok"), methods=ALL),
            Route("/refused", refused, methods=ALL),
            Route("/boom", boom, methods=ALL),
        ],
        middleware=[*audit, Middleware(SessionMiddleware, secret_key="x")],
    )
