"""The same application in Django."""

import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from audit_django import AuditMiddleware  # noqa: E402

_trails = []
SETTINGS = {
    "ROOT_URLCONF": __name__,
    "ALLOWED_HOSTS": ["localhost"],
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "LOGGING_CONFIG": None,
}
THEIRS = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
]


def audit(get_response):
    return AuditMiddleware(get_response, trail=_trails[-1])


audit.sync_capable = audit.async_capable = True


def make_app(trail, *, asgi):
    """To be served while SETTINGS are in force."""
    _trails.append(trail)
    ours = [] if trail is None else [f"{__name__}.audit"]
    with override_settings(MIDDLEWARE=[*ours, *THEIRS]):
        return ASGIHandler() if asgi else WSGIHandler()


def look(request, **parameters):
    request.GET.dict(), request.COOKIES, dict(request.headers), request.build_absolute_uri(), request.session.get("a")
    return HttpResponse("ok")


def csrf_checked(request):
    return look(request)


def take_json(request):
    json.loads(request.body)
    return look(request)


def form(request):
    request.POST.dict(), request.FILES.dict()
    return look(request)


def whole(request):
    request.body  # noqa: B018 - it is read here
    return look(request)


def boom(request):
    raise ValueError("password=hunter2")


urlpatterns = [
    path("read/<int:number>", csrf_exempt(look)),
    re_path("^files/(?P<path>.*)$", csrf_exempt(look)),
    path("json", csrf_exempt(take_json)),
    path("form", csrf_exempt(form)),
    path("whole", csrf_exempt(whole)),
    path("unread", csrf_exempt(lambda request: HttpResponse("ok"))),
    path("unread/", csrf_checked),
    path("refused", csrf_exempt(lambda request: HttpResponse("no", status=403))),
    path("boom", csrf_exempt(boom)),
]
