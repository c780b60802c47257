"""What became of each test of somebody else's suite, and how many events capture wrote meanwhile.

A suite runs in a process of its own, which writes a line for each test into the file that SUITE_OUTCOMES names. No
events would mean that nothing was tried.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from audit_core import AuditTrail

CAPTURES = os.environ.get("SUITE_CAPTURE") == "1"
_FILE = Path(os.environ.get("SUITE_OUTCOMES", os.devnull))  # known now: a test may take the environment away
_MESSAGE = 4000  # characters of it, from its end
_events = Counter()


class Outcomes(NamedTuple):
    """Of one run: the tests that passed, and those that failed with their messages."""

    passed: set[str]
    failed: dict[str, str]
    events: int


def note(test, outcome, message=""):
    """One test has ``passed``, ``failed`` or been ``skipped``."""
    with _FILE.open("a", encoding="utf-8") as file:
        print(json.dumps([test, outcome, message[-_MESSAGE:]]), file=file)


def count_events(method="_carry"):
    """Count what every trail is given, from now on: by capture, or, with ``submit``, by requests."""
    original = getattr(AuditTrail, method)

    def counting(self, events, *where, **more):
        if method == "_carry":
            events = list(events)
        _events[method] += len(events) if method == "_carry" else 1
        return original(self, events, *where, **more)

    setattr(AuditTrail, method, counting)


def note_events():
    """The last line. Without it the process has died before the end."""
    note("", "events", str(_events.total()))


def read(path):
    """The outcomes of a run that came to its end. A test that has failed once has failed."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not lines or lines[-1][1] != "events":
        raise RuntimeError(f"The tests did not run to their end: see what lies beside {path}.")
    failed = {test: message for test, outcome, message in lines if outcome == "failed"}
    passed = {test for test, outcome, _ in lines if outcome == "passed"} - failed.keys()
    return Outcomes(passed, failed, int(lines[-1][2]))
