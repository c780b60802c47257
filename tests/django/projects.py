"""A project in a folder of its own, whose commands and scripts run in processes of their own."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.warm import run

ROOT = Path(__file__).parents[2]
PRELOADED = (  # nothing that needs settings
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
    "django.contrib.admin.checks",
    "django.contrib.auth.hashers",
    "django.contrib.auth.password_validation",
    "django.contrib.messages.storage.fallback",
    "django.contrib.sessions.backends.db",
    "django.contrib.staticfiles.finders",
    "django.core.handlers.wsgi",
    "django.db.backends.postgresql.psycopg_any",
    "django.db.backends.sqlite3.base",
    "django.test.client",
    "django.test.runner",
    "tests.all_commands",
    "audit_core.outbox.postgres",
    "audit_core.postgres.doctor",
    "audit_core.stores.postgres",
    "audit_core.stores.sqlite",
    "audit_django.middleware",
    "audit_django.triggers",
    "rich.progress",
    "rich.table",
    "tests.postgres.server",
)
PRELUDE = "import django; django.setup()\n"
# A run of pytest with the plugins that it needs: to load all that are installed takes longer than most of these runs.
PYTEST = (
    "-m",
    "pytest",
    "-q",
    "-p",
    "pytest_django.plugin",
    "-p",
    "pytest_timeout",
    "-p",
    "xdist.plugin",
    "-p",
    "no:cacheprovider",
)


class Project:
    def __init__(self, folder, **environment):
        self.folder = folder
        self.environment = {
            **os.environ,
            "AUDIT_TEST_FOLDER": str(folder),
            "AUDIT_STATE_DIR": str(folder / "state"),
            "DJANGO_SETTINGS_MODULE": "tests.django.settings",
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_DEBUG_TEMPROOT": str(folder),  # a run of pytest shuts the folder of all others' to other users
            **environment,
        }

    def manage(self, *arguments, check=True, text=None, **environment):
        return self._run(["-m", "django", *arguments], check, text, environment)

    def script(self, code, *, check=True, prelude=PRELUDE, **environment):
        return self._run(["-c", prelude + code], check, None, environment)

    def pytest(self, *arguments, timeout=100):
        result = self._run([*PYTEST, *arguments], check=True, text=None, environment={}, timeout=timeout)
        assert " passed" in result.stdout

    def start(self, *command, **options):
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=self.environment, text=True, **options)

    def start_script(self, code):
        return self.start("-c", PRELUDE + code, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def events(self):
        """(alias of nothing) action, resource and whether it is sealed, in the order of the chain."""
        lines = self.script(
            "from audit_django import get_trail\n"
            "for e in get_trail().events(newest_first=False): print(e.action, e.resource_id, e.sealed)"
        )
        return [tuple(line.split()) for line in lines.stdout.splitlines()]

    def _run(self, arguments, check, text, environment, timeout=100):
        environment = {**self.environment, **environment}
        result = run(arguments, PRELOADED, cwd=ROOT, env=environment, text=text, timeout=timeout)
        assert result.returncode == 0 or not check, result.stdout + result.stderr
        return result


def migrated_project(folder, **environment):
    """One whose two databases are migrated."""
    shutil.copytree(_migrated(), folder, dirs_exist_ok=True)
    return Project(folder, **environment)


@cache
def _migrated():
    folder = Path(tempfile.mkdtemp(prefix="audit-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    project = Project(folder)
    project.manage("migrate", "--run-syncdb", "-v0")
    project.manage("migrate", "--run-syncdb", "-v0", "--database=other")
    return folder
