"""The same project with a user model of its own."""

from tests.django.settings import *  # noqa: F403
from tests.django.settings import DATABASES, INSTALLED_APPS

AUTH_USER_MODEL = "staff.Member"
INSTALLED_APPS = [name for name in INSTALLED_APPS if name not in {"tests.django.clinic", "django.contrib.admin"}] + [
    "tests.django.staff"
]
DATABASES = {"default": DATABASES["default"]}
ROOT_URLCONF = "django.contrib.staticfiles.urls"
AUDIT = {}
