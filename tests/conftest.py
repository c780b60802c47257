import gc
import os
import signal
import sys
import tempfile
import weakref
from pathlib import Path

import pytest

from audit_core.errors import Cures
from audit_core.trail import AuditTrail
from tests.memory import roomy_place

if "TMPDIR" not in os.environ:
    os.environ["TMPDIR"], tempfile.tempdir = roomy_place(), None

# Keys that a test makes by accident must not land in the user's state directory.
os.environ["AUDIT_STATE_DIR"] = tempfile.mkdtemp(prefix="audit-state-")
for variable in ("AUDIT_KEY", "AUDIT_HASH_KEY", "AUDIT_URL"):
    os.environ.pop(variable, None)

# A shell's background jobs ignore Ctrl-C, and what a process ignores its children ignore as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

CURES = {"make_tables": "run `audit init`", "begin_trail": "`audit init`"}  # pytest-django may have been here before
WITH_DJANGO = [Path(__file__).parent / "django", Path(__file__).parent / "adapters"]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported and collected is never garbage: whoever looks for some later finds that of the tests alone."""
    gc.disable()
    try:
        return (yield)
    finally:
        import hypothesis  # noqa: F401 - at the end of each run it is, and asks for what the collector can see then

        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items):
    """From Python 3.13 on, sqlite3 warns of the connections that Django leaves behind with a thread that ends."""
    theirs = pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
    )
    for item in items:
        if item.path.parent in WITH_DJANGO:
            item.add_marker(theirs)


@pytest.fixture(autouse=True, scope="module")
def _collect_what_django_left(request):
    """Before the tests of others begin, in which such a warning is an error."""
    yield
    if request.path.parent in WITH_DJANGO:
        gc.collect()


@pytest.fixture(autouse=True)
def _cures_of_the_core(request, monkeypatch):
    """Django's application names its own commands in them, for the whole process."""
    if request.path.parent not in WITH_DJANGO:
        for name, cure in CURES.items():
            monkeypatch.setattr(Cures, name, cure)


@pytest.fixture(autouse=True, scope="module")
def _keep_the_disk_free():
    """Thousands of tests make a database each."""
    yield
    if server := sys.modules.get("tests.postgres.server"):
        server.replace_full_servers()


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A state directory of this test's own: another host, so to speak."""
    directory = tmp_path / "state"
    monkeypatch.setenv("AUDIT_STATE_DIR", str(directory))
    return directory


@pytest.fixture
def audit(path, capsys):
    """Run a command on the file at ``path``: exit code, stdout, stderr. None shows a traceback, whatever was done."""
    from audit_core.cli import main

    def run(*words):
        capsys.readouterr()
        code = main([*map(str, words), "--url", f"sqlite:///{path}"])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.fixture(autouse=True)
def _close_every_trail(monkeypatch):
    """A trail that a test leaves open is closed after it: none of them warns in the midst of another test."""
    made = weakref.WeakSet()
    make = AuditTrail.__init__

    def remember(self, *args, **kwargs):
        made.add(self)
        make(self, *args, **kwargs)

    monkeypatch.setattr(AuditTrail, "__init__", remember)
    yield
    for trail in list(made):
        if hasattr(trail, "_history"):  # else a setting was wrong, and it was never made
            trail.close()
