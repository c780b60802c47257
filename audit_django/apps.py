"""The app: it captures changes, listens for logins, and checks the project."""

from __future__ import annotations

import sys
from contextlib import suppress

from django.apps import AppConfig, apps
from django.core import checks
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    """``INSTALLED_APPS += ["audit_django"]``."""

    name = "audit_django"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        """Attach to what is there, once all models are."""
        from audit_core.errors import AuditError, Cures
        from audit_django import capture, commands, lifespan, schema, testing, transactions, watched
        from audit_django.checks import check_databases, check_project
        from audit_django.triggers import saying
        from audit_django.triggers.following import follow_migrations

        Cures.make_tables = "run `manage.py migrate`, or `manage.py audit init` for a trail in a file of its own"
        Cures.begin_trail = "`manage.py audit init`"
        capture.install()
        capture.follow_rules()
        transactions.install()
        testing.install()
        watched.install()
        lifespan.install()
        commands.install()
        with suppress(AuditError):  # the check says what is wrong with the settings
            saying.install()
        if apps.is_installed("django.contrib.auth"):
            from audit_django import signals

            signals.connect()
        if "celery" in sys.modules:  # the project has tasks, whose application is imported before Django is set up
            from audit_core.celery import carry_actor

            carry_actor()
        post_migrate.connect(follow_migrations, dispatch_uid="audit_django.triggers")
        post_migrate.connect(schema.create_without_migrations, dispatch_uid="audit_django")
        checks.register(check_project, "audit")
        checks.register(check_databases, checks.Tags.database)
        if sys.argv[1:2] == ["runserver"]:
            from audit_django.runserver import stop_orderly

            stop_orderly()
