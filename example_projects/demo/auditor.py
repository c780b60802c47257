"""The auditor at the command line: ``audit``, as it is installed, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from example_projects.demo.client import TooBusyError
from example_projects.demo.show import Show

COMMAND_SECONDS = 60


class Outcome(NamedTuple):
    """What a command answered: its exit status, and its JSON where it gave any."""

    code: int
    json: dict[str, Any]
    said: str

    @property
    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json.get("findings", [])
        return found

    @property
    def verdict(self) -> str:
        return str(self.json.get("verdict", self.said))

    @property
    def summary(self) -> str:
        return str(self.json.get("summary") or self.said)

    def names(self, kind: str, sequence: int) -> bool:
        return any((one["kind"], one["sequence"]) == (kind, sequence) for one in self.findings)


def audit(show: Show, *words: str) -> Outcome:
    """Show the command and run it; where it can answer in JSON, this program reads that and shows the sentences.

    Raises TooBusyError when it does not end in time.
    """
    show.command(["audit", *words])
    if words[0] == "verify":
        words = (*words, "--json")
    command = Path(sys.executable).with_name("audit")  # beside the interpreter, whether that is on PATH or not
    start = [str(command)] if command.exists() else [sys.executable, "-m", "audit_core.cli"]
    try:
        done = subprocess.run(
            [*start, *words], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False, encoding="utf-8"
        )
    except subprocess.TimeoutExpired as error:
        raise TooBusyError(f"`audit {words[0]}`", COMMAND_SECONDS) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {}
    return Outcome(done.returncode, answer if isinstance(answer, dict) else {}, (done.stdout + done.stderr).strip())
