"""The same project on PostgreSQL: ``DJANGO_SETTINGS_MODULE=tests.django.postgres_settings pytest tests/django/...``."""

import os

from psycopg.conninfo import conninfo_to_dict

from tests.django.settings import *  # noqa: F403
from tests.postgres.server import shared

_server = conninfo_to_dict(os.environ.get("AUDIT_TEST_POSTGRES") or shared().url)
_prefix = os.environ.get("AUDIT_TEST_DATABASE", "clinic")
_options = {
    "plain": {},
    "pool": {"pool": True, "server_side_binding": True},
}[os.environ.get("AUDIT_TEST_OPTIONS", "plain")]


def _on_postgres(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": f"{_prefix}_{name}",
        "HOST": _server["host"],
        "PORT": _server.get("port", ""),
        "USER": os.environ.get("AUDIT_TEST_USER") or _server["user"],
        "PASSWORD": "test" if "AUDIT_TEST_USER" in os.environ else _server.get("password", ""),
        "OPTIONS": _options,
        "ATOMIC_REQUESTS": "AUDIT_TEST_ATOMIC" in os.environ,
        "TEST": {"AUDIT": "AUDIT_TEST_MEMORY" not in os.environ},
    }


if "AUDIT_TEST_TRIGGERS" in os.environ:
    AUDIT = {**AUDIT, "TRIGGERS": True, "REDACT": {"locker.pin": "hash"}}  # noqa: F405

DATABASES = {"default": _on_postgres("default"), "other": _on_postgres("other")}
