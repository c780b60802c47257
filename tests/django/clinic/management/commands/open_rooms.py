from django.core.management.base import BaseCommand, CommandError

from audit_django import get_trail
from tests.django.clinic.models import Room


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("numbers", nargs="*")
        parser.add_argument("--password")

    def handle(self, numbers, **_):
        if not numbers:
            raise CommandError("Which?")
        for number in numbers:
            Room.objects.create(number=number)
        get_trail().record("rooms.opened", details={"count": len(numbers)})
