"""What other middlewares make of a request: another method, inside of ours, and another try, around it."""

import pytest
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from flask import Flask
from starlette.testclient import TestClient
from werkzeug.test import Client

from audit_core import AuditPolicy, AuditTrail
from audit_fastapi import AuditMiddleware, set_actor
from audit_flask import Audit
from tests.adapters.servers import Probe

OVERRIDE = "X-HTTP-Method-Override"


@pytest.fixture
def trail():
    with AuditTrail("memory:", lifecycle=False, policy=AuditPolicy(skip=["/old/*"])) as trail:
        yield trail


def told(trail):
    events = [event for event in trail.events(newest_first=False) if event.action != "log.created"]
    return [(event.action, event.details["method"], event.outcome, event.resource_id) for event in events]


class Exchanging:
    """As the method is exchanged for clients that know of GET and POST alone."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        for name, value in scope.get("headers", ()):
            if name == OVERRIDE.lower().encode():
                scope["method"] = value.decode()
        await self.app(scope, receive, send)


def exchanging(app):
    """The same for WSGI."""

    def called(environ, start_response):
        environ["REQUEST_METHOD"] = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE", environ["REQUEST_METHOD"])
        return app(environ, start_response)

    return called


def exchange(get_response):
    """The same for Django."""

    def middleware(request):
        request.method = request.headers.get(OVERRIDE, request.method)
        return get_response(request)

    return middleware


def fastapi_client(trail):
    app = FastAPI()
    app.add_middleware(Exchanging)
    app.add_middleware(AuditMiddleware, trail=trail)
    app.add_api_route("/patients/{patient_id}", lambda patient_id: {}, methods=["DELETE"])
    return TestClient(app)


def flask_client(trail):
    app = Flask("clinic")
    app.wsgi_app = exchanging(app.wsgi_app)
    Audit(app, trail)
    app.add_url_rule("/patients/<patient_id>", "delete", lambda patient_id: "", methods=["DELETE"])
    return Client(app)


def django_client(trail):
    from tests.adapters.django_app import make_plain_app

    lines = ("tests.adapters.django_app.audit", f"{__name__}.exchange")
    return Client(make_plain_app(trail, Probe(), *lines))


@pytest.mark.parametrize("make_client", [fastapi_client, flask_client, django_client])
@pytest.mark.parametrize("method", ["get", "post"])
def test_the_method_that_the_application_handles_is_the_one_that_counts(trail, make_client, method):
    getattr(make_client(trail), method)("/patients/7", headers={OVERRIDE: "DELETE"})
    assert told(trail) == [("DELETE /patients/{patient_id}", "DELETE", "success", "7")]


def failing_once():
    """A view that fails at first."""
    answers = iter([RuntimeError("the database took it back"), ""])

    def view():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    return view


def test_a_request_that_is_tried_again_around_us_leaves_an_event_for_each_try(trail):
    app = FastAPI()
    app.add_api_route("/x", failing_once(), methods=["POST"])
    audited = AuditMiddleware(app, trail=trail)

    async def again(scope, receive, send):
        async def discard(message):
            pass

        with pytest.raises(RuntimeError):
            await audited(scope, receive, discard)
        await audited(scope, receive, send)

    TestClient(again).post("/x")
    assert [outcome for *_, outcome, _ in told(trail)] == ["failure", "success"]


def test_a_wsgi_request_that_is_tried_again_around_us_leaves_an_event_for_each_try(trail):
    app = Flask("clinic")
    app.logger.disabled = True
    Audit(app, trail)
    app.add_url_rule("/x", "x", failing_once(), methods=["POST"])

    def again(environ, start_response):
        app(environ, lambda *_: None).close()
        return app(environ, start_response)

    Client(again).post("/x")
    assert [outcome for *_, outcome, _ in told(trail)] == ["failure", "success"]


def test_a_wsgi_try_that_is_dropped_unclosed_does_not_hide_the_next(trail):
    app = Flask("clinic")
    app.logger.disabled = True
    Audit(app, trail)
    app.add_url_rule("/x", "x", failing_once(), methods=["POST"])

    def again(environ, start_response):
        dropped = app(environ, lambda *_: None)
        answer = app(environ, start_response)
        dropped.close()
        return answer

    Client(again).post("/x")
    assert [outcome for *_, outcome, _ in told(trail)] == ["failure", "success"]


def test_a_flask_application_that_a_generator_calls_late_is_still_within_the_outer_one(trail):
    outer, inner = Flask("outer"), Flask("inner")
    inner.add_url_rule("/x", "x", lambda: "", methods=["POST"])
    Audit(inner, trail)

    def lazy(environ, start_response):
        start_response("200 OK", [])
        yield from inner(environ, lambda *_: None)

    outer.wsgi_app = lazy
    Audit(outer, trail)
    Client(outer).post("/x")
    assert [action for action, *_ in told(trail)] == ["POST (unrouted)"]


def test_of_a_flask_application_within_a_fastapi_one_its_own_event_may_be_the_only_one(trail):
    inner, outer = Flask("old"), FastAPI()
    Audit(inner, trail)

    @inner.post("/patients/<int:patient_id>")
    def change(patient_id):
        set_actor("dr-grey")
        return ""

    outer.mount("/old", WSGIMiddleware(inner))
    outer.add_middleware(AuditMiddleware, trail=trail)
    response = TestClient(outer).post("/old/patients/7")
    (event,) = (event for event in trail.events() if event.action != "log.created")
    assert (event.action, event.details["path"]) == ("POST /patients/{patient_id}", "/old/patients/7")
    assert (event.actor_id, event.request_id) == ("dr-grey", response.headers["X-Request-ID"])


def test_of_a_django_application_within_a_fastapi_one_its_own_event_may_be_the_only_one(trail):
    from tests.adapters.django_app import make_app

    outer = FastAPI()
    outer.mount("/old", make_app(trail, Probe(), asgi=True))
    outer.add_middleware(AuditMiddleware, trail=trail)
    response = TestClient(outer).post("/old/late")
    (event,) = (event for event in trail.events() if event.action != "log.created")
    assert (event.action, event.details["path"]) == ("POST /late", "/old/late")
    assert (event.actor_id, event.request_id) == ("dr-late", response.headers["X-Request-ID"])
