"""The clinic's addresses."""

from django.urls import path

from example_projects.django_clinic import views

urlpatterns = [
    path("health", views.health),
    path("login", views.log_in),
    path("logout", views.log_out),
    path("patients", views.Patients.as_view()),
    path("patients/<int:patient_id>", views.OnePatient.as_view()),
    path("patients/<int:patient_id>/notes", views.add_note),
    path("patients/<int:patient_id>/merge", views.merge_patient),
    path("patients/<int:patient_id>/letter", views.send_letter),
]
