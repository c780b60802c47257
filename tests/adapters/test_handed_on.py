"""What other middlewares make of a request: another method, inside of ours, and another try, around it."""

from functools import partial

import pytest
from a2wsgi import WSGIMiddleware
from fastapi import FastAPI
from flask import Flask
from starlette.responses import PlainTextResponse
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


def request_ids(trail):
    return {event.request_id for event in trail.events() if event.action != "log.created"}


class Exchanging:
    """As the method is exchanged for clients that know of GET and POST alone."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        for name, value in scope.get("headers", ()):
            if name == OVERRIDE.lower().encode():
                scope["method"] = value.decode()
        await self.app(scope, receive, send)


class Copying(Exchanging):
    """The same as the ASGI specification asks for it: what is above does not see it."""

    async def __call__(self, scope, receive, send):
        await super().__call__(dict(scope), receive, send)


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


@pytest.mark.parametrize(("is_around", "counted"), [(True, ["DELETE", "DELETE"]), (False, ["POST"])])
def test_a_method_that_is_exchanged_in_a_copy_of_the_scope_counts_where_ours_is_inside(trail, is_around, counted):
    app = FastAPI()
    lines = [(AuditMiddleware, {"trail": trail}), (Copying, {})]
    for line, options in lines if is_around else reversed(lines):  # what is added last is outermost
        app.add_middleware(line, **options)
    app.add_api_route("/patients/{patient_id}", lambda patient_id: {}, methods=["DELETE"])
    for method in ("GET", "POST"):
        assert TestClient(app).request(method, "/patients/7", headers={OVERRIDE: "DELETE"}).status_code == 200
    assert [(action, method) for action, method, *_ in told(trail)] == [
        (f"{method} /patients/{{patient_id}}", method) for method in counted
    ]


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
    assert len(request_ids(trail)) == 1


def test_a_wsgi_request_that_is_tried_again_around_us_leaves_an_event_for_each_try(trail):
    app = Flask("clinic")
    app.logger.disabled = True
    Audit(app, trail)
    app.add_url_rule("/x", "x", failing_once(), methods=["POST"])

    def again(environ, start_response):
        app(environ, lambda *_: None).close()
        return app(environ, start_response)

    response = Client(again).post("/x")
    assert [outcome for *_, outcome, _ in told(trail)] == ["failure", "success"]
    assert request_ids(trail) == {response.headers["X-Request-ID"]}


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


def flask_inside(trail):
    app = Flask("old")
    Audit(app, trail)

    @app.post("/patients/<int:patient_id>")
    def change(patient_id):
        set_actor("dr-grey")
        return ""

    return WSGIMiddleware(app)


def django_inside(trail, *, asgi):
    from tests.adapters.django_app import HttpResponse, make_app_of, path

    def change(request, patient_id):
        set_actor("dr-grey")
        return HttpResponse()

    urls = [path("patients/<int:patient_id>", change)]
    app = make_app_of(trail, urls, "tests.adapters.django_app.audit", asgi=asgi)
    return app if asgi else WSGIMiddleware(app)


INSIDE = {
    "flask": flask_inside,
    "django": partial(django_inside, asgi=True),
    "django under a2wsgi": partial(django_inside, asgi=False),
}


class Guard:
    """Lets nobody in who brings no token."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        is_known = any(name == b"authorization" for name, _ in scope.get("headers", ()))
        await (self.app if is_known else PlainTextResponse(status_code=401))(scope, receive, send)


def mounted(trail, inside, path):
    outer = FastAPI()
    outer.mount(path, INSIDE[inside](trail))
    outer.add_middleware(Guard)
    outer.add_middleware(AuditMiddleware, trail=trail)
    return TestClient(outer, headers={"Authorization": "token"})


@pytest.mark.parametrize("inside", INSIDE)
def test_an_audited_application_within_a_fastapi_one_records_too_with_the_request_id_that_the_client_gets(
    trail, inside
):
    client = mounted(trail, inside, "/new")
    answers = [client.post("/new/patients/7").headers["X-Request-ID"] for _ in range(2)]
    assert len(set(answers)) == 2
    for answer in answers:
        inner, outer = (event for event in trail.events(newest_first=False) if event.request_id == answer)
        assert (inner.action, inner.actor_id) == ("POST /patients/{patient_id}", "dr-grey")
        assert (outer.action, outer.actor_id) == ("POST /new/{path}", None)
        assert inner.details["path"] == outer.details["path"] == "/new/patients/7"


@pytest.mark.parametrize("inside", INSIDE)
def test_of_an_audited_application_within_a_fastapi_one_its_own_event_may_be_the_only_one(trail, inside):
    client = mounted(trail, inside, "/old")
    response = client.post("/old/patients/7")
    (event,) = (event for event in trail.events() if event.action != "log.created")
    assert (event.action, event.details["path"]) == ("POST /patients/{patient_id}", "/old/patients/7")
    assert (event.actor_id, event.request_id) == ("dr-grey", response.headers["X-Request-ID"])


@pytest.mark.parametrize(("path", "outcomes"), [("/new", ["denied"]), ("/old", [])])
def test_who_leaves_a_mount_to_its_own_audit_is_not_told_of_what_is_answered_in_front_of_it(trail, path, outcomes):
    client = mounted(trail, "flask", path)
    del client.headers["Authorization"]
    assert client.post(f"{path}/patients/7").status_code == 401
    assert [outcome for *_, outcome, _ in told(trail)] == outcomes
