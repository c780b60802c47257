"""The log stream: wherever an application's log is shipped to, its checkpoints are, too.

An attacker who can change what was shipped can remove lines there. One who runs the application can only stop.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from audit_core.chain import AuditChain
from audit_core.chain.known import Kept
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.note import parse_note

LOGGER = "audit_core.anchor"
logger = logging.getLogger(LOGGER)
# In one piece of plain characters: whatever wraps a line, as JSON or syslog does, leaves it as it is.
_LINE = re.compile(r"audit-checkpoint:([A-Za-z0-9+/]+={0,2})")


class LogAnchor:
    """Writes each checkpoint as a line of the log ``audit_core.anchor``; reads them where the log was collected."""

    def __init__(self, collected: str | None = None) -> None:
        """``collected`` is a file with the lines of the log, in whichever form."""
        self._collected = Path(collected) if collected else None

    @property
    def name(self) -> str:
        return f"the log {self._collected}" if self._collected else "the log"

    def keep(self, note: str, chain: AuditChain) -> None:
        del chain
        if not (logger.isEnabledFor(logging.INFO) and logger.hasHandlers()):
            raise ConfigurationError(
                f"The logger {LOGGER} drops messages of the level INFO, and with them the checkpoints: set its level, "
                "and give it a handler."
            )
        size = Checkpoint.parse(parse_note(note)[0]).size
        logger.info("%d events audit-checkpoint:%s", size, base64.b64encode(note.encode()).decode())

    def kept(self, chain: AuditChain) -> Iterator[Kept]:
        del chain
        if self._collected is None:
            raise ConfigurationError("The log is read where it was collected: name that file, log:/path/to/collected.")
        try:
            with self._collected.open(encoding="utf-8", errors="replace") as lines:
                found = [match[1] for line in lines for match in _LINE.finditer(line)]
        except OSError as error:
            raise StoreUnavailableError(f"{self._collected}: {error.strerror}.") from error
        notes = [Kept(_decode(text)) for text in dict.fromkeys(found)]
        yield from sorted(notes, key=lambda kept: kept.size, reverse=True)


def _decode(text: str) -> str:
    """Whoever can have something logged can write what looks like a line of ours: that is kept as what it is."""
    try:
        return base64.b64decode(text + "==").decode(errors="replace")
    except ValueError:
        return text
