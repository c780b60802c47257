"""Check a whole chain, streaming: every finding, not only the first.

The caller reads; this module only computes. It trusts the first key and the checkpoints that were kept elsewhere, and
nothing else: rows and stored checkpoints may have been written by an attacker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.clock import Clock
from audit_core.integrity.erasure import ValueVerifier
from audit_core.integrity.hashed import UNENCODABLE, Hashed, RowReader, Unknown
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.known_trees import KnownTree, KnownTrees, compare_tree, truncated
from audit_core.integrity.link import GENESIS_HASH
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.statement import RESTORED, Statement
from audit_core.integrity.verify import Finding, StoredHead, as_text, parse_head


@dataclass(slots=True)
class ChainVerifier:
    """Walks rows and checkpoints once, in order, in constant memory.

    ``ring`` has the first key, and grows with the statements that are met. ``known`` are trees that were kept where the
    operator cannot rewrite them: the chain must extend each. ``abandoned`` are those of which a statement that must
    still be met says that a restored backup lacks them.
    """

    ring: Keyring
    known: KnownTrees
    abandoned: Sequence[KnownTree] = ()
    size: int = 0  # sequences walked so far, missing ones included
    values: ValueVerifier = field(default_factory=lambda: ValueVerifier(iter(())))
    _previous: Any = GENESIS_HASH  # None after a gap: what was there is not known
    _tree: Frontier | None = field(default_factory=Frontier)  # None while a gap hides a leaf
    _signed: int = 0
    _happened: str = ""  # the time of the last row walked
    _clock: Clock = field(default_factory=Clock)

    @property
    def state(self) -> tuple[Frontier | None, Any]:
        """The tree of what was walked, and the hash of the last event; with findings they may be anything."""
        return self._tree, self._previous

    def walk(self, rows: Iterable[Hashed], checkpoints: Iterable[StoredHead]) -> Iterator[Finding]:
        """Yield every finding of the chain; ``rows`` are what ``hash_rows`` makes of them, in order."""
        reader = RowReader(rows)
        yield from self._check_known(self.size)
        for checkpoint in checkpoints:
            yield from self._walk_rows(reader, checkpoint.tree_size)
            yield from self._check_missing_tail(checkpoint.tree_size)
            yield from self._check_checkpoint(checkpoint)
        yield from self._walk_rows(reader, None)
        yield from self._check_end()

    def _walk_rows(self, reader: RowReader, stop: int | None) -> Iterator[Finding]:
        cuts = self.known.sizes(self.size, stop)
        for cut in dict.fromkeys([*cuts, stop]):  # a checkpoint may lie where one was kept
            while chunk := reader.take(cut):
                yield from self._check_rows(chunk)
            if cut is not None and cut == self.size:
                yield from self._check_known(cut)

    def _check_rows(self, rows: list[Hashed]) -> Iterator[Finding]:
        """Compare each record's hash with its own row and with the row before."""
        previous, expected = self._previous, self.size
        leaves: list[bytes] = []
        for sequence, link, stored, digest, why, _, said, private in rows:
            leaf = digest
            if type(sequence) is not int or sequence < expected:  # from a table made anew, or from below the first
                place = sequence if type(sequence) is int else None
                yield Finding("misplaced", place, f"a sequence of {expected} or more", str(sequence))
                continue
            if digest.hex() != stored:
                got = f"a row that is no record ({why})" if why else digest.hex()
                yield Finding("edited", sequence, as_text(stored), got)
                leaf = _hash_bytes(stored)
            elif said is not None:
                yield from self._follow(said, sequence, link)
            if private is None:  # it is no record that is here: nobody knows what it commits to
                yield from self.values.skip(sequence)
            elif private != "":
                yield from self.values.check(sequence, private)
            if sequence != expected:
                yield Finding("missing", expected, _range(expected, sequence), "nothing")
                self._skip(leaves, expected, sequence, link)
            elif link != previous and previous is not None and link is not Unknown.LINK:
                yield Finding("unlinked", sequence, as_text(previous), as_text(link))
            leaves.append(leaf)
            previous, expected = stored, sequence + 1
        self._previous, self.size, self._happened = previous, expected, str(rows[-1][5] or self._happened)
        self._grow(leaves)

    def _follow(self, said: tuple[str, str], sequence: int, link: str) -> Iterator[Finding]:
        """Go on by what a statement says; a warning of what only looks like one, which anybody can record."""
        action, details = said
        statement = Statement.parse(self.ring.origin, action, sequence, link, details)
        if statement is None or not self.ring.follow(statement):
            expected = "a statement signed with the trail's key"
            yield Finding("statement", sequence, expected, f"an event {action} without its signature", warning=True)
        elif action == RESTORED:
            for known in filter(self._is_abandoned, self.abandoned):
                self._clock.reach(known)

    def _is_abandoned(self, known: KnownTree) -> bool:
        return self.ring.abandons(known.checkpoint)

    def _skip(self, leaves: list[bytes], expected: int, sequence: int, previous: Any) -> None:
        """A single missing leaf is known from the row after it; more than one hides the tree."""
        if sequence == expected + 1:
            leaves.append(_hash_bytes(previous))
        else:
            leaves.append(b"")

    def _grow(self, leaves: list[bytes]) -> None:
        if b"" in leaves:
            self._tree = None
        elif self._tree is not None:
            self._tree.extend(leaves)

    def _check_missing_tail(self, stop: int) -> Iterator[Finding]:
        if self.size < stop:
            yield Finding("missing", self.size, _range(self.size, stop), "nothing")
            self.size, self._tree, self._previous = stop, None, None

    def _check_checkpoint(self, stored: StoredHead) -> Iterator[Finding]:
        if stored.first_sequence != self._signed or stored.tree_size <= self._signed:
            yield Finding(
                "checkpoint.missing", self._signed, f"a checkpoint from {self._signed} on",
                f"one of {as_text(stored.first_sequence)} to {stored.tree_size}",
            )  # fmt: skip
        self._signed = stored.tree_size
        try:
            head = parse_head(stored, self.ring.origin)
        except IntegrityError:
            yield Finding("checkpoint.unreadable", stored.tree_size, "a base64 root of 32 bytes", as_text(stored.root))
        else:
            yield from self._check_head(head, stored)
        yield from self._clock.check(stored, self._happened)

    def _check_head(self, head: Checkpoint, stored: StoredHead) -> Iterator[Finding]:
        key = self.ring.key_at(head.size)
        if head.is_signed_by(key, stored.signature):
            yield from self._check_root(head, stored.frontier)
        else:
            yield Finding("checkpoint.signature", head.size, f"a signature by {key}", as_text(stored.signature))

    def _check_root(self, head: Checkpoint, frontier: bytes | None) -> Iterator[Finding]:
        """Compare the recomputed tree, and go on from the signed one where ours is lost."""
        got = None if self._tree is None else self._tree.root()
        kept = _as_frontier(head, frontier)
        if got is not None and got != head.root:
            yield Finding("checkpoint.root", head.size, head.root.hex(), got.hex())
        if frontier is not None and kept is None:
            yield Finding("checkpoint.frontier", head.size, head.root.hex(), "a frontier of another tree")
        if got != head.root:
            self._tree = kept

    def _check_known(self, size: int) -> Iterator[Finding]:
        for known in self.known.of(size):
            found = next(known.check_key(self.ring), None) or next(compare_tree(known, self._tree), None)
            if found is not None:
                yield found
            else:
                self._clock.reach(known)

    def _check_end(self) -> Iterator[Finding]:
        if self.size == 0:
            yield Finding("empty", None, "a log.created event", "an empty trail")
        if self.size > self._signed:
            yield Finding("unsigned", self._signed, f"a checkpoint of {self.size} events", f"one of {self._signed}")
        for known in self.known.beyond(self.size):
            yield next(known.check_key(self.ring), truncated(known, self.size))
        for known in self.abandoned:
            if not self._is_abandoned(known):  # an index has told of a statement that is not there
                yield truncated(known, self.size)


def _hash_bytes(text: Any) -> bytes:
    """The 32 bytes of a hex hash; nothing where it is none."""
    try:
        digest = bytes.fromhex(text)
    except UNENCODABLE:
        return b""
    return digest if len(digest) == sha256().digest_size and digest.hex() == text else b""


def _as_frontier(head: Checkpoint, frontier: bytes | None) -> Frontier | None:
    """The kept frontier, if it is the signed tree's."""
    try:
        kept = Frontier.from_bytes(head.size, frontier or b"")
        return kept if kept.root() == head.root else None
    except (IntegrityError, TypeError):
        return None


def _range(start: int, stop: int) -> str:
    return f"event {start}" if stop == start + 1 else f"events {start} to {stop - 1}"
