import gc

import pytest

from tests.adapters.behaviour import Behaviour
from tests.adapters.django_app import make_app
from tests.adapters.servers import UvicornServer, WaitressServer


class WsgiServer(WaitressServer):
    name = "django-wsgi"

    def make_app(self, trail, probe):
        return make_app(trail, probe)


class AsgiServer(UvicornServer):
    name = "django-asgi"
    lifespan = "off"  # Django knows none
    has_background = False

    def make_app(self, trail, probe):
        return make_app(trail, probe, asgi=True)


class TestDjangoWsgi(Behaviour):
    server = WsgiServer()


# Django leaves the body's temporary file open when a response raises after its start.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning")
class TestDjangoAsgi(Behaviour):
    server = AsgiServer()

    @pytest.fixture(autouse=True)
    def _its_files_are_collected_here(self):
        yield
        gc.collect()
