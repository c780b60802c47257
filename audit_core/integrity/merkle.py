"""The Merkle tree over all records (RFC 9162, 2.1): its root, and proofs that need only a few of its hashes.

A proof is made in three steps: *plan* which subtrees it takes, *read* their leaves (the caller does that),
*compute* their roots with `subtree_root`. Checking one needs no storage at all.

Trust: whoever holds a root that they got elsewhere can be shown neither a leaf that is not in the tree nor a
tree that lost or changed one. A root that came with the proof proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice

from audit_core.errors import IntegrityError

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves (RFC 9162, 2.1.1)."""

_BATCH = 2048  # leaves hashed level by level at a time; beyond some 10,000 they leave the CPU's cache


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node (RFC 9162, 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a tree: all that is needed to go on appending to it.

    One hash for every bit that is set in `size`: the roots of the complete subtrees that the leaves fall
    into, largest first. An attacker who can modify a stored frontier can make the next root wrong, and
    nothing else: a verifier computes it afresh from the records.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add many leaves. Raises IntegrityError when one of them is not a SHA-256 hash.

        Then the leaves of earlier batches are in; of the batch with the wrong one, none is.
        """
        source = iter(leaves)
        while batch := list(islice(source, _BATCH)):
            _check_hashes(batch)
            self._merge(batch)

    def _merge(self, level: list[bytes]) -> None:
        """Climb level by level, from the leaves to the top; `level` is used up.

        A subtree of the level's height that waits in the tree goes in front; what then has no partner waits.
        """
        hash_of, height, waiting = sha256, self.size, []
        self.size += len(level)
        while level:
            if height & 1:
                level.insert(0, self.hashes.pop())
            if len(level) & 1:
                waiting.append(level.pop())
            # node_hash, written out: the call would cost a tenth of the speed
            level = [
                hash_of(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=True)
            ]
            height >>= 1
        self.hashes.extend(reversed(waiting))

    def root(self) -> bytes:
        """The root of the whole tree (RFC 9162, 2.1.1)."""
        if not self.hashes:
            return EMPTY_ROOT
        root, *larger = reversed(self.hashes)
        for left in larger:
            root = node_hash(left, root)
        return root

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self.hashes.copy())

    def to_bytes(self) -> bytes:
        """The hashes in one piece; the size is kept beside it."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The frontier that `to_bytes` wrote. Raises IntegrityError when it does not fit the size."""
        expected = max(size, 0).bit_count() * HASH_SIZE
        if size < 0 or len(data) != expected:
            raise IntegrityError(
                f"the frontier of a tree of size {size}: expected {expected} bytes, got {len(data)}; "
                "build it again from the records"
            )
        return cls(size, [data[at : at + HASH_SIZE] for at in range(0, expected, HASH_SIZE)])


def subtree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaves alone: MTH of RFC 9162, 2.1.1.

    Raises IntegrityError when one of them is not a SHA-256 hash.
    """
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def plan_inclusion(index: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges (start, stop) whose roots make up an inclusion proof, in order (RFC 9162, 2.1.3.1).

    Raises IntegrityError when the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise IntegrityError(f"a tree of size {size} has no leaf {index}; expected 0 <= index < size")
    start, stop, plan = 0, size, []
    while stop - start > 1:
        middle = _middle(start, stop)
        if index < middle:
            plan.append((middle, stop))
            stop = middle
        else:
            plan.append((start, middle))
            start = middle
    return plan[::-1]


def plan_consistency(old_size: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges (start, stop) whose roots make up a consistency proof, in order (RFC 9162, 2.1.4.1).

    Empty for an old tree of size 0, which every tree extends. Raises IntegrityError when the tree shrinks.
    """
    if not 0 <= old_size <= size:
        raise IntegrityError(f"a tree of size {size} cannot extend one of size {old_size}: a log only grows")
    if old_size == 0:
        return []
    start, stop, plan = 0, size, []
    while stop != old_size:
        middle = _middle(start, stop)
        if old_size <= middle:
            plan.append((middle, stop))
            stop = middle
        else:
            plan.append((start, middle))
            start = middle
    if start:  # SUBPROOF(m, D_m, false); at 0 it is the old tree itself, whose root the verifier has
        plan.append((start, stop))
    return plan[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the tree with this size and root has this leaf at this index (RFC 9162, 2.1.3.2).

    Raises IntegrityError when the proof does not show it.
    """
    plan = plan_inclusion(index, size)
    _check_shape(proof, plan, f"the inclusion proof of leaf {index} in a tree of size {size}")
    _check_hashes((leaf, root))
    computed = leaf
    for (_, stop), sibling in zip(plan, proof, strict=True):
        computed = node_hash(sibling, computed) if stop <= index else node_hash(computed, sibling)
    _check_equal(root, computed, f"leaf {index} is not in the tree of size {size}")


def check_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Check that the tree only grew: its first leaves are those of the old tree (RFC 9162, 2.1.4.2).

    An old tree of size 0 has the one root EMPTY_ROOT, and an empty proof. Raises IntegrityError when the
    proof does not show it.
    """
    plan = plan_consistency(old_size, size)
    _check_shape(proof, plan, f"the consistency proof from size {old_size} to {size}")
    _check_hashes((old_root, root))
    if old_size == 0:
        _check_equal(EMPTY_ROOT, old_root, "the old tree is not empty")
        if size:
            return
    # 2.1.4.2, step 2: the subtree from which both climbs start is either in the proof or the old tree itself
    seed, rest = (proof[0], 1) if plan and plan[0][1] == old_size else (old_root, 0)
    old_computed = computed = seed
    for (start, _), sibling in zip(plan[rest:], proof[rest:], strict=True):
        if start < old_size:
            old_computed, computed = node_hash(sibling, old_computed), node_hash(sibling, computed)
        else:
            computed = node_hash(computed, sibling)
    _check_equal(old_root, old_computed, f"the proof does not start from the old tree of size {old_size}")
    _check_equal(root, computed, f"the tree of size {size} does not extend the one of size {old_size}")


def _middle(start: int, stop: int) -> int:
    """Where a subtree splits: the largest power of two that is smaller than its size (RFC 9162, 2.1.1)."""
    return start + (1 << (stop - start - 1).bit_length() - 1)


def _check_shape(proof: Sequence[bytes], plan: Sequence[tuple[int, int]], what: str) -> None:
    """Sizes and index alone say how long a proof is. Raises IntegrityError when it is longer or shorter."""
    if len(proof) != len(plan):
        raise IntegrityError(f"{what}: expected {len(plan)} hashes, got {len(proof)}")
    _check_hashes(proof)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    """Raise IntegrityError unless all have 32 bytes: else two different pairs could make the same node."""
    wrong = set(map(len, hashes)) - {HASH_SIZE}
    if wrong:
        raise IntegrityError(f"a hash has the wrong length: expected {HASH_SIZE} bytes, got {min(wrong)}")


def _check_equal(expected: bytes, got: bytes, what: str) -> None:
    """Raise IntegrityError unless the two roots are one."""
    if expected != got:
        raise IntegrityError(f"{what}: expected root {expected.hex()}, got {got.hex()}")
