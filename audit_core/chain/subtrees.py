"""The roots of subtrees, by the hashes that are stored: as few reads as there can be, and each root computed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from audit_core.errors import IntegrityError
from audit_core.integrity.merkle import Frontier, node_hash, subtree_root
from audit_core.stores import AuditStore

FRONTIER_EVERY = 256  # events; also the most leaves that a proof or a restart reads below a kept frontier
BLOCKS_AT_ONCE = 64  # of so many leaves each
Span = tuple[int, int]


class Subtrees:
    """Roots over ranges of leaves, as the plans of RFC 9162 proofs name them.

    Whoever can modify the store can make any of them wrong: what is made of them is checked against a signed root.
    """

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._known: dict[Span, bytes] = {}

    def root(self, start: int, stop: int) -> bytes:
        """The root over leaves ``start`` to before ``stop``. Raises ValueError or TypeError for what is no hash."""
        if (found := self._known.get((start, stop))) is None:
            found = self._known[start, stop] = self._compute(start, stop)
        return found

    def read(self, spans: Iterable[Span], size: int) -> None:
        """Of many spans in a tree of ``size``, those that lie in one block: the others need few reads then.

        Raises IntegrityError where leaves are missing, ValueError or TypeError for what is no hash.
        """
        wanted: dict[int, list[Span]] = defaultdict(list)
        for start, stop in spans:
            if stop - start <= FRONTIER_EVERY:  # RFC 9162 splits at powers of two: none lies in two blocks
                wanted[start // FRONTIER_EVERY].append((start, stop))
        for first, last in _runs(sorted(wanted)):
            begin = first * FRONTIER_EVERY
            leaves = self._leaves(begin, min((last + 1) * FRONTIER_EVERY, size))
            for block in range(first, last + 1):
                at = block * FRONTIER_EVERY
                self._climb(at, leaves[at - begin : at - begin + FRONTIER_EVERY], wanted[block])

    def _climb(self, at: int, leaves: Sequence[bytes], spans: Iterable[Span]) -> None:
        """All complete subtrees of a block that begins ``at``, level by level, and the others that are wanted."""
        levels = [leaves]
        while len(below := levels[-1]) > 1:
            levels.append([node_hash(*pair) for pair in zip(below[::2], below[1::2], strict=False)])
        for start, stop in spans:
            height = (stop - start).bit_length() - 1
            if stop - start == 1 << height:
                self._known[start, stop] = levels[height][(start - at) >> height]
            else:  # at the right edge of the tree
                self._known[start, stop] = subtree_root(leaves[start - at : stop - at])
        if len(leaves) == FRONTIER_EVERY:
            self._known[at, at + FRONTIER_EVERY] = levels[-1][0]

    def _compute(self, start: int, stop: int) -> bytes:
        """From kept frontiers as far as there are any."""
        size = stop - start
        if size <= FRONTIER_EVERY:
            return subtree_root(self._leaves(start, stop))
        half = 1 << ((size - 1).bit_length() - 1)
        if size == half * 2 and start % (2 * size) == 0:
            kept = self._store.kept_frontier(start + 2 * size - 1)
            if kept is not None and kept.tree_size >= stop:
                tree = Frontier.from_bytes(kept.tree_size, kept.frontier or b"")
                return tree.hashes[start.bit_count()]
        return node_hash(self.root(start, start + half), self.root(start + half, stop))

    def _leaves(self, start: int, stop: int) -> list[bytes]:
        leaves = [bytes.fromhex(text) for text in self._store.leaf_hashes(start, stop)]
        if len(leaves) != stop - start:
            raise IntegrityError(f"Of the events {start} to {stop - 1} some are missing: run `audit verify`.")
        return leaves


def _runs(blocks: Iterable[int]) -> Iterator[Span]:
    """Neighbours together, so many at once; each as its first and its last."""
    first = last = -2
    for block in blocks:
        if block != last + 1 or block - first >= BLOCKS_AT_ONCE:
            if first >= 0:
                yield first, last
            first = block
        last = block
    if first >= 0:
        yield first, last
