"""What verification says: its results, its findings, and the signed tree heads that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from audit_core.integrity.checkpoint import Checkpoint

SHOWN = 500  # characters of a value that is none of ours


class Result(StrEnum):
    """What verification says."""

    OK = "ok"
    FAILED = "failed"
    UNANCHORED = "unanchored"  # consistent in itself, but nothing outside the database vouches for it


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, or (``warning``) worth a look."""

    kind: str
    sequence: int | None
    expected: str
    got: str
    warning: bool = False
    where: str = ""  # which anchor it is about

    def __str__(self) -> str:
        place = "" if self.sequence is None else f" at sequence {self.sequence}"
        return f"{self.kind}{place}: expected {self.expected}, got {self.got}"


class StoredHead(Protocol):
    """A signed tree head as a store has it."""

    @property
    def tree_size(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def first_sequence(self) -> int: ...  # noqa: D102
    @property
    def root(self) -> str: ...  # noqa: D102
    @property
    def signature(self) -> str: ...  # noqa: D102
    @property
    def frontier(self) -> bytes | None: ...  # noqa: D102
    @property
    def sealed_at(self) -> str: ...  # noqa: D102


def parse_head(stored: StoredHead, origin: str) -> Checkpoint:
    """The stored checkpoint as one. Raises IntegrityError when it is none, whatever somebody wrote there."""
    return Checkpoint.parse(f"{origin}\n{stored.tree_size}\n{stored.root}\n")


def as_text(value: object) -> str:
    """What a column holds, which may be anything, as a finding shows it."""
    return (value if isinstance(value, str) else repr(value))[:SHOWN]
