"""The life of a key, and a restored backup: what whoever holds the signing key says of them in the chain itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from audit_core.canonical import format_timestamp
from audit_core.chain import AuditChain
from audit_core.chain.edge import LEAVES_AT_ONCE
from audit_core.chain.keys import read_keyring
from audit_core.chain.known import Answer, signed_tree
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.keyring import Keyring, rotation
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import Signer, VerifierKey, encode_base64
from audit_core.integrity.statement import RESTORED, REVOKED, ROTATED
from audit_core.normalise import clean_text
from audit_core.stores import AuditStore

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
        chain.state(ROTATED, says, event, connection, also=[new])
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
    says = {"key": str(key), "since": format_timestamp(since), "reason": clean_text(reason)}
    chain.state(REVOKED, says, event, connection)


class Lost(NamedTuple):
    """What is known elsewhere of events that the store has not."""

    trees: list[tuple[int, str]]  # size and root of those that the chain does not extend; no root where none is known
    first: int  # the sequence from which on there are others
    same: int  # events that are as they were, as far as it is known
    keys: list[VerifierKey]  # of those trees, as far as the trail has not got them yet

    @property
    def events(self) -> int:
        """How many are lost, at most."""
        return max((size for size, _ in self.trees), default=self.first) - self.first


def find_lost(
    chain: AuditChain, answers: Iterable[Answer], held: Iterable[Signer] = (), *, replaced: bool = False
) -> Lost:
    """What those who keep checkpoints know, and the chain does not extend: signed trees, and what a witness has seen.

    A backup may be older than a rotation: what a key has signed that is ``held`` here counts, too. Or the key was
    ``replaced`` since the backup was put back: then all counts that an earlier one has signed. No other backup lacks
    what an earlier key has signed, and its thief can sign anything: without that it stops no sealer.

    What was acknowledged before is not told again. Raises IntegrityError for a store that does not fit itself.
    """
    answers, size = list(answers), chain.store.extent().signed  # first: in a bucket it looks for what others have added
    ring = _keyring(chain)
    newer = [key for one in held if (key := VerifierKey(ring.origin, one.public_key)) not in ring.keys]
    others = [*newer, *(ring.keys if replaced else ())]
    kept = dict(found for answer in answers for one in answer.kept if (found := signed_tree(one, ring, others)))
    trees = {tree for tree in kept if not ring.abandons(tree)}
    fitting = set(_fitting(chain.store, sorted(trees, key=lambda tree: tree.size), size))
    earlier = () if replaced else ring.keys[:-1]
    strange = {(tree.size, encode_base64(tree.root)) for tree in trees - fitting if kept[tree] not in earlier}
    strange |= {(answer.seen, "") for answer in answers if answer.seen and not ring.abandons_size(answer.seen)}
    common = max((tree.size for tree in fitting), default=0)
    late = any(kept[tree] in ring.keys and kept[tree] != ring.key_at(tree.size) for tree in trees)
    is_forked = late or any(number <= size for number, _ in strange)
    keys = [key for key in newer if key in {kept[tree] for tree in trees}]
    return Lost(sorted(strange), common if is_forked else size, common, keys)


def _fitting(store: AuditStore, trees: Iterable[Checkpoint], size: int) -> Iterator[Checkpoint]:
    """Those, of trees in order of size, that the stored hashes come to."""
    grown = Frontier()
    for tree in trees:
        if tree.size > size:
            return
        while grown.size < tree.size:
            hashes = store.leaf_hashes(grown.size, min(grown.size + LEAVES_AT_ONCE, tree.size))
            if not hashes:
                return
            grown.extend(map(_digest, hashes))
        if grown.root() == tree.root:
            yield tree


def _digest(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except (ValueError, TypeError) as error:
        raise IntegrityError("What is stored is not a tree of hashes: run `audit verify`.") from error


def acknowledge(
    chain: AuditChain,
    lost: Lost,
    events: Iterator[AuditEvent],
    connection: Any,
    *,
    reason: str,
    held: Iterable[Signer] = (),
) -> None:
    """Say that a backup was put back, and what it lacks. Raises as ``rotate``."""
    also = [one for one in held if VerifierKey(lost.keys[0].name, one.public_key) in lost.keys] if lost.keys else []
    keys = {"keys": list(map(str, lost.keys))} if lost.keys else {}
    more = {**keys, "lost_from": lost.first, "lost": lost.events, "same": lost.same, "reason": clean_text(reason)}
    for first in range(0, len(lost.trees), TREES_AT_ONCE):
        trees = [list(tree) for tree in lost.trees[first : first + TREES_AT_ONCE]]
        chain.state(RESTORED, {"abandoned": trees, **more}, next(events), connection, also=also)


def _keyring(chain: AuditChain) -> Keyring:
    if (ring := read_keyring(chain.store)) is None:
        raise IntegrityError("The trail has not begun, or its first event names no key: run `audit verify`.")
    return ring


def lost_sentence(lost: Lost, where: str) -> str:
    """Why nothing is sealed."""
    size = max(number for number, _ in lost.trees)
    return (
        f"{where[:1].upper()}{where[1:]} has a checkpoint of {size:,} events that this trail does not extend: a backup "
        "was put back, or its end was cut off. Nothing is sealed on top of it until `audit acknowledge-restore` has "
        "said so; events wait in the outbox."
    )
