"""Checkpoints that lie outside of the database, and that the chain must extend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from audit_core.canonical import format_timestamp
from audit_core.errors import AuditError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.note import Signer, VerifierKey, parse_note, split_signature
from audit_core.integrity.verify import Finding, Known


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

    def warnings(self) -> Iterable[Finding]:
        """That it could not be asked."""
        if self.trouble is not None:
            yield Finding("anchor.unreachable", None, "an answer", self.trouble, warning=True, where=self.where)


class Compared(NamedTuple):
    """What can be compared with the chain, what is wrong without that, and what may be the caller's mistake."""

    known: list[Known]
    strange: list[Finding]
    doubt: AuditError | None


def compare(answers: Iterable[Answer], key: VerifierKey, stranger: Signer | None) -> Compared:
    """Those that the key signed, a finding for each that another key signed, and a doubt of another trail's.

    What ``stranger`` signed, whose key the trail does not have, was of the trail that it was before. Raises
    IntegrityError when a checkpoint that the caller has kept is none; of an anchor's, it is a warning.
    """
    known: list[Known] = []
    strange: list[Finding] = []
    doubt: AuditError | None = None
    for answer in answers:
        strange += [*answer.findings, *answer.warnings()]
        for kept in answer.kept:
            try:
                found = _compare(kept, answer.where, key, stranger)
            except IntegrityError as error:
                if not answer.where:
                    raise
                strange.append(
                    Finding("anchor.unreadable", None, "a checkpoint", str(error), warning=True, where=answer.where)
                )
                continue
            if isinstance(found, Known):
                known.append(found)
            elif isinstance(found, Finding):
                strange.append(found)
            else:
                doubt = found
    return Compared(known, strange, doubt)


def _compare(kept: Kept, where: str, key: VerifierKey, stranger: Signer | None) -> Known | Finding | AuditError:
    since = format_timestamp(kept.kept_at) if kept.kept_at and kept.is_attested else ""
    if isinstance(kept.what, Checkpoint):
        return Known(kept.what, where, since)
    note = kept.what
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    if checkpoint.origin == key.name and not _is_of_another_key(note, key):
        return Known(open_checkpoint(note, key), where, since)
    if checkpoint.origin == key.name or (stranger is not None and _is_signed(note, checkpoint.origin, stranger)):
        expected = "a trail signed by the key of the checkpoint"
        return Finding("known", checkpoint.size, expected, f"one signed by {key}", where=where)
    holder = f" that {where} keeps" if where else ""
    return IntegrityError(f"The checkpoint{holder} is of the trail {checkpoint.origin}, and this one is {key.name}.")


def is_opened_by(note: str, key: VerifierKey) -> bool:
    """Whether it is a checkpoint of the key's trail, signed with it."""
    try:
        open_checkpoint(note, key)
    except IntegrityError:
        return False
    return True


def _is_signed(note: str, origin: str, signer: Signer) -> bool:
    return is_opened_by(note, VerifierKey(origin, signer.public_key))


def _is_of_another_key(note: str, key: VerifierKey) -> bool:
    """Whether it was signed for the same chain, but never with this key: then the trail was signed anew since."""
    hashes = [split_signature(signature)[0] for name, signature in parse_note(note)[1] if name == key.name]
    return bool(hashes) and key.key_hash not in hashes
