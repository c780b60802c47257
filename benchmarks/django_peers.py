"""The peers of Django's ORM, each set up as its own documentation says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AUTH = ("django.contrib.auth", "django.contrib.contenttypes")
REQUIREMENTS = {
    "auditlog": "django-auditlog==3.4.1",
    "simple_history": "django-simple-history==3.13.0",
    "easy_audit": "django-easy-audit==1.3.9",
    "reversion": "django-reversion==6.4.0",
    "pghistory": "django-pghistory==3.9.2",
}
APPS = {
    "auditlog": [*AUTH, "auditlog"],
    "simple_history": [*AUTH, "simple_history"],
    "easy_audit": [*AUTH, "django.contrib.sessions", "easyaudit"],
    "reversion": [*AUTH, "reversion"],
    "pghistory": [*AUTH, "pgtrigger", "pghistory"],
}
SETTINGS: dict[str, dict[str, Any]] = {"easy_audit": {"DJANGO_EASY_AUDIT_WATCH_REQUEST_EVENTS": False}}
ONLY_POSTGRESQL = ("pghistory",)
TABLES = {  # where it writes what it tells
    "auditlog": ("auditlog_logentry",),
    "simple_history": ("clinic_historicalvisit",),
    "easy_audit": ("easyaudit_crudevent",),
    "reversion": ("reversion_version",),
    "pghistory": ("clinic_visitevent",),
}


def register(variant: str) -> None:
    """What is to be said of a model besides its class: see benchmarks/clinic/models.py."""
    from benchmarks.clinic.models import Visit

    if variant == "auditlog":
        from auditlog.registry import auditlog

        auditlog.register(Visit)
    elif variant == "reversion":
        import reversion

        reversion.register(Visit)


@contextmanager
def one_request(variant: str) -> Iterator[None]:
    """What the peer's middleware puts around a request."""
    if variant == "reversion":
        import reversion

        with reversion.create_revision():
            yield
    elif variant == "pghistory":
        import pghistory

        with pghistory.context(user="ann"):
            yield
    else:
        yield
