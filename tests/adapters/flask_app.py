"""The application of ``servers.py`` in Flask: a blueprint, converters, Flask-Login's place in ``g``."""

import os
import time
from types import SimpleNamespace

from flask import Blueprint, Flask, Response, g, request, stream_with_context

from audit_core import AuditTrail
from audit_flask import Audit, add_details, audited, set_actor, set_outcome
from tests.adapters.servers import SECRET, Probe, events, fail, large

ALL = ["GET", "POST", "PUT", "DELETE"]


def make_app(trail: AuditTrail, probe: Probe) -> Flask:  # noqa: C901 - a function for each route
    app = Flask("clinic")
    app.logger.disabled = True
    Audit(app, trail)
    patients = Blueprint("patients", __name__, url_prefix="/patients")

    @patients.post("")
    def create():
        probe.calls["/patients"] += 1
        return {"id": 1}, 201

    @patients.route("/<int:patient_id>", methods=["GET", "PUT"])
    def one(patient_id):
        probe.calls["/patients/{patient_id}"] += 1
        return {"id": patient_id}

    @patients.delete("/<int:patient_id>")
    def delete(patient_id):
        probe.calls["/patients/{patient_id}"] += 1
        return "", 204

    @patients.post("/<int:patient_id>/notes")
    def add_note(patient_id):
        probe.calls["/patients/{patient_id}/notes"] += 1
        if actor := request.headers.get("X-Actor"):
            set_actor(actor)
        time.sleep(0.002)
        trail.record("note.written", details={"marker": request.headers.get("X-Marker")})
        return {}, 201

    @patients.get("/<int:patient_id>/chart")
    @audited("chart.read", resource="chart:{patient_id}")
    def read_chart(patient_id):
        probe.calls["/patients/{patient_id}/chart"] += 1
        return {}

    app.register_blueprint(patients)

    @app.get("/reports/monthly")
    @app.get("/health")
    def fixed():
        return {}

    @app.route("/boom", methods=ALL)
    def boom():
        probe.calls["/boom"] += 1
        fail()

    @app.route("/denied/<int:status>", methods=ALL)
    def denied(status):
        probe.calls["/denied/{status}"] += 1
        return "", status

    @app.post("/stream")
    def stream():
        probe.calls["/stream"] += 1

        def body():
            yield b"first"
            probe.release.wait(10)
            yield b"second"

        return Response(stream_with_context(body()))

    @app.post("/large")
    def stream_large():
        return Response(large(probe))

    @app.get("/reports/live")
    def live():
        return Response(events(probe), mimetype="text/event-stream")

    @app.post("/broken-stream")
    def broken_stream():
        probe.calls["/broken-stream"] += 1

        def body():
            yield b"first"
            raise RuntimeError(SECRET)

        return Response(body())

    @app.post("/endless")
    def endless():
        probe.calls["/endless"] += 1

        def body():
            for _ in range(1000):
                yield b"more"
                time.sleep(0.01)

        return Response(body())

    @app.post("/cookies")
    def cookies():
        probe.calls["/cookies"] += 1
        response = Response()
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @app.post("/login")
    def login():
        probe.calls["/login"] += 1
        set_actor("dr-grey")
        return {}

    @app.post("/late")
    def late():
        probe.calls["/late"] += 1
        g._login_user = SimpleNamespace(is_authenticated=True, get_id=lambda: "dr-late")
        return {}

    @app.post("/outcome")
    def outcome():
        probe.calls["/outcome"] += 1
        set_outcome("denied")
        return {}

    @app.post("/contradiction")
    def contradiction():
        set_outcome("success")
        raise ValueError(SECRET)

    @app.post("/acting")
    def acting():
        with trail.actor("importer", type="service"):
            set_outcome("denied")
            add_details(ward="7")
        return {}

    @app.post("/reset/<token>")
    def reset(token):
        return {}

    @app.post("/details")
    def details():
        probe.calls["/details"] += 1
        add_details(ward="7")
        return {}

    @app.post("/own-id")
    def own_id():
        probe.calls["/own-id"] += 1
        return {}, 200, {"X-Request-ID": "from-the-application"}

    @app.post("/unread")
    def unread():
        probe.calls["/unread"] += 1
        return {}

    @app.post("/upload")
    def upload():
        probe.calls["/upload"] += 1
        return str(sum(len(chunk) for chunk in iter(lambda: request.stream.read(65536), b"")))

    return app


def from_environment() -> Flask:
    """For a server in a process of its own."""
    return make_app(AuditTrail(os.environ["AUDIT_URL"]), Probe())
