import os

from flask import Flask, Response, request

from audit_flask import Audit, set_actor
from tests.servers.notes import Note, sessions, trail_of_environment
from tests.servers.streams import parts


def make_app() -> Flask:
    trail = trail_of_environment()
    factory, app = sessions(trail), Flask("notes")
    Audit(app, trail)

    @app.get("/health")
    def health():
        return {"pid": os.getpid()}

    @app.post("/empty")
    def empty():
        return {}, 201

    @app.post("/notes/<int:number>")
    def write(number):
        marker = request.headers["X-Marker"]
        set_actor(request.headers["X-Actor"])
        with factory.begin() as session:
            session.add(Note(marker=marker))
        trail.record("note.written", details={"marker": marker})
        return {"number": number}, 201

    @app.post("/large/<int:mebibytes>")
    def large(mebibytes):
        return Response(parts(mebibytes))

    @app.post("/upload")
    def upload():
        return str(sum(len(part) for part in iter(lambda: request.stream.read(65536), b"")))

    return app
