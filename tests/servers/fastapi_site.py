import os
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

from audit_fastapi import AuditMiddleware, set_actor
from tests.servers.notes import Note, sessions, trail_of_environment
from tests.servers.streams import aparts


def named(x_actor: Annotated[str, Header()]) -> None:
    set_actor(x_actor)


def make_app() -> FastAPI:
    trail = trail_of_environment()
    factory, app = sessions(trail), FastAPI()
    app.add_middleware(AuditMiddleware, trail=trail)

    @app.get("/health")
    async def health():
        return {"pid": os.getpid()}

    @app.post("/empty", status_code=201)
    async def empty():
        return {}

    @app.post("/notes/{number}", status_code=201, dependencies=[Depends(named)])
    def write(number: int, x_marker: Annotated[str, Header()]):
        with factory.begin() as session:
            session.add(Note(marker=x_marker))
        trail.record("note.written", details={"marker": x_marker})
        return {"number": number}

    @app.post("/large/{mebibytes}")
    async def large(mebibytes: int):
        return StreamingResponse(aparts(mebibytes))

    @app.post("/upload")
    async def upload(request: Request):
        total = 0
        async for part in request.stream():
            total += len(part)
        return PlainTextResponse(str(total))

    return app
