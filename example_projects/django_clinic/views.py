"""What the clinic answers, in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_GET, require_POST

from audit_core import add_details, audited
from example_projects.django_clinic.models import Note, Patient

Answer = Callable[..., HttpResponseBase]


def signed_in(permission: str | None = None) -> Callable[[Answer], Answer]:
    """Only for who is logged in and has the permission, if one is given."""

    def decorate(view: Answer) -> Answer:
        @wraps(view)
        def guarded(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return JsonResponse({"detail": "Log in first."}, status=401)
            if permission and not request.user.has_perm(permission):
                raise PermissionDenied
            return view(request, **arguments)

        return guarded

    return decorate


def conflict(detail: str) -> JsonResponse:
    return JsonResponse({"detail": detail}, status=409)


@require_GET
def health(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "open"})


@require_POST
def log_in(request: HttpRequest) -> JsonResponse:
    form = json.loads(request.body)
    user = authenticate(request, username=form["name"], password=form["password"])
    if user is None:
        return JsonResponse({"detail": "Wrong name or password."}, status=401)
    login(request, user)
    return JsonResponse({"id": user.pk, "name": user.get_username()})


@require_POST
@signed_in()
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse(status=204)


@method_decorator(signed_in(), "dispatch")
class Patients(View):
    def get(self, request: HttpRequest) -> JsonResponse:
        found = Patient.objects.filter(name__contains=request.GET.get("name", ""))[:20]
        return JsonResponse([patient.as_dict() for patient in found], safe=False)

    def post(self, request: HttpRequest) -> JsonResponse:
        form = json.loads(request.body)
        patient = Patient(name=form["name"], born=form["born"], diagnosis=form["diagnosis"], ssn=form.get("ssn", ""))
        patient.save()
        return JsonResponse(patient.as_dict(), status=201)


class OnePatient(View):
    @method_decorator(signed_in())
    def get(self, _: HttpRequest, patient_id: int) -> JsonResponse:
        return JsonResponse(get_object_or_404(Patient, pk=patient_id).as_dict())

    @method_decorator(signed_in())
    @transaction.atomic
    def patch(self, request: HttpRequest, patient_id: int) -> JsonResponse:
        form = json.loads(request.body)
        patient = get_object_or_404(Patient, pk=patient_id)
        if form["version"] != patient.version:
            return conflict("Somebody else changed this patient meanwhile.")
        for field in {"name", "diagnosis"} & form.keys():
            setattr(patient, field, form[field])
        patient.version += 1
        patient.save()
        return JsonResponse(patient.as_dict())

    @method_decorator(signed_in("django_clinic.delete_patient"))
    @transaction.atomic
    def delete(self, _: HttpRequest, patient_id: int) -> JsonResponse:
        patient = get_object_or_404(Patient, pk=patient_id)
        notes = patient.notes.count()
        patient.delete()
        return JsonResponse({"notes": notes})


@require_POST
@signed_in()
@transaction.atomic
def add_note(request: HttpRequest, patient_id: int) -> JsonResponse:
    patient = get_object_or_404(Patient, pk=patient_id)
    note = Note(patient=patient, author=request.user.get_username(), text=json.loads(request.body)["text"])
    note.save()
    return JsonResponse({"id": note.pk}, status=201)


class NotTheSamePatientError(Exception):
    """Raised inside the transaction, which it rolls back."""


@require_POST
@signed_in("django_clinic.delete_patient")
@audited("patient.merge", resource="patient:{patient_id}")
def merge_patient(request: HttpRequest, patient_id: int) -> JsonResponse:
    """The notes of a duplicate go to the other file, and the duplicate is deleted."""
    into = json.loads(request.body)["into"]
    add_details(into=into)
    try:
        return JsonResponse({"notes": merge(patient_id, into)})
    except NotTheSamePatientError:
        return conflict("They were born on different days: these are two patients.")


@transaction.atomic
def merge(duplicate_id: int, into: int) -> int:
    duplicate, patient = get_object_or_404(Patient, pk=duplicate_id), get_object_or_404(Patient, pk=into)
    notes = list(duplicate.notes.all())
    for note in notes:
        note.patient = patient
        note.save()
    duplicate.delete()
    if duplicate.born != patient.born:
        raise NotTheSamePatientError
    return len(notes)


@require_POST
@signed_in()
@transaction.atomic
def send_letter(request: HttpRequest, patient_id: int) -> HttpResponse:
    patient = get_object_or_404(Patient, pk=patient_id)
    Note(patient=patient, author=request.user.get_username(), text="letter sent").save()
    raise ConnectionError("The post room does not answer.")  # 500: the note is rolled back, the request is an event
