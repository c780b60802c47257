import os

from django.http import JsonResponse
from django.urls import path

from audit_django import get_trail, set_actor
from tests.servers.django_site.models import Note


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


urlpatterns = [path("health", health), path("empty", empty), path("notes/<int:number>", write)]
