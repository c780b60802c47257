"""Who is told when a trail does not verify: a command, and a web address."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audit_core.anchors.web import post
from audit_core.cli.terminal import note
from audit_core.errors import ConfigurationError, StoreUnavailableError

COMMAND_SECONDS = 60


@dataclass(slots=True)
class Alarm:
    """Tells what ``--json`` prints; of what is wrong for long, once."""

    command: str | None
    webhook: str | None
    _told: dict[str, object] = field(default_factory=dict)  # by which way, what

    def __post_init__(self) -> None:
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise ConfigurationError(f"--webhook is an http or https address, not {self.webhook!r}.")

    def ring(self, document: Mapping[str, Any]) -> None:
        """That nobody could be told is said here, and changes no verdict; he is told the next time."""
        text, what = json.dumps(document, ensure_ascii=False), _news(document)
        for tell, where in ((self._run, self.command), (self._post, self.webhook)):
            if where and self._told.get(where) != what and tell(where, text):
                self._told[where] = what

    def rest(self) -> None:
        """All is well again: the next failure is news."""
        self._told.clear()

    def _run(self, command: str, text: str) -> bool:
        try:
            # What an administrator has typed, without a shell.
            done = subprocess.run(shlex.split(command), input=text, text=True, timeout=COMMAND_SECONDS, check=False)  # noqa: S603
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            note(f"--on-failure could not be run: {error}", "red")
            return False
        if done.returncode:
            note(f"--on-failure ended with exit code {done.returncode}.", "red")
        return not done.returncode

    def _post(self, webhook: str, text: str) -> bool:
        try:
            response = post(webhook, text.encode(), "application/json")
        except StoreUnavailableError as error:
            note(f"--webhook: {error}", "red")
            return False
        if not 200 <= response.status < 300:
            note(f"--webhook: it answers with status {response.status}.", "red")
            return False
        return True


def _news(document: Mapping[str, Any]) -> object:
    """What is compared: the words of a finding may have the time in them."""
    findings = [(found["kind"], found["sequence"], found["where"]) for found in document.get("findings", ())]
    return document.get("result"), document.get("reason"), findings
