"""Who it was, as the libraries say it that applications really use; also of those who were denied, or are nobody."""

import time
from types import SimpleNamespace
from typing import Annotated

import flask_login
import jwt
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from flask import Flask, g, session
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from audit_core import AuditTrail
from audit_fastapi import AuditMiddleware, set_actor
from audit_flask import Audit

KEY = "a key of thirty-two bytes or more"
ANONYMOUS = (None, "anonymous")


@pytest.fixture
def trail():
    with AuditTrail("memory:", lifecycle=False) as trail:
        yield trail


def who(trail):
    """Actor and type of each request, oldest first."""
    events = [event for event in trail.events(newest_first=False) if "method" in event.details]
    return [(event.actor_id, event.actor_type) for event in events]


def token(**claims):
    return jwt.encode({"exp": time.time() + 60, **claims}, KEY, algorithm="HS256")


def bearer(**claims):
    return {"Authorization": f"Bearer {token(**claims)}"}


class TestStarlettesAuthenticationMiddleware:
    @pytest.fixture
    def client(self, trail):
        class Backend(AuthenticationBackend):
            async def authenticate(self, conn):
                if "authorization" not in conn.headers:
                    return None
                try:
                    claims = jwt.decode(conn.headers["authorization"].split()[1], KEY, algorithms=["HS256"])
                except jwt.InvalidTokenError as error:
                    raise AuthenticationError("no such token") from error
                return AuthCredentials(claims.get("scopes", [])), SimpleUser(claims["sub"])

        @requires("write")
        async def write(request):
            return PlainTextResponse("written")

        async def anybody(request):
            return PlainTextResponse("hello")

        middleware = [
            Middleware(AuditMiddleware, trail=trail),
            Middleware(AuthenticationMiddleware, backend=Backend()),
        ]
        routes = [Route("/write", write, methods=["POST"]), Route("/anybody", anybody, methods=["POST"])]
        with TestClient(Starlette(routes=routes, middleware=middleware)) as client:
            yield client

    def test_its_user_is_the_actor_also_where_he_was_denied(self, trail, client):
        assert client.post("/write", headers=bearer(sub="dr-grey", scopes=["write"])).status_code == 200
        assert client.post("/write", headers=bearer(sub="dr-grey")).status_code == 403
        assert who(trail) == [("dr-grey", "user")] * 2

    def test_who_has_no_token_or_a_wrong_one_is_anonymous(self, trail, client):
        assert client.post("/anybody").status_code == 200
        assert client.post("/write").status_code == 403
        assert client.post("/anybody", headers=bearer(sub="dr-grey", exp=1)).status_code == 400
        assert who(trail) == [ANONYMOUS] * 3


def claims_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]):
    if credentials is None:
        raise HTTPException(401)
    try:
        return jwt.decode(credentials.credentials, KEY, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None


Claims = Annotated[dict, Depends(claims_of)]


def named(claims: Claims):
    set_actor(claims["sub"], tenant_id=claims.get("clinic"))
    return claims


async def named_async(claims: Claims):
    set_actor(claims["sub"])


def in_a_block(claims: Claims):
    set_actor(claims["sub"], type="admin")
    yield


async def in_an_async_block(claims: Claims):
    set_actor(claims["sub"], type="admin")
    yield


async def in_the_state(request: Request, claims: Claims):
    request.state.user = SimpleNamespace(id=claims["sub"], is_admin=True)


def doctors_only(claims: Annotated[dict, Depends(named)]):
    if "doctor" not in claims.get("roles", []):
        raise HTTPException(403)


def anything():
    return {}


async def anything_async():
    return {}


class TestADependencyOfFastAPI:
    """Each of these forms is one that its documentation shows."""

    @pytest.fixture
    def client(self, trail):
        app = FastAPI()
        app.add_middleware(AuditMiddleware, trail=trail)
        forms = {"sync": named, "async": named_async, "block": in_a_block, "async-block": in_an_async_block,
                 "state": in_the_state, "doctors": doctors_only}  # fmt: skip
        for name, form in forms.items():
            for kind, handler in (("def", anything), ("async-def", anything_async)):
                app.add_api_route(f"/{name}/{kind}", handler, methods=["POST"], dependencies=[Depends(form)])
        with TestClient(app) as client:
            yield client

    @pytest.mark.parametrize("kind", ["def", "async-def"])
    def test_whom_its_token_names_is_the_actor(self, trail, client, kind):
        for form in ("sync", "async", "block", "async-block", "state"):
            assert client.post(f"/{form}/{kind}", headers=bearer(sub="dr-grey")).status_code == 200, form
        assert who(trail) == [("dr-grey", "user")] * 2 + [("dr-grey", "admin")] * 3

    def test_the_tenant_that_it_names_is_recorded(self, trail, client):
        client.post("/sync/def", headers=bearer(sub="dr-grey", clinic="north"))
        assert next(trail.events()).tenant_id == "north"

    def test_who_is_denied_after_he_was_known_is_named_and_who_was_never_known_is_anonymous(self, trail, client):
        assert client.post("/doctors/def", headers=bearer(sub="nurse-joy")).status_code == 403
        for headers in ({}, bearer(sub="dr-grey", exp=1), {"Authorization": "Bearer x.y.z"}):
            assert client.post("/doctors/def", headers=headers).status_code == 401
        assert who(trail) == [("nurse-joy", "user")] + [ANONYMOUS] * 3
        assert {event.outcome for event in trail.events() if "method" in event.details} == {"denied"}

    def test_one_token_after_another_is_one_actor_after_another(self, trail, client):
        for name in ("ada", "grace", "ada"):
            client.post("/sync/def", headers=bearer(sub=name))
        client.post("/sync/def")
        assert [actor for actor, _ in who(trail)] == ["ada", "grace", "ada", None]


def test_a_session_of_starlette_that_nobody_has_looked_at_makes_no_response_vary(trail):
    async def indifferent(request):
        return PlainTextResponse("hello")

    async def look(request):
        request.session["user"] = "dr-grey"
        request.state.user = request.session["user"]
        return PlainTextResponse("hello")

    middleware = [Middleware(AuditMiddleware, trail=trail), Middleware(SessionMiddleware, secret_key=KEY)]
    routes = [Route(f"/{view.__name__}", view, methods=["POST"]) for view in (look, indifferent)]
    with TestClient(Starlette(routes=routes, middleware=middleware)) as client:
        client.post("/look")
        assert "vary" not in client.post("/indifferent").headers
    assert who(trail) == [("dr-grey", "user"), ANONYMOUS]


class User(flask_login.UserMixin):
    def __init__(self, id):
        self.id = id
        self.is_admin = id == "root"


def user_of_token(request):
    if not (said := request.headers.get("Authorization")):
        return None
    try:
        return User(jwt.decode(said.split()[1], KEY, algorithms=["HS256"])["sub"])
    except jwt.InvalidTokenError:
        return None


def log_in(name):
    flask_login.login_user(User(name))
    return ""


def log_out():
    flask_login.logout_user()
    return ""


def change(name):
    flask_login.logout_user()
    return log_in(name)


def stop_acting_for(name):
    set_actor("root", type="admin", on_behalf_of=name)
    return log_out()


def keep():
    g.user = flask_login.current_user  # as many applications do, for their templates
    return ""


class TestFlaskLogin:
    @pytest.fixture
    def loaded(self):
        """Whom it has loaded: each is a query, in an application with a database."""
        return []

    @pytest.fixture
    def client(self, trail, loaded):
        return self.make_app(trail, loaded).test_client()

    def make_app(self, trail, loaded):
        app, login = Flask("clinic"), flask_login.LoginManager()
        app.secret_key = KEY
        if trail is not None:
            Audit(app, trail)
        login.init_app(app)

        @login.user_loader
        def load(user_id):
            loaded.append(user_id)
            return User(user_id)

        login.request_loader(user_of_token)
        views = {
            "/login/<name>": log_in,
            "/logout": log_out,
            "/change/<name>": change,
            "/stop/<name>": stop_acting_for,
            "/write": flask_login.login_required(lambda: ""),
            "/late": lambda: flask_login.current_user.get_id() or "",
            "/indifferent": lambda: "",
            "/kept": keep,
        }
        for path, view in views.items():
            app.add_url_rule(path, path, view, methods=["POST"])
        return app

    def test_its_user_is_the_actor_from_his_login_to_his_logout(self, trail, client):
        for path in ("/login/dr-grey", "/write", "/late", "/logout", "/late"):
            assert client.post(path).status_code == 200
        assert who(trail) == [("dr-grey", "user")] * 4 + [ANONYMOUS]

    def test_who_logs_in_over_another_one_is_the_actor(self, trail, client):
        client.post("/login/dr-grey")
        client.post("/login/root")
        assert who(trail) == [("dr-grey", "user"), ("root", "admin")]

    def test_a_logout_leaves_whom_the_application_names_and_who_logs_in_after_it(self, trail, client):
        client.post("/login/dr-grey")
        client.post("/change/root")
        client.post("/stop/root")
        assert who(trail) == [("dr-grey", "user"), ("root", "admin"), ("root", "admin")]
        assert next(iter(trail.events())).on_behalf_of == "root"

    def test_a_token_names_the_actor_and_a_wrong_one_nobody(self, trail, client):
        assert client.post("/write", headers=bearer(sub="dr-grey")).status_code == 200
        assert client.post("/write", headers=bearer(sub="dr-grey", exp=1)).status_code == 401
        assert client.post("/write").status_code == 401
        assert who(trail) == [("dr-grey", "user"), ANONYMOUS, ANONYMOUS]

    def test_for_a_request_that_never_looks_at_its_user_nobody_is_loaded_and_nothing_varies_by_us(
        self, trail, client, loaded
    ):
        without_us = self.make_app(None, loaded).test_client()
        for one in (client, without_us):
            one.post("/login/dr-grey")
        for path in ("/indifferent", "/kept"):  # Flask-Login itself looks at the session
            assert client.post(path).headers.get("Vary") == without_us.post(path).headers.get("Vary"), path
        assert loaded == []
        assert who(trail)[1:] == [ANONYMOUS] * 2

    def test_a_logout_of_nobody_is_nobodys(self, trail, client):
        client.post("/logout")
        assert who(trail) == [ANONYMOUS]


def test_a_user_of_flasks_own_session_is_the_actor_if_the_application_says_so(trail):
    app = Flask("clinic")
    app.secret_key = KEY
    Audit(app, trail)

    @app.before_request
    def find():
        g.user = session.get("user")

    @app.post("/login")
    def log_in():
        session["user"] = "dr-grey"
        return ""

    app.add_url_rule("/write", "write", lambda: "", methods=["POST"])
    client = app.test_client()
    client.post("/login")
    client.post("/write")
    assert who(trail) == [ANONYMOUS, ("dr-grey", "user")]
