"""What the writer of this process has done since the process began: for metrics."""

from __future__ import annotations

from dataclasses import dataclass

from audit_core.process.forking import abandon_in_children


@dataclass(slots=True, weakref_slot=True, eq=False)
class Counts:
    """Events, but for ``failures``. Only the writer's thread changes them."""

    written: int = 0  # committed into the outbox, or sealed at once
    spilled: int = 0  # written to the spill file first
    lost: int = 0  # that fitted nowhere, each told in a trail.gap
    failures: int = 0  # tries to write that the database refused

    def __post_init__(self) -> None:
        abandon_in_children(self)

    def abandon(self) -> None:
        """In a forked child: it has done nothing yet."""
        self.written = self.spilled = self.lost = self.failures = 0
