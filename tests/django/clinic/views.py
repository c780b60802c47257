import json
import time
from pathlib import Path

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.models import User
from django.db import transaction
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from audit_django import audited, get_trail, set_actor, set_outcome
from tests.django.clinic.models import Patient


@csrf_exempt
def patients(request):
    patient = Patient.objects.create(name=request.GET.get("name", "Ada"))
    return JsonResponse({"id": patient.pk}, status=201)


def patient(request, patient_id):
    return JsonResponse({"id": patient_id})


def read_then_write(request):
    """What fails at once when somebody else commits in between."""
    patient = Patient.objects.get(name="Ada")
    time.sleep(0.003)
    patient.age += 1
    patient.save()
    return HttpResponse()


def rolled_back(request):
    with transaction.atomic():
        Patient.objects.create(name="never")
        transaction.set_rollback(True)
    return HttpResponse(status=409)


def log_in(request):
    credentials = json.loads(request.body)
    tries = credentials.pop("password")
    for password in tries if isinstance(tries, list) else [tries]:
        user = authenticate(request, password=password, **credentials)
    if "outcome" in request.GET:
        set_outcome(request.GET["outcome"])
    if user is None:
        return HttpResponse(status=401)
    login(request, user)
    return HttpResponse()


def exchange(request):
    """Asks for the password, and lets a token in all the same: without a session, as programming interfaces do."""
    before = request.user.is_authenticated
    if authenticate(request, username="ada", password=request.GET["password"]) is None and "token" in request.GET:
        user = User.objects.get(username="ada")
        if request.GET["by"] == "user":
            request.user = user
        else:
            set_actor(user.pk)
    return JsonResponse({"known": before})


@csrf_exempt
def export(request):
    set_actor("dr-grey")

    def parts():
        try:
            yield b"first"
            yield b"second"
        finally:
            get_trail().record("export.ended")

    return StreamingHttpResponse(parts())


def log_in_by_name(request):
    """Names whoever tried, and shows the form again."""
    form = json.loads(request.body)
    user = authenticate(request, **form)
    set_actor(form["username"].lower())
    if user is not None:
        login(request, user)
    return HttpResponse("<form>")


def log_out(request):
    logout(request)
    return HttpResponse()


def leave(request, patient_id):
    raise SystemExit


def whoami(request):
    return HttpResponse(request.user.get_username())


async def awhoami(request):
    return HttpResponse((await request.auser()).get_username())


def indifferent(request):
    return HttpResponse()


def by_secret(request, **_):
    return HttpResponse()


def boom(request):
    Patient.objects.create(name="before the bang")
    raise ValueError("hunter2")


async def aboom(request):
    raise ValueError("hunter2")


def rows(request):
    def body():
        for patient in Patient.objects.order_by("pk").iterator():
            yield patient.name.encode()

    return StreamingHttpResponse(body())


def file(request):
    return FileResponse(Path(__file__).open("rb"))


class Chart(View):
    @audited("chart.read", resource="chart:{pk}")
    def get(self, request, pk):
        return HttpResponse()

    def post(self, request, pk):
        return HttpResponse()


@method_decorator(audited("statistics.read"), name="dispatch")
class Statistics(View):
    def get(self, request):
        return HttpResponse()


@csrf_exempt
async def apatients(request):
    patient = await Patient.objects.acreate(name=request.GET.get("name", "Ada"))
    return JsonResponse({"id": patient.pk}, status=201)
