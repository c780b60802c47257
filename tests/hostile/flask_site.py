"""The same application in Flask."""

import os

from flask import Flask, request, session

from audit_core import AuditTrail
from audit_flask import Audit
from tests.hostile.arrivals import Arrivals
from tests.suites.everything import Everything

ALL = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def make_app(trail):
    app = Flask("hostile")
    app.secret_key = "x"
    app.logger.disabled = True
    if trail is not None:
        Audit(app, trail)

    def look(**parameters):
        request.args.to_dict(), request.cookies, dict(request.headers), request.url, dict(session), request.remote_addr
        return "ok"

    def take_json():
        request.get_json()
        return look()

    def form():
        request.form.to_dict(), request.files.to_dict()
        return look()

    def whole():
        request.get_data()
        return look()

    def boom():
        raise ValueError("password=hunter2")

    app.add_url_rule("/read/<int:number>", "read", look, methods=ALL)
    app.add_url_rule("/files/<path:path>", "files", look, methods=ALL)
    app.add_url_rule("/json", view_func=take_json, methods=ALL)
    app.add_url_rule("/form", view_func=form, methods=ALL)
    app.add_url_rule("/whole", view_func=whole, methods=ALL)
    app.add_url_rule("/unread", "unread", lambda: "ok", methods=ALL)
    app.add_url_rule("/refused", "refused", lambda: ("no", 403), methods=ALL)
    app.add_url_rule("/boom", view_func=boom, methods=ALL)
    return app


def from_environment():
    """For a server in a process of its own."""
    url = os.environ.get("AUDIT_URL")
    trail = AuditTrail(url, policy=Everything(), trusted_proxies=["127.0.0.1"], lifecycle=False) if url else None
    return Arrivals(os.environ["ARRIVALS"]).wsgi(make_app(trail))
