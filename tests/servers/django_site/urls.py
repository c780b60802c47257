import os

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from audit_django import get_trail, set_actor
from tests.servers.django_site.models import Note
from tests.servers.streams import aparts, parts


def health(request):
    return JsonResponse({"pid": os.getpid()})


def empty(request):
    return JsonResponse({}, status=201)


def write(request, number):
    marker = request.headers["X-Marker"]
    set_actor(request.headers["X-Actor"])
    Note.objects.create(marker=marker)
    get_trail().record("note.written", details={"marker": marker})
    return JsonResponse({"number": number}, status=201)


def large(request, mebibytes):
    return StreamingHttpResponse(aparts(mebibytes) if isinstance(request, ASGIRequest) else parts(mebibytes))


def upload(request):
    return HttpResponse(str(sum(len(part) for part in iter(lambda: request.read(65536), b""))))


urlpatterns = [
    path("health", health),
    path("empty", empty),
    path("notes/<int:number>", write),
    path("large/<int:mebibytes>", large),
    path("upload", upload),
]
