"""Checkpoints that were kept elsewhere, and what a time-stamp authority or a witness has signed of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from audit_core.anchors import Anchor
from audit_core.chain import AuditChain
from audit_core.chain.proof import prove_consistency
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.evidence.opened import KEPT
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.merkle import check_consistency
from audit_core.integrity.note import parse_note


class Receipt(Protocol):
    """A checkpoint with what somebody else has signed of it."""

    @property
    def note(self) -> str: ...  # noqa: D102 - the names say it
    @property
    def signed(self) -> bytes | None: ...  # noqa: D102
    @property
    def since(self) -> datetime | None: ...  # noqa: D102


@runtime_checkable
class HasReceipts(Protocol):
    """An anchor that has more to show than checkpoints."""

    def receipts(self) -> Iterator[Receipt]:
        """All of them, the largest tree first."""


class Held(NamedTuple):
    """One checkpoint, and who has it since when."""

    note: str
    where: str = ""  # the name of the anchor; empty for one that was given
    since: datetime | None = None  # by the clock of the anchor
    signed: bytes | None = None  # an RFC 3161 response

    @property
    def tree(self) -> Checkpoint:
        """What it says. Raises IntegrityError for what is no checkpoint."""
        return Checkpoint.parse(parse_note(self.note)[0])


@dataclass(frozen=True, slots=True)
class Shown:
    """A kept checkpoint with the proof that the newest extends it (RFC 9162 2.1.4)."""

    held: Held
    size: int
    hashes: tuple[bytes, ...]


def held_by(anchor: Anchor, chain: AuditChain, last: int, size: int, keys: Keyring) -> list[Held]:
    """Of what an anchor keeps up to ``size``, the newest, and the first that covers the event ``last``.

    Not what a restored backup has left behind: a signed event in the trail says that. Raises what asking it raises.
    """
    newest = first = None
    for held in _all_of(anchor, chain):
        try:
            there = held.tree
        except IntegrityError:  # what lies there may be anything: `audit verify` tells of it
            continue
        if there.size <= size and not keys.abandons(there):
            newest = newest or held
            first = held if there.size > last else first
    return [held for held in dict.fromkeys((first, newest)) if held is not None]


def _all_of(anchor: Anchor, chain: AuditChain) -> Iterator[Held]:
    if isinstance(anchor, HasReceipts):
        for receipt in anchor.receipts():
            yield Held(receipt.note, anchor.name, receipt.since, receipt.signed)
        return
    for kept in anchor.kept(chain):
        if isinstance(kept.what, str):
            yield Held(kept.what, anchor.name, kept.kept_at)


def ask(
    anchors: Iterable[Anchor], chain: AuditChain, last: int, size: int, keys: Keyring
) -> tuple[list[Held], list[str]]:
    """What they hold, and in a sentence each which could not be asked."""
    found: list[Held] = []
    troubles: list[str] = []
    for anchor in anchors:
        try:
            found += held_by(anchor, chain, last, size, keys)
        except Exception as error:  # noqa: BLE001 - an anchor may be down, lie, or be the application's own
            what = str(error) if isinstance(error, AuditError) else f"{type(error).__name__}: {error}"
            troubles.append(f"{anchor.name} could not be asked, and is not in the bundle: {what}")
    return found, troubles


def show(held: Sequence[Held], chain: AuditChain, head: Checkpoint, keys: Keyring) -> list[Shown]:
    """Each with its proof.

    Raises IntegrityError where one is of another key or trail, or is not extended, ConfigurationError where a restored
    backup has left it behind, and for too many.
    """
    if len(held) > KEPT:  # what checks a bundle reads no more
        raise ConfigurationError(f"A bundle has {KEPT:,} kept checkpoints at most: give fewer with --checkpoint.")
    return [_show(one, chain, head, keys) for one in dict.fromkeys(held)]


def _show(held: Held, chain: AuditChain, head: Checkpoint, keys: Keyring) -> Shown:
    where = f"that {held.where} keeps" if held.where else "that you gave"
    if keys.abandons(held.tree):
        raise ConfigurationError(
            f"The checkpoint {where} is of {held.tree.size:,} events, some of which a restored backup lacks, as the "
            "trail says (trail.restored): leave it out."
        )
    try:
        old = open_checkpoint(held.note, keys.key_at(held.tree.size))
        hashes = prove_consistency(chain.store, old.size, head.size)
        check_consistency(old.size, head.size, hashes, old.root, head.root)
    except IntegrityError as error:
        raise IntegrityError(
            f"The trail does not extend the checkpoint {where} ({error}): nothing is exported; run `audit verify` "
            "with it."
        ) from error
    return Shown(held, old.size, hashes)
