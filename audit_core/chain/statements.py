"""The life of a key, and a restored backup: what whoever holds the signing key says of them in the chain itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from audit_core.canonical import format_timestamp
from audit_core.chain import AuditChain
from audit_core.chain.keys import read_keyring
from audit_core.chain.known import Answer, tree_of
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.keyring import Keyring, rotation
from audit_core.integrity.note import Signer, VerifierKey, encode_base64
from audit_core.integrity.statement import RESTORED, REVOKED, ROTATED

TREES_AT_ONCE = 400  # that one statement lists: a record has room for some 500


def rotate(chain: AuditChain, new: Signer, event: AuditEvent, connection: Any, *, lost: bool = False) -> VerifierKey:
    """Name the key that signs from now on: signed by the old one, unless that is ``lost``, and by the new one.

    Raises ConfigurationError for a key that the chain has or had, and what ``AuditChain.state`` raises.
    """
    ring = _keyring(chain)
    key = VerifierKey(ring.origin, new.public_key)
    if key in ring.keys:
        raise ConfigurationError("The new key is, or was, a key of this trail: take one that `audit keygen` prints.")
    says = rotation(ring.present, key, lost=lost)
    if lost:
        chain.state_alone(says, event, connection, new)
    else:
        chain.state(ROTATED, says, event, connection, new=new)
    return key


def revoke(
    chain: AuditChain, key: VerifierKey, event: AuditEvent, connection: Any, *, since: datetime, reason: str
) -> None:
    """Say that an earlier key was in other hands from ``since`` on. Raises ConfigurationError, and as ``rotate``."""
    ring = _keyring(chain)
    if key == ring.present:
        raise ConfigurationError("This is the trail's present key: `audit key rotate` first, then revoke it.")
    if key not in ring.keys:
        names = ", ".join(map(str, ring.keys[:-1])) or "there is none yet"
        raise ConfigurationError(f"This trail never had the key {key}. Its earlier keys: {names}.")
    says = {"key": str(key), "since": format_timestamp(since), "reason": reason}
    chain.state(REVOKED, says, event, connection)


class Lost(NamedTuple):
    """What is known elsewhere of events that the store has not."""

    trees: list[tuple[int, str]]  # size and root of those that the chain does not extend; no root where none is known
    first: int  # the sequence from which on it may be another history

    @property
    def events(self) -> int:
        """How many are lost, at most."""
        return max((size for size, _ in self.trees), default=self.first) - self.first


def find_lost(chain: AuditChain, answers: Iterable[Answer]) -> Lost:
    """What those who keep checkpoints know, and the chain does not extend: signed trees, and what a witness has seen.

    What was acknowledged before is not told again. Raises IntegrityError for a store that does not fit itself.
    """
    ring, size = _keyring(chain), chain.store.extent().signed
    trees: set[tuple[int, str]] = set()
    fits = 0
    for answer in answers:
        if answer.seen and not ring.abandons_size(answer.seen):
            trees.add((answer.seen, ""))
        for tree in filter(None, (tree_of(kept, ring) for kept in answer.kept)):
            if ring.abandons(tree):
                continue
            if tree.size <= size and chain.stored_root(tree.size) == tree.root:
                fits = max(fits, tree.size)
            else:
                trees.add((tree.size, encode_base64(tree.root)))
    forked = [number for number, _ in trees if number <= size]
    return Lost(sorted(trees), fits if forked else size)


def acknowledge(chain: AuditChain, lost: Lost, reason: str, events: Iterator[AuditEvent], connection: Any) -> None:
    """Say that a backup was put back, and what it lacks. Raises as ``rotate``."""
    more = {"lost_from": lost.first, "lost": lost.events, "reason": reason}
    for first in range(0, len(lost.trees), TREES_AT_ONCE):
        trees = [list(tree) for tree in lost.trees[first : first + TREES_AT_ONCE]]
        chain.state(RESTORED, {"abandoned": trees, **more}, next(events), connection)


def _keyring(chain: AuditChain) -> Keyring:
    if (ring := read_keyring(chain.store)) is None:
        raise IntegrityError("The trail has not begun, or its first event names no key: run `audit verify`.")
    return ring


def lost_sentence(lost: Lost, where: Sequence[str]) -> str:
    """Why nothing is sealed."""
    size = max(number for number, _ in lost.trees)
    names = " and ".join(where)
    return (
        f"{names} has a checkpoint of {size:,} events that this trail does not extend: a backup was put back, or its "
        "end was cut off. Nothing is sealed on top of it until `audit acknowledge-restore` has said so; events wait "
        "in the outbox."
    )
