import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router
from starlette.testclient import TestClient

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError
from audit_fastapi import AuditMiddleware, audited
from tests.adapters.behaviour import Behaviour
from tests.adapters.servers import UvicornServer
from tests.adapters.starlette_app import make_app


class StarletteServer(UvicornServer):
    name = "starlette"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class TestStarlette(Behaviour):
    server = StarletteServer()


class Chart(HTTPEndpoint):
    @audited("chart.read", resource="chart:{chart_id}")
    async def get(self, request):
        return Response()

    async def post(self, request):
        return Response()


async def plain(scope, receive, send):
    await Response()(scope, receive, send)


@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/charts/7", "chart.read"),
        ("POST", "/charts/7", "POST /charts/{chart_id}"),
        ("POST", "/plain/some/where", "POST /plain/{path}"),
        ("POST", "/a/a/charts/9", "POST /a/{x}/charts/{chart_id}"),
        ("POST", "/nested/two/charts/9", "POST /nested/two/charts/{chart_id}"),
        ("POST", "/hosted", "POST /hosted"),
    ],
)
def test_the_template_through_mounts_hosts_and_endpoint_classes(method, path, action, forgetful):
    """Older routers do not say in the scope which route they chose."""

    class Forgetful:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def forgetting(message):
                scope.pop("route", None)
                await send(message)

            await self.app(scope, receive, forgetting if forgetful else send)

    charts = [Route("/charts/{chart_id:int}", Chart)]
    routes = [
        *charts,
        Mount("/plain", app=plain),
        Mount("/a/{x}", routes=charts),
        Mount("/nested", app=Starlette(routes=[Mount("/two", app=Router(charts))])),
        Host("testserver", app=Router([Route("/hosted", Chart)])),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(Forgetful)
    with AuditTrail("memory:", lifecycle=False) as trail:
        app.add_middleware(AuditMiddleware, trail=trail)
        with TestClient(app) as client:
            assert client.request(method, path).status_code == 200
        assert next(trail.events()).action == action


@pytest.mark.parametrize(
    ("given", "named"), [("postgresql://clinic:hunter2@db/clinic", "'postgresql://"), (None, "a NoneType")]
)
def test_what_is_no_trail_is_refused_without_its_password(given, named):
    with pytest.raises(ConfigurationError, match=rf"not {named}.*: give trail=AuditTrail\(url\)") as refused:
        AuditMiddleware(Starlette(), trail=given)
    assert "hunter2" not in str(refused.value)
