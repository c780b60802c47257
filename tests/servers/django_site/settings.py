"""A project of one model, on the database of AUDIT_URL."""

import os

from tests.servers.notes import BUSY_SECONDS, DURABLE

_URL = os.environ["AUDIT_URL"]


def _database():
    if path := _URL.removeprefix("sqlite:///") if _URL.startswith("sqlite:") else None:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": {"timeout": BUSY_SECONDS}}
    from psycopg.conninfo import conninfo_to_dict

    place = conninfo_to_dict(_URL)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": place["dbname"],
        "HOST": place.get("host", ""),
        "PORT": place.get("port", ""),
        "USER": place.get("user", ""),
        "PASSWORD": place.get("password", ""),
    }


SECRET_KEY = "test"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.servers.django_site.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": _database()}
INSTALLED_APPS = ["django.contrib.contenttypes", "tests.servers.django_site", "audit_django"]
MIDDLEWARE = ["audit_django.AuditMiddleware"]
AUDIT = {"ON_FAILURE": os.environ.get("AUDIT_ON_FAILURE", "spill"), "DURABLE": DURABLE}
