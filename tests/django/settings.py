"""A small project with two databases in files, so that transactions are real."""

import atexit
import os
import shutil
import tempfile

if "AUDIT_TEST_FOLDER" not in os.environ:
    os.environ["AUDIT_TEST_FOLDER"] = tempfile.mkdtemp(prefix="audit-django-")
    atexit.register(shutil.rmtree, os.environ["AUDIT_TEST_FOLDER"], ignore_errors=True)
_folder = os.environ["AUDIT_TEST_FOLDER"]


def _database(name):
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{_folder}/{name}.sqlite3",
        "TEST": {"NAME": f"{_folder}/test_{name}.sqlite3"} if "AUDIT_TEST_MEMORY" not in os.environ else {},
        "ATOMIC_REQUESTS": "AUDIT_TEST_ATOMIC" in os.environ,
        "OPTIONS": {"init_command": os.environ.get("AUDIT_TEST_INIT", ""), "timeout": 20},
    }


SECRET_KEY = "a key for tests, of thirty-two bytes"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.django.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {"default": _database("default"), "other": _database("other")}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "rest_framework.authtoken",
    "tests.django.clinic",
    "tests.django.prison",
    "audit_django",
]
MIDDLEWARE = [
    "audit_django.AuditMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUDIT = {"READS": ["patient"], "EXCLUDE": ["clinic.Draft"]}
