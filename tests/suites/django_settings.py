"""Settings for Django's own tests: its usual ones, with databases in files or on a server, and with capture or without.

In files, because there capture writes its events as it does in an application: into an outbox in the database that
changes, in the transaction that changes it. On a server the same is asked for with TEST["AUDIT"].
"""

import os
import sys
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict
from test_sqlite import *  # noqa: F403 - Django's, which lies beside its runtests.py

from tests.suites.outcomes import CAPTURES


def _database(alias):
    if url := os.environ.get("SUITE_SERVER"):
        server = conninfo_to_dict(url)
        place = {"NAME": alias, "HOST": server["host"], "USER": server["user"], "PORT": server.get("port", "")}
        return {"ENGINE": "django.db.backends.postgresql", "TEST": {"AUDIT": True}, **place}
    return {"ENGINE": "django.db.backends.sqlite3", "TEST": {"NAME": str(Path(os.environ["TMPDIR"], f"{alias}.db"))}}


DATABASES = {alias: _database(alias) for alias in ("default", "other")}
TEST_RUNNER = "tests.suites.django_runner.Runner"

if CAPTURES:
    sys.modules["__main__"].ALWAYS_INSTALLED_APPS.append("audit_django")  # runtests.py gives these to each test
