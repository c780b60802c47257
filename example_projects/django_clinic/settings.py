"""Django's settings, and in four places the trail's."""

import os
import secrets

URL = os.environ.get("CLINIC_DATABASE", "sqlite:///clinic.db")

SECRET_KEY = os.environ.get("CLINIC_SECRET", secrets.token_hex())
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "example_projects.django_clinic.urls"
WSGI_APPLICATION = "example_projects.django_clinic.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
SESSION_COOKIE_SAMESITE = "Strict"  # no other site's form can act for who is logged in

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "example_projects.django_clinic",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": URL.removeprefix("sqlite:///"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",  # read, then write, without "database is locked"
            "timeout": 15,  # seconds a writer waits for another one
            "init_command": "PRAGMA journal_mode = WAL",
        },
    }
}

# All that the trail needs to know: which reads leave an event. It lies in the default database, and whose changes
# and requests they are, Django knows.
INSTALLED_APPS += ["audit_django"]
MIDDLEWARE = ["audit_django.AuditMiddleware", *MIDDLEWARE]
AUDIT = {"READS": ["patient"], "SKIP": ["/health"]}
