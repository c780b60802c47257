"""The chain: give events their place, and check the places that were given."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice, starmap
from typing import Any, NamedTuple

from audit_core.canonical import decode, encode_record, format_timestamp
from audit_core.draft import Draft, draft_of, event_of, place
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.event import ActorType, AuditEvent
from audit_core.identity import new_event_id
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.link import GENESIS_HASH, leaf_hash
from audit_core.integrity.merkle import Frontier, check_inclusion, node_hash, plan_inclusion, subtree_root
from audit_core.integrity.note import Signer, VerifierKey
from audit_core.integrity.verify import ChainVerifier, Finding, Result
from audit_core.rows import Row, from_row
from audit_core.stores import AuditStore, StoredCheckpoint

FINDINGS_AT_MOST = 100_000  # kept one by one; further ones are counted
LOWEST = -(2**63)  # where an attacker may have put what no chain has
FRONTIER_EVERY = 256  # events; also the most leaves that a proof or a restart reads below a kept frontier


class _Edge(NamedTuple):
    """Where the next event goes. Immutable: a transaction that rolls back leaves nothing to undo."""

    checkpoint: StoredCheckpoint | None
    tree: Frontier
    last_hash: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``AuditChain.verify`` found. ``size`` events, of which ``anchored`` are vouched for from outside."""

    result: Result
    findings: tuple[Finding, ...]
    origin: str
    size: int
    anchored: int = 0
    pinned: bool = False  # whether the key came from outside the trail
    warnings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """That one event is in the tree of one signed checkpoint (RFC 9162 2.1.3)."""

    record: str
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str  # C2SP signed note

    def check(self, key: VerifierKey) -> Checkpoint:
        """Needs nothing but the verifier key. Raises IntegrityError if the proof does not hold."""
        head = open_checkpoint(self.checkpoint, key)
        check_inclusion(leaf_hash(self.record.encode()), self.index, head.size, self.hashes, head.root)
        if decode(self.record).get("sequence") != self.index:
            raise IntegrityError(f"The record is not the one of sequence {self.index}.")
        return head


class AuditChain:
    """Events in one order, each linked to the one before, under signed tree heads (RFC 9162, C2SP)."""

    def __init__(self, store: AuditStore, find_signer: Callable[[], Signer], origin: str | None = None) -> None:
        self.store = store
        self._find_signer = find_signer
        self._wanted_origin = origin
        self._origin = ""  # of the chain that _edge is the end of
        self._edge: _Edge | None = None

    @property
    def origin(self) -> str | None:
        """The chain's name, from its first record; None while there is none."""
        created = self._created_details()
        return str(created.get("origin")) if created else None

    @property
    def key(self) -> VerifierKey | None:
        """The verifier key that the trail itself names. Whoever can rewrite the trail can rewrite that.

        Raises IntegrityError when what the first record says is no key.
        """
        created = self._created_details()
        return VerifierKey.parse(str(created.get("key"))) if created else None

    @property
    def named_key(self) -> str | None:
        """What the first record says of the key, whether it is one or not."""
        named = self._created_details().get("key")
        return None if named is None else str(named)

    def append(self, events: Sequence[AuditEvent], connection: Any) -> StoredCheckpoint:
        """Seal events: see ``append_drafts``. Raises ValueError or TypeError where one is not normalised."""
        return self.append_drafts([draft_of(event) for event in events], connection)

    def append_drafts(self, drafts: Sequence[Draft], connection: Any) -> StoredCheckpoint:
        """Seal events that are checked already, in the transaction of ``connection``.

        Raises ConfigurationError when this process's key is not the trail's, IntegrityError when what is stored
        does not fit its own checkpoint, ConflictError when somebody else appended first, or an event is in the
        chain already. The caller then rolls back, so that nothing is written.
        """
        edge = self._find_edge(connection)
        if edge.checkpoint is None:
            drafts = [draft_of(self._created(drafts)), *drafts]
        origin, size, previous = self._origin, edge.tree.size, edge.last_hash
        rows: list[Row] = []
        leaves: list[bytes] = []
        for sequence, draft in enumerate(drafts, size):
            row = place(draft, sequence, previous)
            leaf = leaf_hash(encode_record(row, origin))
            previous = leaf.hex()
            leaves.append(leaf)
            rows.append((*row, previous))
        tree = edge.tree.copy()
        tree.extend(leaves)
        checkpoint = self._sign(tree, size)
        self.store.append(rows, checkpoint, connection)
        self._edge = _Edge(checkpoint, tree, previous)
        return checkpoint

    def verify(
        self,
        key: VerifierKey | None = None,
        known: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Check everything; ``known`` are signed checkpoints (notes) that were kept outside the database.

        ``progress`` is called with how many events are checked, and of how many. Raises ConfigurationError when
        there are no tables, StoreUnavailableError when they cannot be read, IntegrityError when a known
        checkpoint is not the key's.
        """
        extent = self.store.extent()
        size = extent.events
        try:
            pinned = key or self.key
            created = self._created_details()
        except IntegrityError as error:
            finding = Finding("key", 0, "a verifier key in log.created", str(error))
            return Verification(Result.FAILED, (finding,), "", size)
        if pinned is None:
            finding = Finding("empty", None, "a log.created event", "none that can be read")
            return Verification(Result.FAILED, (finding,), "", size)
        notes = [open_checkpoint(note, pinned) for note in known]
        verifier = ChainVerifier(pinned, notes)
        rows = _counted(self.store.rows(LOWEST, size), size, progress)
        findings = chain(
            self._check_created(created, pinned),
            verifier.walk(rows, self._checkpoints_until(extent.signed)),
            starmap(_duplicate, self.store.duplicate_ids()),
        )
        found = list(islice(findings, FINDINGS_AT_MOST))
        if more := sum(1 for _ in findings):
            found.append(Finding("more", None, "no further findings", f"{more} more"))
        return _summarise(found, pinned.name, size, notes, pinned=key is not None)

    def prove(self, event_id: str) -> Proof:
        """The inclusion proof of one event in the newest checkpoint.

        Raises LookupError when it is not sealed, IntegrityError when the store contradicts its checkpoint.
        """
        row, head = self.store.find(event_id), self.store.head()
        if row is None or head is None:
            raise LookupError(f"There is no sealed event {event_id}: it may still wait in the outbox.")
        origin = str(self.origin)
        record = encode_record(row[:-1], origin).decode()
        index = int(decode(record)["sequence"])
        hashes = tuple(self._subtree(*span) for span in plan_inclusion(index, head.tree_size))
        signed = _checkpoint(head, origin)
        check_inclusion(leaf_hash(record.encode()), index, signed.size, hashes, signed.root)
        return Proof(record, index, hashes, signed.note(head.signature))

    def checkpoint_note(self) -> str | None:
        """The newest checkpoint as a signed note: kept elsewhere, it shows any later rewriting."""
        head = self.store.head()
        return None if head is None else _checkpoint(head, str(self.origin)).note(head.signature)

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether the newest checkpoint is signed with ``key``."""
        head = self.store.head()
        return head is not None and _checkpoint(head, key.name).is_signed_by(key, head.signature)

    def _find_edge(self, connection: Any) -> _Edge:
        """The chain's end as this transaction sees it: remembered, or read again if somebody else moved it."""
        head = self.store.head(connection)
        if self._edge is not None and self._edge.checkpoint == head:
            return self._edge
        if head is None:
            self._origin = self._wanted_origin or f"audit-core/{secrets.token_hex(8)}"
            return _Edge(None, Frontier(), GENESIS_HASH)
        self._origin = str(self._created_details(connection).get("origin"))
        if not self._is_ours(head, self._origin):
            raise ConfigurationError(
                "This process's signing key is not the trail's: set AUDIT_KEY to the key that the trail was "
                "made with; until then its events wait in the outbox."
            )
        return self._read_edge(head, connection)

    def _read_edge(self, head: StoredCheckpoint, connection: Any) -> _Edge:
        kept = self.store.kept_frontier(head.tree_size, connection)
        tree = Frontier.from_bytes(kept.tree_size, kept.frontier or b"") if kept else Frontier()
        hashes = self.store.leaf_hashes(min(tree.size, head.tree_size - 1), head.tree_size, connection)
        with suppress(ValueError, TypeError, IntegrityError):  # then the tree does not fit its checkpoint
            tree.extend(bytes.fromhex(h) for h in hashes[len(hashes) - (head.tree_size - tree.size) :])
        if tree.size != head.tree_size or _base64(tree.root()) != head.root:
            raise IntegrityError(
                f"The events before sequence {head.tree_size} are not those of their checkpoint: nothing is "
                "sealed on top of them; run `audit verify`. Events wait in the outbox."
            )
        return _Edge(head, tree, hashes[-1])

    def _is_ours(self, head: StoredCheckpoint, origin: str) -> bool:
        own = VerifierKey(origin, self._find_signer().public_key)
        return _checkpoint(head, origin).is_signed_by(own, head.signature)

    def _sign(self, tree: Frontier, first: int) -> StoredCheckpoint:
        checkpoint = Checkpoint(self._origin, tree.size, tree.root())
        keep = first // FRONTIER_EVERY != tree.size // FRONTIER_EVERY
        return StoredCheckpoint(
            tree.size,
            first,
            _base64(checkpoint.root),
            checkpoint.sign(self._find_signer()),
            tree.to_bytes() if keep else None,
            format_timestamp(datetime.now(UTC)),
        )

    def _created(self, drafts: Sequence[Draft]) -> AuditEvent:
        """The first record. It is made for the sake of the first event, and so not after it."""
        key = VerifierKey(self._origin, self._find_signer().public_key)
        return AuditEvent(
            event_id=new_event_id(),
            timestamp=min([datetime.now(UTC), *(event_of(draft).timestamp for draft in drafts[:1])]),
            action="log.created",
            actor_type=ActorType.SYSTEM.value,
            details={"origin": self._origin, "key": str(key), "nonce": secrets.token_hex(16)},
        )

    def _created_details(self, connection: Any = None) -> dict[str, Any]:
        """What the first record says; empty where it cannot be read."""
        row = self.store.row(0, connection)
        try:
            details = from_row(row).details if row else None
        except IntegrityError:
            return {}
        return details if isinstance(details, dict) else {}

    def _check_created(self, created: dict[str, Any], pinned: VerifierKey) -> Iterator[Finding]:
        if created.get("origin") != pinned.name:
            yield Finding("origin", 0, pinned.name, str(created.get("origin")))
        if created.get("key") != str(pinned):
            yield Finding("key", 0, str(pinned), str(created.get("key")))

    def _checkpoints_until(self, last: int) -> Iterator[StoredCheckpoint]:
        for checkpoint in self.store.checkpoints(LOWEST):
            if checkpoint.tree_size > last:
                return
            yield checkpoint

    def _subtree(self, start: int, stop: int) -> bytes:
        """The hash of leaves ``start`` to before ``stop``, from kept frontiers as far as there are any."""
        size = stop - start
        if size <= FRONTIER_EVERY:
            return subtree_root([bytes.fromhex(h) for h in self.store.leaf_hashes(start, stop)])
        half = 1 << ((size - 1).bit_length() - 1)
        if size == half * 2 and start % (2 * size) == 0:
            kept = self.store.kept_frontier(start + 2 * size - 1)
            if kept is not None and kept.tree_size >= stop:
                tree = Frontier.from_bytes(kept.tree_size, kept.frontier or b"")
                return tree.hashes[start.bit_count()]
        return node_hash(self._subtree(start, start + half), self._subtree(start + half, stop))


def _duplicate(event_id: str, sequence: int) -> Finding:
    return Finding("duplicate", sequence, "every event once", f"{event_id} again")


def _checkpoint(head: StoredCheckpoint, origin: str) -> Checkpoint:
    return Checkpoint.parse(f"{origin}\n{head.tree_size}\n{head.root}\n")


def _summarise(
    found: list[Finding], origin: str, size: int, known: Sequence[Checkpoint], *, pinned: bool
) -> Verification:
    failures = tuple(finding for finding in found if not finding.warning)
    warnings = tuple(finding for finding in found if finding.warning)
    anchored = max((checkpoint.size for checkpoint in known), default=0)
    result = Result.FAILED if failures else Result.OK if anchored else Result.UNANCHORED
    return Verification(result, failures, origin, size, anchored, pinned, warnings)


def _counted(rows: Iterable[Row], total: int, progress: Callable[[int, int], None] | None) -> Iterable[Row]:
    if progress is None:
        return rows
    return _reporting(rows, total, progress)


def _reporting(rows: Iterable[Row], total: int, progress: Callable[[int, int], None]) -> Iterator[Row]:
    for count, row in enumerate(rows, 1):
        if count % 5_000 == 0:
            progress(count, total)
        yield row
    progress(total, total)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
