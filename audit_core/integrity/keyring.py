"""The keys of one chain, one after another, and what its signed statements say of them, of backups and of erasures.

Trust: the first key is the one that the first event names, or one that the verifier was given. Each later key is named
by the one before, and has signed for it itself. What only looks like a statement is not followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit_core.canonical import parse_timestamp
from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.erasure import Erasure, erasure_of
from audit_core.integrity.note import VerifierKey, encode_base64, parse_note, split_signature
from audit_core.integrity.retention import KINDS, Archive, Hold, Purge
from audit_core.integrity.statement import (
    ARCHIVED,
    ERASED,
    HELD,
    LIFTED,
    PURGED,
    RESTORED,
    REVOKED,
    ROTATED,
    Statement,
)

# What it says is of another form. Whoever records events may write it, and must not end a verification by that.
_MALFORMED = (IntegrityError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class Reign(NamedTuple):
    """How long a key signs: from a tree size on, until the next one does."""

    key: VerifierKey
    first: int = 0  # the smallest tree that it signs
    sequence: int = 0  # of the event that named it
    after_loss: bool = False  # whether it says alone that it is the next one: the key before was lost


class Revocation(NamedTuple):
    """That a key was stolen, or may have been."""

    key: VerifierKey
    since: str  # a time as in the record
    sequence: int
    reason: str


class Restoration(NamedTuple):
    """That a backup was put back, which lacks events that were sealed."""

    sequence: int
    abandoned: frozenset[tuple[int, str]]  # size and root of the trees that are gone; no root where nobody knows it
    lost_from: int  # the first sequence that is not what it was
    lost: int  # events
    same: int  # of the first events that somebody outside knows to be as they were
    reason: str
    keys: tuple[VerifierKey, ...] = ()  # that the trail had after the backup was made: they have signed it, too


@dataclass(slots=True)
class Keyring:
    """Grows with each statement, in order of their sequences."""

    reigns: list[Reign]
    revocations: list[Revocation] = field(default_factory=list)
    restorations: list[Restoration] = field(default_factory=list)
    archives: dict[int, Archive] = field(default_factory=dict)  # by the sequence of the statement
    purges: dict[int, Purge] = field(default_factory=dict)  # by the sequence of the archive's statement
    holds: dict[int, Hold] = field(default_factory=dict)  # those that were not lifted, by their sequence
    erasures: list[Erasure] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)  # those that were followed
    _had: set[VerifierKey] = field(default_factory=set)  # every key: a stranger's bundle may have very many

    def __post_init__(self) -> None:
        self._had.update(self.keys)

    @classmethod
    def begin(cls, key: VerifierKey, statements: Iterable[Statement] = ()) -> Keyring:
        """With the first key, and what was followed before."""
        ring = cls([Reign(key)])
        for statement in statements:
            ring.follow(statement)
        return ring

    @property
    def origin(self) -> str:
        """Of the chain whose keys they are."""
        return self.reigns[0].key.name

    @property
    def present(self) -> VerifierKey:
        """The key that signs what comes next."""
        return self.reigns[-1].key

    @property
    def keys(self) -> list[VerifierKey]:
        """All of them, the first one first."""
        return [reign.key for reign in self.reigns]

    def place_of(self, key: VerifierKey) -> int | None:
        """Which of them it is, counted from 0."""
        return self.keys.index(key) if key in self.keys else None

    def key_at(self, size: int) -> VerifierKey:
        """The key that signs a tree of this size."""
        return next((reign.key for reign in reversed(self.reigns) if reign.first <= size), self.reigns[0].key)

    def signer_of(self, note: str) -> VerifierKey | None:
        """The one of them whose signature a note has, whether that holds or not. Raises IntegrityError for no note."""
        named = {split_signature(signature)[0] for name, signature in parse_note(note)[1] if name == self.origin}
        return next((key for key in reversed(self.keys) if key.key_hash in named), None)

    def is_purged(self, archive: int) -> bool:
        """Whether the events of this archive, by its statement's sequence, were destroyed."""
        return archive in self.purges

    def not_purged(self) -> list[Archive]:
        """The archives whose events are still to be had, in order of time."""
        there = (one for one in self.archives.values() if not self.is_purged(one.sequence))
        return sorted(there, key=lambda one: (one.month, one.sequence))

    def abandons(self, checkpoint: Checkpoint) -> bool:
        """Whether a restored backup has left this tree behind."""
        tree = checkpoint.size, encode_base64(checkpoint.root)
        return any(tree in one.abandoned for one in self.restorations)

    def abandons_size(self, size: int) -> bool:
        """Whether a tree of this size, of which no root is known, was left behind with a larger one."""
        return any(one.lost_from < size <= max(one.abandoned)[0] for one in self.restorations if one.abandoned)

    def follow(self, statement: Statement) -> bool:
        """Whether it is by a key that may say so; then it counts from now on."""
        known = {
            ROTATED: self._rotate, REVOKED: self._revoke, RESTORED: self._restore, ARCHIVED: self._archive,
            PURGED: self._purge, HELD: self._hold, LIFTED: self._lift, ERASED: self._erase,
        }  # fmt: skip
        try:
            if not known[statement.kind](statement):
                return False
        except _MALFORMED:
            return False
        self.statements.append(statement)
        return True

    def _rotate(self, statement: Statement) -> bool:
        new = new_key_of(statement)
        if statement.says["old"] != str(self.present) or new is None or new.name != self.origin or new in self._had:
            return False
        after_loss = is_after_loss(statement)
        if not (after_loss or statement.is_signed_by(self.present)):
            return False
        # The old key signs the checkpoint of the rotation itself, where it is there.
        first = statement.sequence + (1 if after_loss else 2)
        self.reigns.append(Reign(new, first, statement.sequence, after_loss))
        self._had.add(new)
        return True

    def _revoke(self, statement: Statement) -> bool:
        says = statement.says
        key = VerifierKey.parse(says["key"])
        parse_timestamp(says["since"])
        if key not in self._had or key == self.present or not statement.is_signed_by(self.present):
            return False
        self.revocations.append(Revocation(key, says["since"], statement.sequence, str(says["reason"])))
        return True

    def _restore(self, statement: Statement) -> bool:
        found = _restoration(statement.sequence, statement.says)
        if not all(map(statement.is_signed_by, (self.present, *found.keys))):
            return False
        self.restorations.append(found)
        return True

    def _archive(self, statement: Statement) -> bool:
        found = Archive.of(statement.sequence, statement.says)
        if not statement.is_signed_by(self.present):
            return False
        self.archives[found.sequence] = found
        return True

    def _purge(self, statement: Statement) -> bool:
        says = statement.says
        number = says["archive"]
        if type(number) is not int or number not in self.archives or not statement.is_signed_by(self.present):
            return False
        self.purges[number] = Purge(statement.sequence, number, str(says["reason"]))
        return True

    def _hold(self, statement: Statement) -> bool:
        says = statement.says
        kind, name = says["kind"], says["name"]
        if kind not in KINDS or not isinstance(name, str) or not statement.is_signed_by(self.present):
            return False
        self.holds[statement.sequence] = Hold(statement.sequence, kind, name, str(says["reason"]))
        return True

    def _lift(self, statement: Statement) -> bool:
        number = statement.says["hold"]
        if type(number) is not int or number not in self.holds or not statement.is_signed_by(self.present):
            return False
        del self.holds[number]
        return True

    def _erase(self, statement: Statement) -> bool:
        found = erasure_of(statement.sequence, statement.says)
        if not statement.is_signed_by(self.present):
            return False
        self.erasures.append(found)
        return True


def rotation(old: VerifierKey, new: VerifierKey, *, lost: bool) -> dict[str, Any]:
    """What a rotation says."""
    return {"old": str(old), "new": str(new), **({"lost": True} if lost else {})}


def new_key_of(statement: Statement) -> VerifierKey | None:
    """The key that a rotation names, if that has signed it: who names a key that he has not could claim its events."""
    if statement.kind != ROTATED:
        return None
    try:
        key = VerifierKey.parse(str(statement.says.get("new")))
    except IntegrityError:
        return None
    return key if statement.is_signed_by(key) else None


def is_after_loss(statement: Statement) -> bool:
    """Whether a rotation says that the key before was lost, so that it could not sign."""
    return statement.says.get("lost") is True


def leads_to(first: VerifierKey, statements: Iterable[Statement]) -> Iterator[VerifierKey]:
    """The key, and those that it names one after another. No key names one that says that it was lost."""
    ring = Keyring.begin(first)
    yield first
    for statement in statements:
        if statement.kind == ROTATED and not is_after_loss(statement) and ring.follow(statement):
            yield ring.present


def led_to(last: VerifierKey, statements: Sequence[Statement]) -> Iterator[VerifierKey]:
    """The keys that led to this one, the latest first. They vouch for it, and it does not vouch for them."""
    for statement in reversed(statements):
        if new_key_of(statement) == last:
            last = VerifierKey.parse(str(statement.says.get("old")))
            if not statement.is_signed_by(last):
                return
            yield last


def _restoration(sequence: int, says: Mapping[str, Any]) -> Restoration:
    abandoned = frozenset((int(size), str(root)) for size, root in says["abandoned"])
    keys = tuple(map(VerifierKey.parse, says.get("keys", ())))
    numbers = int(says["lost_from"]), int(says["lost"]), int(says["same"])
    return Restoration(sequence, abandoned, *numbers, str(says["reason"]), keys)
