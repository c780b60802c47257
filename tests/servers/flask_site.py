import os

from flask import Flask, request

from audit_flask import Audit, set_actor
from tests.servers.notes import Note, sessions, trail_of_environment


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

    return app
