"""Trees that somebody outside of the database knows: the chain must extend each of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Finding


@dataclass(frozen=True, slots=True)
class KnownTree:
    """A checkpoint that is kept elsewhere."""

    checkpoint: Checkpoint
    where: str = ""  # the name of the anchor that keeps it
    since: str = ""  # a time as in the record, by a clock that is not the trail's: then it was there
    key: VerifierKey | None = None  # that has signed it; None for a tree that somebody says he has seen himself

    @property
    def size(self) -> int:
        """Of the tree."""
        return self.checkpoint.size

    def check_key(self, ring: Keyring) -> Iterator[Finding]:
        """A finding where it is signed with another key than trees of its size are."""
        if self.key is not None and self.key != (key := ring.key_at(self.size)):
            yield signed_anew(self.checkpoint, self.where, key)


class KnownTrees:
    """Those of one verification, by their sizes."""

    def __init__(self, known: Iterable[KnownTree]) -> None:
        self._by_size: dict[int, list[KnownTree]] = {}
        for one in _since_larger(known):
            self._by_size.setdefault(one.size, []).append(one)
        self._sizes = sorted(self._by_size)

    def sizes(self, above: int, last: int | None) -> list[int]:
        """Of the trees larger than ``above``, up to ``last``; without that up to the largest."""
        end = len(self._sizes) if last is None else bisect_right(self._sizes, last)
        return self._sizes[bisect_right(self._sizes, above) : end]

    def of(self, size: int) -> list[KnownTree]:
        """Those of this size."""
        return self._by_size.get(size, [])

    def beyond(self, size: int) -> Iterator[KnownTree]:
        """Those of more events."""
        for larger in self.sizes(size, None):
            yield from self.of(larger)


def compare_tree(known: KnownTree, tree: Frontier | None) -> Iterator[Finding]:
    """A finding where the tree of that many events is another one, or events before it hide it."""
    expected, where = known.checkpoint.root.hex(), known.where
    if tree is None:
        got = "nothing to compare: events before it do not fit"
        yield Finding("known", known.size, expected, got, where=where)
    elif tree.root() != known.checkpoint.root:
        yield Finding("known", known.size, expected, tree.root().hex(), where=where)


def truncated(known: KnownTree, size: int) -> Finding:
    """That the chain, of ``size`` events, is shorter."""
    return Finding("truncated", size, f"the {known.size} events of a known checkpoint", str(size), where=known.where)


def signed_anew(checkpoint: Checkpoint, where: str, key: VerifierKey) -> Finding:
    """That another key than ``key`` has signed what is kept."""
    expected = "a trail signed by the key of the checkpoint"
    return Finding("known", checkpoint.size, expected, f"one signed by {key}", where=where)


def _since_larger(known: Iterable[KnownTree]) -> Iterator[KnownTree]:
    """Each since when its anchor had it or a larger one, which holds it: it may come late, from a copy that lags."""
    earliest: dict[str, str] = {}
    for one in sorted(known, key=lambda one: (-one.size, one.since)):
        if one.since:
            since = earliest[one.where] = min(one.since, earliest.get(one.where, one.since))
            yield replace(one, since=since)
        else:
            yield one
