"""Checkpoints that lie outside of the database, and that the chain must extend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from audit_core.canonical import format_timestamp
from audit_core.chain.seen import BEFORE
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.known_trees import KnownTree, signed_anew
from audit_core.integrity.note import Signer, VerifierKey, encode_base64, parse_note, spelled
from audit_core.integrity.verify import Finding

CHANGED = (
    "What was verified before is not as it was remembered ({}): somebody has changed it. Remove its file, to begin "
    "with all events."
)


class Kept(NamedTuple):
    """One checkpoint that somebody keeps."""

    what: str | Checkpoint  # a signed note, or a tree that he says he has seen himself
    kept_at: datetime | None = None  # since when, by his clock
    is_attested: bool = False  # whether that clock says when it came, whatever is copied or restored there

    @property
    def size(self) -> int:
        """Of which it says that it is; 0 for what is no checkpoint."""
        try:
            found = self.what if isinstance(self.what, Checkpoint) else Checkpoint.parse(parse_note(self.what)[0])
        except IntegrityError:
            return 0
        return found.size


@dataclass(frozen=True, slots=True)
class Answer:
    """What one place outside of the database says of the chain."""

    where: str = ""  # the anchor's name; empty for what the caller has kept himself
    kept: Sequence[Kept] = ()
    findings: tuple[Finding, ...] = ()
    trouble: str | None = None  # why it could not be asked
    seen: int = 0  # events of the tree that the findings are about, of which it only says that it has seen it

    def warnings(self) -> Iterable[Finding]:
        """That it could not be asked."""
        if self.trouble is not None:
            yield Finding("anchor.unreachable", None, "an answer", self.trouble, warning=True, where=self.where)


class Compared(NamedTuple):
    """What can be compared with the chain, what is wrong without that, and what may be the caller's mistake."""

    known: list[KnownTree]
    strange: list[Finding]
    doubt: AuditError | None


def compare(answers: Iterable[Answer], ring: Keyring, stranger: Signer | None) -> Compared:
    """Those that one of the keys signed, a finding for each that another key signed, and a doubt of another trail's.

    What ``stranger`` signed, whose key the trail does not have, was of the trail that it was before. Raises
    IntegrityError when a checkpoint that the caller has kept is none, ConfigurationError when the one that was verified
    before is none; of an anchor's, it is a warning.
    """
    known: list[KnownTree] = []
    strange: list[Finding] = []
    doubt: AuditError | None = None
    for answer in answers:
        strange += [*_said(answer, ring), *answer.warnings()]
        for kept in answer.kept:
            try:
                found = _compare(kept, answer.where, ring, stranger)
            except IntegrityError as error:
                if not answer.where:
                    raise
                if answer.where == BEFORE:
                    raise ConfigurationError(CHANGED.format(error)) from error
                strange.append(
                    Finding("anchor.unreadable", None, "a checkpoint", str(error), warning=True, where=answer.where)
                )
                continue
            if isinstance(found, KnownTree):
                known.append(found)
            elif isinstance(found, Finding):
                strange.append(found)
            else:
                doubt = found
    return Compared(known, strange, doubt)


def _said(answer: Answer, ring: Keyring) -> Iterator[Finding]:
    """A witness goes on saying what it has seen: of what a restored backup lacks that is no news."""
    for finding in answer.findings:
        is_told = bool(answer.seen) and ring.abandons_size(answer.seen)
        yield replace(finding, kind="anchor.left", warning=True) if is_told else finding


def _compare(kept: Kept, where: str, ring: Keyring, stranger: Signer | None) -> KnownTree | Finding | AuditError:
    since = format_timestamp(kept.kept_at) if kept.kept_at and kept.is_attested else ""
    if isinstance(kept.what, Checkpoint):
        return KnownTree(kept.what, where, since)
    note = kept.what
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    if checkpoint.origin == ring.origin:
        if signer := ring.signer_of(note):
            return KnownTree(open_checkpoint(note, signer), where, since, signer)
        if _is_left_behind(note, checkpoint, ring):
            return KnownTree(checkpoint, where, since)
        if any(name == ring.origin for name, _ in parse_note(note)[1]):  # the trail was signed anew since
            return signed_anew(checkpoint, where, ring.key_at(checkpoint.size))
        open_checkpoint(note, ring.present)  # raises: nobody has signed it for this trail
    if stranger is not None and is_opened_by(note, VerifierKey(checkpoint.origin, stranger.public_key)):
        return signed_anew(checkpoint, where, ring.present)
    holder = f" that {where} keeps" if where else ""
    of, this = spelled(checkpoint.origin), spelled(ring.origin)
    return IntegrityError(f"The checkpoint{holder} is of the trail {of}, and this one is {this}.")


def _is_left_behind(note: str, checkpoint: Checkpoint, ring: Keyring) -> bool:
    """Whether a key that a restored backup has not got yet says so, too: the thief of the one before has not got it."""
    tree = checkpoint.size, encode_base64(checkpoint.root)
    keys = (key for one in ring.restorations if tree in one.abandoned for key in one.keys)
    return any(is_opened_by(note, key) for key in keys)


def is_opened_by(note: str, key: VerifierKey) -> bool:
    """Whether it is a checkpoint of the key's trail, signed with it."""
    try:
        open_checkpoint(note, key)
    except IntegrityError:
        return False
    return True


def signed_tree(kept: Kept, ring: Keyring, others: Iterable[VerifierKey] = ()) -> tuple[Checkpoint, VerifierKey] | None:
    """The tree that somebody who had the trail's key of that time has signed, and the key; None where it is none.

    ``others`` are keys whose signature counts on a tree of any size.
    """
    if isinstance(kept.what, Checkpoint):
        return None
    if (tree := tree_of(kept, ring)) is not None:
        return tree, ring.key_at(tree.size)
    key = next((key for key in others if is_opened_by(str(kept.what), key)), None)
    return None if key is None else (open_checkpoint(kept.what, key), key)


def tree_of(kept: Kept, ring: Keyring) -> Checkpoint | None:
    """The tree that it shows to have been the chain's, as far as its signature says; None where it shows none."""
    if isinstance(kept.what, Checkpoint):
        return kept.what
    try:
        signer = ring.signer_of(kept.what)
        found = open_checkpoint(kept.what, signer) if signer else None
    except IntegrityError:
        return None
    return found if found and signer == ring.key_at(found.size) else None
