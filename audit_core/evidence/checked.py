"""What checking a bundle has found, and what it knows while it goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn

from audit_core.errors import IntegrityError
from audit_core.evidence.opened import OpenedBundle
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.note import VerifierKey, parse_note

FAULTS_AT_MOST = 1_000
_LARGEST = 2**53 - 1


class Verdict(StrEnum):
    """What checking comes to."""

    OK = "ok"
    FAILED = "failed"
    UNTRUSTED = "untrusted"  # consistent in itself, but nobody has said which key is to be trusted


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: where, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(slots=True)
class CheckedBundle:
    """What was found, and what was seen on the way."""

    faults: list[Fault] = field(default_factory=list)
    origin: str = ""
    tree_size: int = 0
    events: int = 0  # that were asked for
    besides: int = 0
    selection: dict[str, Any] = field(default_factory=dict)
    ranges: list[tuple[int, int]] = field(default_factory=list)  # of sequences without a gap
    key: str = ""  # that signed the checkpoint, as the bundle says
    trusted: bool = False  # whether whoever checks has named that key, or one that was replaced by it
    replaced: bool = False  # whether it was one that was replaced
    is_before: bool = False  # whether the checkpoint was signed before the key that was given came to sign
    purged: int = 0  # events that belong to what was asked for, and were destroyed, as signed events say
    revoked: list[tuple[int, str, str, str]] = field(default_factory=list)  # by which event, which key, since, why
    restored: list[tuple[int, int, int, str]] = field(default_factory=list)  # by which event, lost, from where on, why
    kept: list[tuple[int, str, str]] = field(default_factory=list)  # size, where and since when, as the bundle says
    vouched: int = 0  # events that a checkpoint covers which whoever checks has kept
    uncompared: list[int] = field(default_factory=list)  # sizes of those of his that the bundle has no proof from
    receipts: int = 0  # time stamps, which are not checked
    strange: list[str] = field(default_factory=list)  # files for people that are not those of this version

    @property
    def verdict(self) -> Verdict:
        """FAILED for the least fault; OK only for a key from elsewhere."""
        if self.faults:
            return Verdict.FAILED
        return Verdict.OK if self.trusted else Verdict.UNTRUSTED


class SigningKey(NamedTuple):
    """A key, from which tree size on it signs, and the sequence of the event that has named it."""

    key: VerifierKey
    start: int
    event: int | None


class StopError(IntegrityError):
    """Something is wrong without which nothing more can be said."""


@dataclass(slots=True)
class Checking:
    """What later parts need of earlier ones."""

    bundle: OpenedBundle
    found: CheckedBundle = field(default_factory=CheckedBundle)
    about: dict[str, Any] = field(default_factory=dict)  # bundle.json
    keys: list[SigningKey] = field(default_factory=list)
    rotations: dict[int, dict[str, Any]] = field(default_factory=dict)  # records that are said to have named a key
    retained: list[dict[str, Any]] = field(default_factory=list)  # other records in which the trail speaks of itself
    _head: Checkpoint | None = None
    sequences: list[int] = field(default_factory=list)
    question: str = ""
    nodes: dict[tuple[int, int], str] = field(default_factory=dict)  # what the proofs have, by their leaves

    @property
    def head(self) -> Checkpoint:
        """The checkpoint that all proofs lead to; set before anything else is checked against it."""
        assert self._head is not None  # noqa: S101 - without it nothing more is checked
        return self._head

    @head.setter
    def head(self, head: Checkpoint) -> None:
        self._head = head

    def fault(self, where: str, what: str) -> None:
        """One thing wrong. After the first thousand nobody reads on."""
        if len(self.found.faults) < FAULTS_AT_MOST:
            self.found.faults.append(Fault(where, what))

    def ask(self, question: str) -> None:
        """What the bundle cannot be blamed for, and whoever checks it has to answer; unless something is wrong."""
        self.question = self.question or question

    def stop(self, where: str, what: str) -> NoReturn:
        """The same, and nothing more can be said. Raises StopError."""
        self.fault(where, what)
        raise StopError(what)

    def key_for(self, size: int) -> VerifierKey:
        """The key that signs checkpoints of this size, as the bundle says."""
        return next((one.key for one in reversed(self.keys) if one.start <= size), self.keys[0].key)

    def open(self, note: str) -> Checkpoint:
        """A checkpoint that the key of its size has signed. Raises IntegrityError."""
        return open_checkpoint(note, self.key_for(Checkpoint.parse(parse_note(note)[0]).size))


def read_json(text: str) -> Any:
    """Raises IntegrityError for what is no JSON, names a member twice, or holds what no record can."""
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"it is not JSON ({error})") from None


def lines_of(text: str) -> list[str]:
    """Never splitlines(): it also splits at U+2028, which a name may hold."""
    return text.split("\n")[:-1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is named twice")
    return found


def _integer(text: str) -> int:
    """What every reader reads alike (RFC 7493, 2.2)."""
    return int(text) if len(text) <= len(str(-_LARGEST)) and abs(int(text)) <= _LARGEST else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is in no record")
