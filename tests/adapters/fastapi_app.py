"""The application of ``servers.py`` in FastAPI: included routers, path converters, synchronous dependencies."""

import asyncio
import os
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Request, Response
from fastapi.responses import StreamingResponse

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware, add_details, audited, set_actor, set_outcome
from tests.adapters.servers import SECRET, Probe, aevents, alarge, fail

Marked = Annotated[str | None, Header()]
ALL = ["GET", "POST", "PUT", "DELETE"]


def log_in() -> None:
    set_actor("dr-grey")


def make_app(trail: AuditTrail, probe: Probe) -> FastAPI:  # noqa: C901 - a function for each route
    app = FastAPI()
    app.add_middleware(AuditMiddleware, trail=trail)
    notes = APIRouter()
    patients = APIRouter(prefix="/patients")

    @notes.post("/{patient_id}/notes", status_code=201)
    async def add_note(patient_id: int, x_actor: Marked = None, x_marker: Marked = None):
        probe.calls["/patients/{patient_id}/notes"] += 1
        if x_actor:
            set_actor(x_actor)
        await asyncio.sleep(0.002)
        await asyncio.to_thread(trail.record, "note.written", details={"marker": x_marker})
        return {"id": patient_id}

    @notes.get("/{patient_id:int}/chart")
    @audited("chart.read", resource="chart:{patient_id}")
    def read_chart(patient_id: int):
        probe.calls["/patients/{patient_id}/chart"] += 1
        return {"id": patient_id}

    patients.include_router(notes)

    @patients.post("", status_code=201)
    async def create():
        probe.calls["/patients"] += 1
        return {"id": 1}

    @patients.get("/{patient_id:int}")
    @patients.put("/{patient_id:int}")
    async def one(patient_id: int):
        probe.calls["/patients/{patient_id}"] += 1
        return {"id": patient_id}

    @patients.delete("/{patient_id:int}", status_code=204)
    async def delete(patient_id: int):
        probe.calls["/patients/{patient_id}"] += 1

    app.include_router(patients)

    @app.get("/reports/monthly")
    @app.get("/health")
    async def fixed():
        return {}

    @app.api_route("/boom", methods=ALL)
    def boom():
        probe.calls["/boom"] += 1
        fail()

    @app.api_route("/denied/{status}", methods=ALL)
    async def denied(status: int):
        probe.calls["/denied/{status}"] += 1
        return Response(status_code=status)

    @app.post("/stream")
    async def stream():
        probe.calls["/stream"] += 1

        async def body():
            yield b"first"
            await asyncio.to_thread(probe.release.wait, 10)
            yield b"second"

        return StreamingResponse(body())

    @app.post("/large")
    def stream_large():
        return StreamingResponse(alarge(probe))

    @app.get("/reports/live")
    def live():
        return StreamingResponse(aevents(probe), media_type="text/event-stream")

    @app.post("/broken-stream")
    async def broken_stream():
        probe.calls["/broken-stream"] += 1

        def body():
            yield b"first"
            raise RuntimeError(SECRET)

        return StreamingResponse(body())

    @app.post("/endless")
    async def endless():
        probe.calls["/endless"] += 1

        async def body():
            for _ in range(1000):
                yield b"more"
                await asyncio.sleep(0.01)

        return StreamingResponse(body())

    @app.post("/cookies")
    async def cookies(response: Response):
        probe.calls["/cookies"] += 1
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return {}

    @app.post("/login", dependencies=[Depends(log_in)])
    async def login():
        probe.calls["/login"] += 1
        return {}

    @app.post("/late")
    async def late(request: Request):
        probe.calls["/late"] += 1
        request.state.user = {"id": "dr-late"}
        return {}

    @app.post("/outcome")
    async def outcome():
        probe.calls["/outcome"] += 1
        set_outcome("denied")
        return {}

    @app.post("/contradiction")
    async def contradiction():
        set_outcome("success")
        raise ValueError(SECRET)

    @app.post("/acting")
    async def acting():
        with trail.actor("importer", type="service"):
            set_outcome("denied")
            add_details(ward="7")
        return {}

    @app.post("/reset/{token}")
    async def reset(token: str):
        return {}

    @app.post("/details")
    async def details():
        probe.calls["/details"] += 1
        add_details(ward="7")
        return {}

    @app.post("/own-id")
    async def own_id(response: Response):
        probe.calls["/own-id"] += 1
        response.headers["X-Request-ID"] = "from-the-application"
        return {}

    @app.post("/unread")
    async def unread():
        probe.calls["/unread"] += 1
        return {}

    @app.post("/upload")
    async def upload(request: Request):
        probe.calls["/upload"] += 1
        total = 0
        async for chunk in request.stream():
            total += len(chunk)
        return Response(str(total))

    @app.post("/background", status_code=202)
    async def background(tasks: BackgroundTasks):
        probe.calls["/background"] += 1
        tasks.add_task(probe.calls.update, ["background"])

    @app.post("/bad-background", status_code=202)
    async def bad_background(tasks: BackgroundTasks):
        def fail():
            raise RuntimeError(SECRET)

        tasks.add_task(fail)

    return app


def from_environment() -> FastAPI:
    """For a server in a process of its own."""
    return make_app(AuditTrail(os.environ["AUDIT_URL"]), Probe())
