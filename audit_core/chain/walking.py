"""Walk a chain from its beginning, or from what was seen of it before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from audit_core.chain.hashing import LOWEST
from audit_core.chain.keys import read_statements
from audit_core.chain.proof import prove_consistency
from audit_core.chain.seen import BEFORE, Seen, digest_of
from audit_core.errors import IntegrityError
from audit_core.integrity.chain_verifier import ChainVerifier
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.erasure import Erased, Erasure, ValueVerifier, check_returned, stray
from audit_core.integrity.hashed import Hashed
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.known_trees import KnownTree, KnownTrees
from audit_core.integrity.merkle import check_consistency
from audit_core.integrity.note import VerifierKey, parse_note
from audit_core.integrity.verify import Finding, parse_head
from audit_core.private import KeptValue
from audit_core.stores import AuditStore, StoredCheckpoint
from audit_core.stores.values import LAST, ValueStore


class Walker:
    """One walk over what a store holds."""

    def __init__(
        self, store: AuditStore, first: VerifierKey, known: Sequence[KnownTree], claimed: Keyring, begin: Seen | None
    ) -> None:
        """``claimed`` are the keys that the trail names, the ``first`` among them. Only what is met is believed.

        ``begin`` is signed with one of them; without it the walk begins at the first event.
        """
        self.store, self.begin = store, begin
        self.ring = Keyring.begin(first, begin.statements if begin else ())
        self._last: StoredCheckpoint | None = None
        abandoned = [one for one in known if claimed.abandons(one.checkpoint)]
        self.known = [one for one in known if not claimed.abandons(one.checkpoint)]
        values = ValueVerifier(self._values(begin.tree.size if begin else LOWEST))
        if begin is None:
            self._verifier = ChainVerifier(self.ring, KnownTrees(self.known), abandoned, values=values)
        else:
            size = begin.tree.size
            ahead = KnownTrees(one for one in self.known if one.size >= size)
            tree = begin.tree.copy()
            self._verifier = ChainVerifier(self.ring, ahead, abandoned, size, values, begin.last_hash, tree, size)

    def walk(self, rows: Iterator[Hashed], signed: int) -> Iterator[Finding]:
        """Every finding; ``signed`` is the largest tree size of a checkpoint."""
        if self.begin is not None:
            yield from self._check_before(self.begin)
        yield from self._verifier.walk(rows, self._checkpoints_until(signed))
        yield from self._check_values(self.begin.tree.size if self.begin else 0)

    @property
    def seen(self) -> Seen | None:
        """What was walked, if nothing was found."""
        tree, last_hash = self._verifier.state
        if self._last is None:
            return self.begin and replace(self.begin, compared=self._compared(self.begin.tree.size))
        if tree is None or last_hash is None or tree.size != self._last.tree_size:
            return None
        note = parse_head(self._last, self.ring.origin).note(self._last.signature)
        return Seen(note, tree, last_hash, self._compared(tree.size), tuple(self.ring.statements))

    def _values(self, start: int) -> Iterator[KeptValue]:
        """Those that are there, when they are needed."""
        if (values := self._kept_values()) is not None:
            yield from values.values(start)

    def _check_values(self, start: int) -> Iterator[Finding]:
        """At the end, when every statement is known that lists what was erased."""
        walked, erased = self._verifier.values, Erased(self.ring.erasures)
        missing = list(walked.missing(erased))
        if missing:  # they may have been erased while we walked
            missing = list(walked.missing(Erased([*self.ring.erasures, *self._erased_since()])))
        yield from missing
        yield from walked.strays(self._verifier.size)
        if (values := self._kept_values()) is None:
            return
        if erased.last >= start:
            yield from check_returned(values.values(start, erased.last + 1), erased)
        beyond = values.beyond(min(self._verifier.size, LAST))
        end = self.store.extent().events  # after them: what is sealed meanwhile comes with its event
        yield from (stray(*place) for place in beyond if type(place[0]) is not int or place[0] >= end)

    def _erased_since(self) -> list[Erasure]:
        """By statements that came after what is walked."""
        later = Keyring.begin(self.ring.reigns[0].key, self.ring.statements)
        for statement in read_statements(self.store, self.ring.origin):
            if statement.sequence >= self._verifier.size:
                later.follow(statement)
        return later.erasures[len(self.ring.erasures) :]

    def _kept_values(self) -> ValueStore | None:
        """Where they are; a store that keeps none, or a trail from before there were any, has no such place."""
        values = self.store.values
        return values if values is not None and values.is_created() else None

    def _check_before(self, begin: Seen) -> Iterator[Finding]:
        """What was kept of less than was seen, by consistency proofs.

        Not what an anchor kept when that was seen, and nothing else: it was compared then.
        """
        seen = Checkpoint.parse(parse_note(begin.note)[0])
        done = self._compared(seen.size).items() & begin.compared.items()
        for known in self._below(seen.size):
            yield from known.check_key(self.ring)
            if known.where not in dict(done) and not self._extends(seen, known.checkpoint):
                root, got = known.checkpoint.root.hex(), "a tree that does not extend it"
                yield Finding("known", known.size, root, got, where=known.where)

    def _below(self, size: int) -> list[KnownTree]:
        return [known for known in self.known if known.size < size]

    def _compared(self, size: int) -> dict[str, str]:
        """What each anchor keeps of less: after a walk that found nothing, all of it was compared."""
        kept: dict[str, list[Checkpoint]] = {}
        for known in self._below(size):
            if known.where not in {"", BEFORE}:
                kept.setdefault(known.where, []).append(known.checkpoint)
        return {where: digest_of(checkpoints) for where, checkpoints in kept.items()}

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
