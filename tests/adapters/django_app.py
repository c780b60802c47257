"""The application of ``servers.py`` in Django: function views, a class-based view, converters, the lazy user."""

import os
import time
from types import ModuleType, SimpleNamespace

import django
from asgiref.sync import iscoroutinefunction, markcoroutinefunction

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.functional import SimpleLazyObject  # noqa: E402
from django.views import View  # noqa: E402

from audit_django import AuditMiddleware, add_details, audited, set_actor, set_outcome  # noqa: E402
from tests.adapters.servers import SECRET, aevents, alarge, events, fail, large  # noqa: E402

made = SimpleNamespace(trail=None, urls=None)


def audit(get_response):
    """The middleware line of the application that is being made."""
    return AuditMiddleware(get_response, trail=made.trail)


audit.sync_capable = audit.async_capable = True


def settle(get_response):
    """Gives the request the application's routes, and a user as lazy as Django's."""
    urls = made.urls

    def prepare(request):
        request.urlconf = urls
        request.user = SimpleLazyObject(lambda: SimpleNamespace(is_authenticated=True, pk="dr-late"))

    if iscoroutinefunction(get_response):

        async def middleware(request):
            prepare(request)
            return await get_response(request)

        markcoroutinefunction(middleware)
    else:

        def middleware(request):
            prepare(request)
            return get_response(request)

    return middleware


settle.sync_capable = settle.async_capable = True


def make_app(trail, probe, *, asgi=False):
    return make_plain_app(trail, probe, f"{__name__}.audit", asgi=asgi)


def make_plain_app(trail, probe, *middleware, asgi=False):
    """The same, audited only if a middleware says so."""
    return make_app_of(trail, make_urls(trail, probe, asgi=asgi), *middleware, asgi=asgi)


def make_app_of(trail, urls, *middleware, asgi=False):
    """One of these routes, with these middlewares."""
    made.trail, made.urls = trail, ModuleType("clinic_urls")
    made.urls.urlpatterns = urls
    middleware = [*middleware, f"{__name__}.settle"]
    with override_settings(MIDDLEWARE=middleware, LOGGING_CONFIG=None):
        return ASGIHandler() if asgi else WSGIHandler()


def make_urls(trail, probe, *, asgi):  # noqa: C901 - one function for each route
    def create(request):
        probe.calls["/patients"] += 1
        if request.method != "POST":
            return HttpResponse(status=405)
        return JsonResponse({"id": 1}, status=201)

    class Patients(View):
        def get(self, request, patient_id):
            probe.calls["/patients/{patient_id}"] += 1
            return JsonResponse({"id": patient_id})

        def put(self, request, patient_id):
            return self.get(request, patient_id)

        def delete(self, request, patient_id):
            probe.calls["/patients/{patient_id}"] += 1
            return HttpResponse(status=204)

    def add_note(request, patient_id):
        probe.calls["/patients/{patient_id}/notes"] += 1
        if actor := request.headers.get("X-Actor"):
            set_actor(actor)
        time.sleep(0.002)
        trail.record("note.written", details={"marker": request.headers.get("X-Marker")})
        return JsonResponse({}, status=201)

    @audited("chart.read", resource="chart:{patient_id}")
    def read_chart(request, patient_id):
        probe.calls["/patients/{patient_id}/chart"] += 1
        return JsonResponse({})

    def fixed(request):
        return JsonResponse({})

    def boom(request):
        probe.calls["/boom"] += 1
        fail()

    async def aboom(request):
        boom(request)

    def denied(request, status):
        probe.calls["/denied/{status}"] += 1
        return HttpResponse(status=status)

    def cookies(request):
        probe.calls["/cookies"] += 1
        response = HttpResponse()
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    def login(request):
        probe.calls["/login"] += 1
        set_actor("dr-grey")
        return JsonResponse({})

    def late(request):
        probe.calls["/late"] += 1
        assert request.user.is_authenticated
        return JsonResponse({})

    def outcome(request):
        probe.calls["/outcome"] += 1
        set_outcome("denied")
        return JsonResponse({})

    def contradiction(request):
        set_outcome("success")
        raise ValueError(SECRET)

    async def acontradiction(request):
        contradiction(request)

    def acting(request):
        with trail.actor("importer", type="service"):
            set_outcome("denied")
            add_details(ward="7")
        return JsonResponse({})

    def details(request):
        probe.calls["/details"] += 1
        add_details(ward="7")
        return JsonResponse({})

    def own_id(request):
        probe.calls["/own-id"] += 1
        return JsonResponse({}, headers={"X-Request-ID": "from-the-application"})

    def unread(request):
        probe.calls["/unread"] += 1
        return JsonResponse({})

    def upload(request):
        probe.calls["/upload"] += 1
        return HttpResponse(str(sum(len(chunk) for chunk in iter(lambda: request.read(65536), b""))))

    def live(request):
        return StreamingHttpResponse(aevents(probe) if asgi else events(probe), content_type="text/event-stream")

    streams = async_streams(probe) if asgi else sync_streams(probe)

    def streaming(name):
        def view(request):
            probe.calls[f"/{name}"] += 1
            return StreamingHttpResponse(streams[name]())

        return view

    return [
        path("patients", create),
        path("patients/<int:patient_id>", Patients.as_view()),
        path("patients/<int:patient_id>/notes", add_note),
        path("patients/<int:patient_id>/chart", read_chart),
        path("reports/monthly", fixed),
        path("reports/live", live),
        path("health", fixed),
        path("boom", aboom if asgi else boom),
        path("denied/<int:status>", denied),
        path("stream", streaming("stream")),
        path("broken-stream", streaming("broken-stream")),
        path("endless", streaming("endless")),
        path("large", lambda request: StreamingHttpResponse(alarge(probe) if asgi else large(probe))),
        path("cookies", cookies),
        path("login", login),
        path("late", late),
        path("outcome", outcome),
        path("contradiction", acontradiction if asgi else contradiction),
        path("acting", acting),
        path("reset/<token>", lambda request, token: JsonResponse({})),
        path("details", details),
        path("own-id", own_id),
        path("unread", unread),
        path("upload", upload),
    ]


def sync_streams(probe):
    def stream():
        yield b"first"
        probe.release.wait(10)
        yield b"second"

    def broken():
        yield b"first"
        raise RuntimeError(SECRET)

    def endless():
        for _ in range(1000):
            yield b"more"
            time.sleep(0.01)

    return {"stream": stream, "broken-stream": broken, "endless": endless}


def async_streams(probe):
    import asyncio

    async def stream():
        yield b"first"
        await asyncio.to_thread(probe.release.wait, 10)
        yield b"second"

    async def broken():
        yield b"first"
        raise RuntimeError(SECRET)

    async def endless():
        for _ in range(1000):
            yield b"more"
            await asyncio.sleep(0.01)

    return {"stream": stream, "broken-stream": broken, "endless": endless}
