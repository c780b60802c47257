from django.apps import AppConfig


class ClinicConfig(AppConfig):
    name = "tests.django.clinic"
    label = "clinic"
