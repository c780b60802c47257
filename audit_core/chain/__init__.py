"""The chain: give events their place, and check the places that were given."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from audit_core.archives.shelf import Shelf
from audit_core.canonical import encode_record, format_timestamp
from audit_core.chain.created import created_details
from audit_core.chain.edge import Edge, check_key, is_next, read_edge, sound_created
from audit_core.chain.hashing import OpenStore
from audit_core.chain.keys import read_keyring
from audit_core.chain.known import Answer, Kept
from audit_core.chain.proof import Proof, prove, prove_consistency, stored_root
from audit_core.chain.seen import BEFORE, Seen
from audit_core.chain.subtrees import FRONTIER_EVERY
from audit_core.chain.trust import signed_by
from audit_core.chain.verification import Verification, verify_store
from audit_core.chain.whole import WholeStore
from audit_core.draft import ACTION, Draft, aside_of, draft_of, event_of, place
from audit_core.errors import AuditError, BusyError, ConfigurationError, ConflictError, IntegrityError
from audit_core.event import ActorType, AuditEvent
from audit_core.identity import new_event_id
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.keyring import Keyring, new_key_of
from audit_core.integrity.link import GENESIS_HASH, leaf_hash
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import Signer, VerifierKey, encode_base64
from audit_core.integrity.statement import ABOUT, ROTATED, STATEMENTS, Statement
from audit_core.integrity.verify import parse_head
from audit_core.private import KeptValue
from audit_core.rows import Row, from_row
from audit_core.stores import AuditStore, StoredCheckpoint
from audit_core.waiting import unreadable_draft


class AuditChain:
    """Events in one order, each linked to the one before, under signed tree heads (RFC 9162, C2SP)."""

    def __init__(
        self,
        store: AuditStore,
        find_signer: Callable[[], Signer],
        origin: str | None = None,
        *,
        begin_with: Callable[[], Signer] | None = None,
        renew: Callable[[Callable[[bytes], bool]], bool] = lambda _: False,
        shelf: Shelf | None = None,
    ) -> None:
        """``begin_with`` may make the key of a chain that has none yet; without it that is found as any other.

        ``renew`` is asked for another key, whose public key is the one that the chain goes on with; whether
        ``find_signer`` gives that from now on. ``shelf`` has archived months; without it they are looked for where they
        were written to.
        """
        self._renew = renew
        self.store = store
        self.shelf = shelf or Shelf()
        self._find_signer, self._find_first_signer = find_signer, begin_with or find_signer
        self._wanted_origin = origin
        self._origin = ""  # of the chain that _edge is the end of
        self._edge: Edge | None = None
        self.objection: Callable[[], AuditError | None] = lambda: None  # of whoever knows more of the chain than it has
        self._confirmed: Edge | None = None  # the last one that this process knows to be committed

    @property
    def whole(self) -> AuditStore:
        """The store with what is archived of it, for whoever reads events."""
        return cast("AuditStore", WholeStore(self.store, self.shelf))

    @property
    def origin(self) -> str | None:
        """The chain's name, from its first record; None while there is none."""
        created = self._created_details()
        return str(created.get("origin")) if created else None

    @property
    def keyring(self) -> Keyring | None:
        """The keys that the trail itself names; None where the first record names none."""
        return read_keyring(self.store)

    @property
    def key(self) -> VerifierKey | None:
        """The key that the trail itself names last. Whoever can rewrite the trail can rewrite that.

        Raises IntegrityError when what the first record says is no key.
        """
        if ring := self.keyring:
            return ring.present
        created = self._created_details()
        return VerifierKey.parse(str(created.get("key"))) if created else None

    @property
    def named_key(self) -> str | None:
        """What the trail says of its key, whether it is one or not."""
        if ring := self.keyring:
            return str(ring.present)
        named = self._created_details().get("key")
        return None if named is None else str(named)

    def append(self, events: Sequence[AuditEvent], connection: Any) -> StoredCheckpoint:
        """Seal events: see ``append_drafts``. Raises ValueError or TypeError where one is not normalised."""
        return self.append_drafts([draft_of(event) for event in events], connection)

    def append_drafts(self, drafts: Sequence[Draft], connection: Any) -> StoredCheckpoint:
        """Seal events that are checked already, in the transaction of ``connection``.

        Raises ConfigurationError when this process's key is not the trail's, IntegrityError when what is stored
        does not fit its own checkpoint, or what is to be appended stands there already. The caller then rolls back, so
        that nothing is written.
        """
        if error := self.objection():
            raise error
        edge = self._find_edge(connection)
        if edge.checkpoint is None:
            drafts = [draft_of(self._created(drafts)), *drafts]
        return self._append(drafts, edge, self._find_signer(), connection)

    def state(
        self, kind: str, says: Mapping[str, Any], event: AuditEvent, connection: Any, *, also: Sequence[Signer] = ()
    ) -> StoredCheckpoint:
        """Append a statement, signed with the key and ``also`` with others, as a batch of its own.

        ``event`` says who makes it, and when. Nobody's objection counts: it is what may end one. Raises as
        ``append_drafts`` does, and ConfigurationError for a chain that has not begun.
        """
        edge = self._find_edge(connection)
        signers = [self._find_signer(), *also]
        draft = self._stated(kind, says, event, edge, signers)
        checkpoint = self._append([draft], edge, signers[0], connection, ours=True)
        self._edge = None  # which this process's key may not extend any more, after a rotation
        return checkpoint

    def state_alone(self, says: Mapping[str, Any], event: AuditEvent, connection: Any, new: Signer) -> StoredCheckpoint:
        """Append the rotation of a key that was lost: the new one signs alone, its checkpoint too."""
        head = self.store.head(connection)
        self._origin = str(sound_created(self.store, connection).get("origin"))
        edge = Edge(None, Frontier(), GENESIS_HASH) if head is None else read_edge(self.store, head, None, connection)
        checkpoint = self._append([self._stated(ROTATED, says, event, edge, [new])], edge, new, connection, ours=True)
        self._edge = None
        return checkpoint

    def _stated(
        self, kind: str, says: Mapping[str, Any], event: AuditEvent, edge: Edge, signers: Sequence[Signer]
    ) -> Draft:
        if edge.checkpoint is None:
            raise ConfigurationError("The trail has not begun: there is nothing to say of it.")
        details = Statement(self._origin, kind, edge.tree.size, edge.last_hash, says).sign(signers)
        return draft_of(replace(event, action=kind, resource_type=ABOUT, resource_id=self._origin, details=details))

    def _append(
        self, drafts: Sequence[Draft], edge: Edge, signer: Signer, connection: Any, *, ours: bool = False
    ) -> StoredCheckpoint:
        """``ours`` are statements, which nobody else may make."""
        origin, size, previous = self._origin, edge.tree.size, edge.last_hash
        rows: list[Row] = []
        leaves: list[bytes] = []
        values: list[KeptValue] = []
        for sequence, draft in enumerate(drafts, size):
            row = place(draft, sequence, previous)
            aside = aside_of(draft)
            if aside and self.store.values is None:
                aside, row = (), place(unreadable_draft(repr(draft)), sequence, previous)
            if draft[ACTION] in STATEMENTS and not ours and self._speaks_for_us(row):
                aside, row = (), place(unreadable_draft(repr(draft)), sequence, previous)
            values += (KeptValue(sequence, *one) for one in aside)
            leaf = leaf_hash(encode_record(row, origin))
            previous = leaf.hex()
            leaves.append(leaf)
            rows.append((*row, previous))
        tree = edge.tree.copy()
        tree.extend(leaves)
        checkpoint = self._sign(tree, size, signer)
        try:
            self.store.append(rows, checkpoint, connection)
            if values and self.store.values is not None:
                self.store.values.keep(values, connection)
        except ConflictError as error:  # of those who seal, one at a time does, where there are locks
            if not self.store.seals_in_transaction and self.store.head() != edge.checkpoint:
                raise BusyError("Another process has sealed meanwhile.") from error
            raise IntegrityError(
                f"What stands in the tables leaves no place for the events from sequence {size} on ({error}): nothing "
                "is sealed over it; run `audit verify`. Events wait in the outbox."
            ) from error
        self._edge = Edge(checkpoint, tree, previous)
        return checkpoint

    def _speaks_for_us(self, row: Sequence[Any]) -> bool:
        """Whether somebody has put a statement into the outbox that would hold at this place.

        Who reads the chain knows what comes next, and needs no old key to say that it was lost.
        """
        if (statement := Statement.of_row(row, self._origin)) is None:
            return False
        own = VerifierKey(self._origin, self._find_signer().public_key)
        return statement.is_signed_by(own) or new_key_of(statement) is not None

    def confirm(self) -> None:
        """What was appended last is committed, in a transaction of our own: from now on the chain extends it."""
        self._confirmed = self._edge

    def verify(
        self,
        key: VerifierKey | None = None,
        known: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
        *,
        anchored: Iterable[Answer] = (),
        own: Signer | None = None,
        seen: Seen | None = None,
        whole: bool = False,
        jobs: int = 1,
        open_store: OpenStore | None = None,
    ) -> Verification:
        """Check everything; ``known`` are signed checkpoints (notes) that were kept outside the database.

        ``anchored`` is what anchors say, which were asked before (``audit_core.anchors.ask``).

        Without a ``key``, the one of ``own`` is taken if the trail is signed with it, else the one that the trail
        names. ``progress`` is called with how many events are checked, and of how many. Raises ConfigurationError
        when there is no trail, one without events (of which neither a key nor a checkpoint says that it had some), or a
        sound one that is not signed with ``own``; IntegrityError when a known checkpoint is none, or of another trail;
        StoreUnavailableError when the tables cannot be read.

        The chain must also extend what was ``seen`` before. Only what came since is read, and neither indexes nor
        repeated ids are looked for, unless the ``whole`` of it is asked for.

        ``jobs`` processes read and hash, each on a store that ``open_store`` (which can be pickled) gives it.
        """
        answers = [Answer(kept=[Kept(note) for note in known]), *anchored]
        if seen is not None:
            answers.append(Answer(BEFORE, [Kept(seen.note)]))
        return verify_store(
            self.store, key, answers, own, progress,
            jobs=jobs, open_store=open_store, seen=seen, whole=whole, shelf=self.shelf,
        )  # fmt: skip

    def prove(self, event: str | int) -> Proof:
        """The inclusion proof of one event, by its id or its sequence, in the newest checkpoint.

        Raises LookupError when it is not sealed, IntegrityError when the store contradicts its checkpoint.
        """
        return prove(self.store, event, self.whole)

    def checkpoint_note(self) -> str | None:
        """The newest checkpoint as a signed note: kept elsewhere, it shows any later rewriting.

        Raises IntegrityError when what is stored is none, or not signed with the key that the trail names.
        """
        if (head := self.store.head()) is None:
            return None
        created = sound_created(self.store, None)
        try:
            note = parse_head(head, str(created["origin"])).note(head.signature)
            ring = read_keyring(self.store, VerifierKey.parse(str(created.get("key"))))
        except (IntegrityError, TypeError) as error:
            raise IntegrityError("The newest checkpoint was tampered with: run `audit verify`.") from error
        key = ring.key_at(head.tree_size) if ring else None
        if key is None or not signed_by(head, key):
            raise IntegrityError(
                f"The newest checkpoint, of {head.tree_size} events, is not signed with the key that the trail names: "
                "somebody else has put it there; run `audit verify`."
            )
        return note

    def last_time(self) -> datetime | None:
        """When the last sealed event happened, as it says itself; None where there is none that can be read."""
        row = self.store.row(self.store.extent().events - 1)
        try:
            return from_row(row).timestamp if row else None
        except IntegrityError:
            return None

    def prove_consistency(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """That the tree of ``size`` events extends the one of ``old_size`` (RFC 9162 2.1.4), by the stored hashes.

        Raises IntegrityError when there are not as many.
        """
        self._check_stored(size)
        return prove_consistency(self.store, old_size, size)

    def stored_root(self, size: int) -> bytes:
        """The root of the first ``size`` events, by the stored hashes. Raises IntegrityError when there are fewer."""
        self._check_stored(size)
        return stored_root(self.store, size)

    def is_signed_by(self, key: VerifierKey) -> bool:
        """Whether the newest checkpoint is signed with ``key``."""
        return signed_by(self.store.head(), key)

    def _check_stored(self, size: int) -> None:
        if size > (there := self.store.extent().events):
            raise IntegrityError(f"There are {there} events, and not {size}: run `audit verify`.")

    def _find_edge(self, connection: Any) -> Edge:
        """The chain's end as this transaction sees it: remembered, or read again if somebody else moved it."""
        head = self.store.head(connection)
        if self._edge is not None and self._edge.checkpoint == head:
            return self._edge
        self._check_length(head)
        if head is None:
            self._origin = self._wanted_origin or f"audit-core/{secrets.token_hex(8)}"
            return Edge(None, Frontier(), GENESIS_HASH)
        self._origin = str(sound_created(self.store, connection).get("origin"))
        self._check_key(head, connection)
        return read_edge(self.store, head, self._confirmed, connection)

    def _check_key(self, head: StoredCheckpoint, connection: Any) -> None:
        try:
            check_key(self.store, head, self._own(self._find_signer().public_key), connection)
        except ConfigurationError:
            if not self._renew(lambda public: is_next(self.store, head, self._own(public), connection)):
                raise

    def _own(self, public_key: bytes) -> VerifierKey:
        return VerifierKey(self._origin, public_key)

    def _check_length(self, head: StoredCheckpoint | None) -> None:
        """A promoted replica may lack the last events, and a backup does: that must be seen, and not covered."""
        there = head.tree_size if head else 0
        if self._confirmed is not None and there < self._confirmed.tree.size:
            raise IntegrityError(
                f"The trail holds {there} events, and this process has sealed {self._confirmed.tree.size}: a replica "
                "or a backup that lacks the last of them has taken its place. Nothing is sealed on top of it until "
                "somebody has looked (`audit acknowledge-restore`) and restarted this process; events wait in the "
                "outbox."
            )

    def _sign(self, tree: Frontier, first: int, signer: Signer) -> StoredCheckpoint:
        checkpoint = Checkpoint(self._origin, tree.size, tree.root())
        keep = first // FRONTIER_EVERY != tree.size // FRONTIER_EVERY
        return StoredCheckpoint(
            tree.size,
            first,
            encode_base64(checkpoint.root),
            checkpoint.sign(signer),
            tree.to_bytes() if keep else None,
            format_timestamp(datetime.now(UTC)),
        )

    def _created(self, drafts: Sequence[Draft]) -> AuditEvent:
        """The first record. It is made for the sake of the first event, and so not after it."""
        key = VerifierKey(self._origin, self._find_first_signer().public_key)
        return AuditEvent(
            event_id=new_event_id(),
            timestamp=min([datetime.now(UTC), *(event_of(draft).timestamp for draft in drafts[:1])]),
            action="log.created",
            actor_type=ActorType.SYSTEM.value,
            details={"origin": self._origin, "key": str(key), "nonce": secrets.token_hex(16)},
        )

    def _created_details(self) -> dict[str, Any]:
        return created_details(self.store)
