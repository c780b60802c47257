"""Walk a chain from its beginning, or from what was seen of it before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit_core.chain.hashing import LOWEST
from audit_core.chain.proof import prove_consistency
from audit_core.chain.seen import Seen
from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.merkle import check_consistency
from audit_core.integrity.note import VerifierKey, parse_note
from audit_core.integrity.verify import ChainVerifier, Finding, Hashed, Known, parse_head
from audit_core.stores import AuditStore, StoredCheckpoint


class Walker:
    """One walk over what a store holds."""

    def __init__(self, store: AuditStore, key: VerifierKey, known: Sequence[Known], begin: Seen | None) -> None:
        """``begin`` is signed with the key; without it the walk begins at the first event."""
        self.store, self.key, self.known, self.begin = store, key, known, begin
        self._last: StoredCheckpoint | None = None
        if begin is None:
            self._verifier = ChainVerifier(key, known)
        else:
            size = begin.tree.size
            ahead = [one for one in known if one.checkpoint.size >= size]
            self._verifier = ChainVerifier(key, ahead, size, begin.last_hash, begin.tree.copy(), size)

    def walk(self, rows: Iterator[Hashed], signed: int) -> Iterator[Finding]:
        """Every finding; ``signed`` is the largest tree size of a checkpoint."""
        if self.begin is not None:
            yield from self._check_before(self.begin)
        yield from self._verifier.walk(rows, self._checkpoints_until(signed))

    @property
    def seen(self) -> Seen | None:
        """What was walked, if nothing was found."""
        tree, last_hash = self._verifier.state
        if self._last is None:
            return self.begin
        if tree is None or last_hash is None or tree.size != self._last.tree_size:
            return None
        note = parse_head(self._last, self.key.name).note(self._last.signature)
        return Seen(note, tree, last_hash)

    def _check_before(self, begin: Seen) -> Iterator[Finding]:
        """What was kept of less than was seen, by consistency proofs.

        Of each place the largest: older ones were compared when that was seen.
        """
        seen = Checkpoint.parse(parse_note(begin.note)[0])
        before = [known for known in self.known if known.checkpoint.size < seen.size]
        largest: dict[str, int] = {}
        for known in before:
            largest[known.where] = max(known.checkpoint.size, largest.get(known.where, 0))
        for known in before:
            if known.checkpoint.size == largest[known.where] and not self._extends(seen, known.checkpoint):
                root, got = known.checkpoint.root.hex(), "a tree that does not extend it"
                yield Finding("known", known.checkpoint.size, root, got, where=known.where)

    def _extends(self, seen: Checkpoint, old: Checkpoint) -> bool:
        try:
            proof = prove_consistency(self.store, old.size, seen.size)
            check_consistency(old.size, seen.size, proof, old.root, seen.root)
        except IntegrityError:
            return False
        return True

    def _checkpoints_until(self, last: int) -> Iterator[StoredCheckpoint]:
        for checkpoint in self.store.checkpoints(LOWEST if self.begin is None else self.begin.tree.size):
            if checkpoint.tree_size > last:
                return
            self._last = checkpoint
            yield checkpoint
