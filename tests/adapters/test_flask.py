import gc
from contextlib import suppress
from types import SimpleNamespace

import click
import httpx
import pytest
from flask import Blueprint, Flask, Response, g, redirect, session, stream_with_context
from flask.views import MethodView
from werkzeug.local import LocalProxy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, create_environ

from audit_core import AuditTrail
from audit_core.context import current
from audit_core.errors import ConfigurationError
from audit_core.process.account import account
from audit_core.reports import AuditReporter
from audit_flask import Audit, add_details, audited, set_actor, set_outcome
from tests.adapters.behaviour import Behaviour
from tests.adapters.flask_app import make_app
from tests.adapters.processes import running, sealed_and_stopped
from tests.adapters.servers import WaitressServer, wait_until


class FlaskServer(WaitressServer):
    name = "flask"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class TestFlask(Behaviour):
    server = FlaskServer()


@pytest.fixture
def trail():
    with AuditTrail("memory:", lifecycle=False) as trail:
        yield trail


@pytest.fixture
def app(trail):
    app = Flask("clinic")
    app.logger.disabled = True
    app.secret_key = "s"
    Audit(app, trail)
    return app


def events(trail):
    return [event for event in trail.events(newest_first=False) if not event.action.startswith(("log.", "trail."))]


@pytest.mark.parametrize("form", ["both", "later", "later still"])
def test_the_ways_to_say_it(trail, form):
    app = Flask("clinic")
    if form == "both":
        Audit(app, trail)
    elif form == "later":
        Audit(trail=trail).init_app(app)
    else:
        Audit().init_app(app, trail)
    app.test_client().post("/nowhere")
    assert [event.action for event in events(trail)] == ["POST (unrouted)"]


def test_a_missing_trail_and_a_second_audit_are_refused_with_the_cure(app, trail):
    with pytest.raises(ConfigurationError, match="needs a trail"):
        Audit(Flask("other"))
    with pytest.raises(ConfigurationError, match="audited already"):
        Audit(app, trail)


@pytest.mark.parametrize("way", [lambda given: Audit(Flask("x"), given), lambda given: Audit(trail=given),
                                 lambda given: Audit().init_app(Flask("x"), given)])  # fmt: skip
def test_a_url_in_the_place_of_a_trail_is_refused_without_its_password(way):
    with pytest.raises(ConfigurationError, match=r"not 'postgresql://.*: give trail=AuditTrail\(url\)") as refused:
        way("postgresql://clinic:hunter2@db/clinic")
    assert "hunter2" not in str(refused.value)


def test_without_a_key_the_application_does_not_start(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "file" / "state"))
    with AuditTrail("memory:", lifecycle=False) as trail, pytest.raises(ConfigurationError, match="AUDIT_STATE_DIR"):
        Audit(Flask("without"), trail)


@pytest.mark.parametrize(("status", "code"), [("Teapot", 0), ("299 Nearly", 299), ("1200 Beyond", 1200)])
def test_a_status_that_http_does_not_know_breaks_nothing(app, trail, status, code):
    app.add_url_rule("/tea", "tea", lambda: Response("x", status=status), methods=["POST"])
    assert app.test_client().post("/tea").status_code == code
    assert [event.details["status"] for event in events(trail)] == [code]


def test_several_applications_share_a_process(app, trail):
    with AuditTrail("memory:", lifecycle=False) as other_trail:
        other = Flask("other")
        Audit(other, other_trail)
        app.add_url_rule("/here/<int:here_id>", "here", lambda here_id: "", methods=["POST"])
        other.add_url_rule("/there", "there", lambda: 1 / 0, methods=["POST"])
        client = Client(DispatcherMiddleware(app, {"/mounted": other}))
        client.post("/here/7")
        client.post("/mounted/there")
        (here,), (there,) = events(trail), events(other_trail)
    assert (here.action, here.resource_id) == ("POST /here/{here_id}", "7")
    assert (there.action, there.details["path"]) == ("POST /there", "/mounted/there")
    assert there.details["exception"] == "ZeroDivisionError"


def test_an_application_that_is_mounted_in_another_records_a_request_once_for_each_trail(trail):
    with AuditTrail("memory:", lifecycle=False) as own_trail:
        outer = Flask("outer")
        inner = {"/both": Flask("both"), "/own": Flask("own")}
        for app in inner.values():
            app.add_url_rule("/<int:item_id>", "item", lambda item_id: "", methods=["POST"])
        Audit(inner["/both"], trail)
        Audit(inner["/own"], own_trail)
        outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, inner)
        Audit(outer, trail)
        client = Client(outer)
        client.post("/both/7")
        response = client.post("/own/7")
        assert [event.details["path"] for event in events(trail)] == ["/both/7", "/own/7"]
        (own,) = events(own_trail)
    assert (own.action, own.details["path"]) == ("POST /{item_id}", "/own/7")
    assert response.headers.getlist("x-request-id") == [own.request_id]


def test_a_redirect_that_a_client_follows_is_another_request(app, trail):
    app.add_url_rule("/from", "from", lambda: redirect("/to", 307), methods=["POST"])
    app.add_url_rule("/to", "to", lambda: "", methods=["POST"])
    app.test_client().post("/from", follow_redirects=True)
    assert [event.action for event in events(trail)] == ["POST /from", "POST /to"]


@pytest.mark.parametrize("propagate", [True, False])
def test_an_exception_is_one_event_whether_flask_answers_it_or_passes_it_on(app, trail, propagate):
    app.config["PROPAGATE_EXCEPTIONS"] = propagate

    @app.post("/boom/<boom_id>")
    def boom(boom_id):
        g.user = {"id": 7, "is_admin": True}
        raise ValueError("hunter2")

    client = app.test_client()
    if propagate:
        with pytest.raises(ValueError, match="hunter2"):
            client.post("/boom/1")
    else:
        assert client.post("/boom/1").status_code == 500
    (event,) = events(trail)
    assert (event.action, event.outcome, event.details["status"]) == ("POST /boom/{boom_id}", "failure", 500)
    assert (event.details["exception"], event.actor_id, event.actor_type) == ("ValueError", "7", "admin")
    assert "hunter2" not in repr(event)


def test_an_exception_is_a_failure_whatever_the_error_page_answers(app, trail):
    app.register_error_handler(500, lambda error: ("sorry", 200))
    app.add_url_rule("/boom", "boom", lambda: int("x"), methods=["POST"])
    assert app.test_client().post("/boom").status_code == 200
    (event,) = events(trail)
    assert (event.outcome, event.details["status"], event.details["exception"]) == ("failure", 200, "ValueError")


def test_what_was_observed_goes_over_what_the_handler_says(app, trail):
    def handler():
        add_details(status="approved", path="/elsewhere", exception="none", method="GET", ward="7")
        return "", 202

    app.add_url_rule("/here", "here", handler, methods=["POST"])
    app.test_client().post("/here")
    (event,) = events(trail)
    observed = {"status": 202, "path": "/here", "method": "POST", "ward": "7"}
    assert {name: event.details[name] for name in observed} == observed


def test_a_method_that_nobody_knows_leaves_its_event_too(app, trail):
    app.add_url_rule("/transfer", "transfer", lambda: "", methods=["FOO"])
    app.test_client().open("/transfer", method="FOO")
    assert [event.action for event in events(trail)] == ["FOO /transfer"]


def test_an_exception_that_the_application_handles_is_none(app, trail):
    app.register_error_handler(ValueError, lambda error: ("sorry", 422))
    app.add_url_rule("/boom", "boom", lambda: int("x"), methods=["POST"])
    assert app.test_client().post("/boom").text == "sorry"
    (event,) = events(trail)
    assert event.details["status"] == 422
    assert "exception" not in event.details


def test_the_applications_own_error_page_stays(app, trail):
    app.register_error_handler(500, lambda error: ("our fault", 502))
    app.add_url_rule("/boom", "boom", lambda: 1 / 0, methods=["POST"])
    response = app.test_client().post("/boom")
    assert (response.status_code, response.text) == (502, "our fault")
    (event,) = events(trail)
    assert (event.details["status"], event.details["exception"]) == (502, "ZeroDivisionError")


FAREWELLS = {"none": None, "gunicorn": StopIteration, "werkzeug": ConnectionError}


class Taken(Response):
    """As Flask-Sock answers when a WebSocket has ended, under the server that is named: the connection was its own."""

    def __call__(self, environ, start_response):
        if farewell := FAREWELLS[environ["QUERY_STRING"]]:
            raise farewell
        return []


def tell_of_a_room(app, trail, server, **headers):
    """What is told of a request to a view that takes the connection."""
    room = audited()(lambda room_id: Taken())
    for is_websocket in (True, False):  # a rule of Werkzeug's is for one of the two
        app.add_url_rule("/rooms/<room_id>", "room", room, websocket=is_websocket)
    with suppress(StopIteration, ConnectionError):
        app(create_environ("/rooms/7", query_string=server, headers=headers), lambda *_: None).close()
    (event,) = events(trail)
    return event.resource_id, event.details["status"], event.outcome, event.details.get("exception")


@pytest.mark.parametrize("server", FAREWELLS)
@pytest.mark.parametrize(
    ("connection", "upgrade"), [("Upgrade", "websocket"), ("keep-alive,\tUPGRADE", "h2c, WebSocket")]
)
def test_a_view_that_takes_the_connection_for_a_websocket_leaves_its_event(app, trail, server, connection, upgrade):
    told = tell_of_a_room(app, trail, server, Connection=connection, Upgrade=upgrade)
    assert told == ("7", 101, "success", None)


NO_WEBSOCKETS = [
    {},
    {"Upgrade": "websocket"},
    {"Connection": "Upgrade"},
    {"Connection": "Upgrade", "Upgrade": "h2c"},
    {"Connection": "close", "Upgrade": "websocket"},
    {"Connection": "Upgrade", "Upgrade": "websockets"},
]


@pytest.mark.parametrize("server", FAREWELLS)
@pytest.mark.parametrize("headers", NO_WEBSOCKETS)
def test_an_application_that_never_answers_has_failed_unless_a_websocket_was_asked_for(app, trail, server, headers):
    exception = FAREWELLS[server]
    told = tell_of_a_room(app, trail, server, **headers)
    assert told == ("7", 500, "failure", exception and exception.__name__)


@pytest.mark.parametrize("error", [StopIteration, ConnectionResetError])
def test_a_view_that_raises_has_failed_whatever_upgrade_the_client_asked_for(app, trail, error):
    def view():
        raise error

    app.config["PROPAGATE_EXCEPTIONS"] = True
    app.add_url_rule("/x", "x", audited()(view), websocket=True)
    with pytest.raises(error):
        Client(app).get("/x", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    (event,) = events(trail)
    assert (event.outcome, event.details["status"], event.details["exception"]) == ("failure", 500, error.__name__)


def test_a_teardown_that_fails_after_the_response_is_a_second_event(app, trail):
    @app.teardown_request
    def fail(_):
        raise RuntimeError

    app.add_url_rule("/x", "x", lambda: "", methods=["POST"])
    with pytest.raises(RuntimeError):
        app.test_client().post("/x")
    assert [event.action for event in events(trail)] == ["POST /x", "response.broken"]


def test_a_stream_that_is_cut_off_and_fails_while_it_is_closed_is_a_second_event(app, trail):
    def parts():
        try:
            yield b"first"
            yield b"second"
        finally:
            raise RuntimeError

    app.add_url_rule("/x", "x", lambda: Response(parts()), methods=["POST"])
    response = app.test_client().post("/x")
    assert next(response.iter_encoded()) == b"first"
    with pytest.raises(RuntimeError):
        response.close()
    assert [event.action for event in events(trail)] == ["POST /x", "response.broken"]
    assert events(trail)[1].details["reason"] == "RuntimeError"


def test_a_response_that_a_test_never_closes_holds_nothing_open(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        app = Flask("clinic")
        Audit(app, trail)
        outside = current()
        app.add_url_rule("/x", "x", lambda: "", methods=["POST"])
        response = app.test_client().post("/x")
        assert current() is outside
        del response
        gc.collect()
        assert wait_until(lambda: trail._places.gate._open == 0)
        assert [event.action for event in events(trail)] == ["POST /x"]


def test_a_stream_with_context_knows_its_request_and_a_broken_one_its_actor(app, trail):
    @app.post("/stream")
    def stream():
        g.user = SimpleNamespace(username="dr-grey")

        def body():
            yield current().request_id
            trail.record("stream.read")
            raise RuntimeError

        return stream_with_context(body())

    with pytest.raises(RuntimeError):
        app.test_client().post("/stream", buffered=True)
    assert [event.action for event in events(trail)] == ["POST /stream", "stream.read", "response.broken"]
    assert {event.actor_id for event in events(trail)} == {"dr-grey"}
    assert len({event.request_id for event in events(trail)}) == 1


def test_a_method_view_is_marked_by_its_method(app, trail):
    class Chart(MethodView):
        @audited("chart.read", resource="chart:{chart_id}")
        def get(self, chart_id):
            return ""

        def post(self, chart_id):
            return ""

    app.add_url_rule("/charts/<any(a, b):chart_id>", view_func=Chart.as_view("chart"))
    client = app.test_client()
    client.get("/charts/a")
    client.post("/charts/b")
    client.options("/charts/b")
    assert [(e.action, e.resource_id) for e in events(trail)] == [
        ("chart.read", "a"),
        ("POST /charts/{chart_id}", "b"),
    ]


def test_a_block_in_a_stream_holds_from_one_read_to_the_next(app, trail):
    @app.post("/export")
    def export():
        def body():
            with trail.actor("export", type="service"):
                for number in range(2):
                    yield str(number)
                    trail.record("row.read")
            trail.record("rows.read")

        set_actor("dr-grey")
        return body()

    for part in app.test_client().post("/export").response:
        trail.record("server.read")
        assert part
    assert [(event.action, event.actor_id) for event in events(trail)] == [
        ("POST /export", "dr-grey"),
        ("server.read", None), ("row.read", "export"), ("server.read", None), ("row.read", "export"),
        ("rows.read", "dr-grey"),
    ]  # fmt: skip


class TestCommands:
    @pytest.fixture(autouse=True)
    def _commands(self, app, trail):
        @app.cli.command("import-patients")
        @click.option("--password")
        def import_patients(password):
            trail.record("patients.import")
            if not password:
                raise ValueError

        group = Blueprint("ward", __name__, cli_group="ward")

        @group.cli.command("close")
        def close():
            trail.record("ward.close")

        app.register_blueprint(group)

    def who(self, trail):
        return [(event.actor_id, event.actor_type, event.details) for event in events(trail)]

    def test_a_command_names_the_account_and_itself_without_its_arguments(self, app, trail):
        assert app.test_cli_runner().invoke(args=["import-patients", "--password", "hunter2"]).exit_code == 0
        assert app.test_cli_runner().invoke(args=["ward", "close"]).exit_code == 0
        assert self.who(trail) == [
            (account(), "system", {"command": "import-patients"}), (account(), "system", {"command": "ward"}),
        ]  # fmt: skip

    def test_nothing_is_left_over_after_a_command_that_fails(self, app, trail):
        assert isinstance(app.test_cli_runner().invoke(args=["import-patients"]).exception, ValueError)
        trail.record("a.b")
        assert [actor for actor, _, _ in self.who(trail)] == [account(), None]

    def test_a_command_inside_of_a_request_acts_for_the_requests_actor(self, app, trail):
        @app.post("/import")
        def start():
            set_actor("dr-grey")
            app.test_cli_runner().invoke(args=["import-patients", "--password", "x"])
            return ""

        app.test_client().post("/import")
        assert [actor for actor, _, _ in self.who(trail)] == ["dr-grey", "dr-grey"]


def test_a_view_tells_of_a_log_in_in_vain_that_is_answered_with_its_form_again(app, trail):
    """Neither Flask nor Flask-Login knows of it."""

    @app.post("/login")
    def login():
        set_outcome("denied")
        add_details(account="ada")
        return "the form"

    for _ in range(5):
        assert app.test_client().post("/login").status_code == 200
    assert {(event.outcome, event.details["status"]) for event in events(trail)} == {("denied", 200)}
    rows = AuditReporter(trail).failed_access_report()
    assert ("account", "ada", 5) in [(row.by, row.who, row.denied) for row in rows]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_view_in_which_the_process_is_told_to_end_is_named_by_its_route(app, trail, end):
    @app.put("/charts/<int:chart_id>")
    def leave(chart_id):
        g.user = "dr-grey"
        raise end

    with pytest.raises(end):
        app.test_client().put("/charts/7")
    (event,) = events(trail)
    assert (event.action, event.resource_type, event.resource_id) == ("PUT /charts/{chart_id}", "chart", "7")
    assert (event.outcome, event.actor_id, event.details["exception"]) == ("failure", "dr-grey", end.__name__)


def test_a_user_who_was_never_looked_at_is_not_loaded_and_no_response_varies(app, trail):
    def load():
        raise AssertionError("a query of ours")

    @app.post("/x")
    def x():
        g.user = LocalProxy(load)
        return ""

    @app.post("/login")
    def login():
        session["user"] = 1
        set_actor("dr-grey")
        return ""

    client = app.test_client()
    client.post("/login")
    assert "Vary" not in client.post("/x").headers
    assert [event.actor_id for event in events(trail)] == ["dr-grey", None]


def test_the_id_of_a_session_that_the_server_keeps_is_hashed(app, trail):
    class Kept(dict):
        sid, accessed, modified, new, permanent = "session-4711", False, False, False, False

    class Sessions(type(app.session_interface)):
        def open_session(self, app, request):
            return Kept()

        def save_session(self, app, session, response):
            pass

    app.session_interface = Sessions()
    app.test_client().post("/x")
    (event,) = events(trail)
    assert event.session_id.startswith("hmac-sha256:")
    assert "4711" not in repr(event)


def test_a_sigterm_under_gunicorn_seals_what_waits(tmp_path):
    url = f"sqlite:///{tmp_path}/clinic.db"
    bind = ["-b", "127.0.0.1:{port}", "--threads", "4", "-w", "2", "--no-control-socket"]
    with running(["-m", "gunicorn", *bind, "tests.adapters.flask_app:from_environment()"], url) as address:
        for _ in range(5):
            assert httpx.post(f"{address}/patients").status_code == 201
    sealed_and_stopped(url)


def test_a_sigterm_under_waitress_loses_nothing(tmp_path):
    """Waitress dies of it without a word, so what waits is sealed by the next process."""
    url = f"sqlite:///{tmp_path}/clinic.db"
    command = ["-m", "waitress", "--listen", "127.0.0.1:{port}", "--call", "tests.adapters.flask_app:from_environment"]
    with running(command, url) as address:
        for _ in range(5):
            assert httpx.post(f"{address}/patients").status_code == 201
    with AuditTrail(url, lifecycle=False, create=False) as trail:
        trail.flush()
        found = list(trail.events())
    assert [event.action for event in found].count("POST /patients") == 5
    assert all(event.sealed for event in found)
