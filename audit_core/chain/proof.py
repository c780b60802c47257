"""That one event is in the chain, shown to somebody without the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audit_core.canonical import decode, encode, encode_record
from audit_core.chain.created import created_details
from audit_core.chain.keys import read_keyring
from audit_core.chain.known import is_opened_by
from audit_core.chain.subtrees import Subtrees
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.integrity.checkpoint import Checkpoint, open_checkpoint
from audit_core.integrity.keyring import Keyring, leads_to, led_to
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import EMPTY_ROOT, check_inclusion, plan_consistency, plan_inclusion
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.statement import ABOUT, STATEMENTS, Statement
from audit_core.integrity.verify import parse_head
from audit_core.normalise import clean_text
from audit_core.stores import AuditStore


@dataclass(frozen=True, slots=True)
class Proof:
    """That one event is in the tree of one signed checkpoint (RFC 9162 2.1.3)."""

    record: str
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str  # C2SP signed note
    rotations: tuple[str, ...] = ()  # records: by which events one key has named the next

    def check(self, key: VerifierKey) -> Checkpoint:
        """Needs nothing but a verifier key: that of the checkpoint, or one that leads to it.

        Raises IntegrityError if the proof does not hold, ConfigurationError where an earlier key has signed it: whoever
        stole that could have made all of it.
        """
        head = self.head(key)
        check_inclusion(leaf_hash(self.record.encode()), self.index, head.size, self.hashes, head.root)
        record = decode(self.record)
        if not isinstance(record, dict) or (record.get("sequence"), record.get("log")) != (self.index, head.origin):
            raise IntegrityError(f"The record is not the one of sequence {self.index} of {head.origin}.")
        return head

    def head(self, key: VerifierKey) -> Checkpoint:
        """The checkpoint, if the key or one that it leads to has signed it. Raises as ``check``."""
        refusal = None
        statements = list(filter(None, map(_statement, self.rotations)))
        for each in leads_to(key, statements):
            try:
                return open_checkpoint(self.checkpoint, each)
            except IntegrityError as error:
                refusal = refusal or error
        if signer := next((each for each in led_to(key, statements) if is_opened_by(self.checkpoint, each)), None):
            raise ConfigurationError(
                "The checkpoint of this proof was signed before the key that you gave came to sign, with "
                f"{signer}: have the event proved again, or give the key that you were handed before."
            )
        assert refusal is not None  # noqa: S101 - the key itself is tried first
        raise refusal

    def is_statement(self, key: VerifierKey) -> bool | None:
        """Whether a record that looks like a statement of the trail is one, by the signature of the key of its time.

        None where it does not look like one. ``key`` is one by which the proof holds.
        """
        record = decode(self.record)
        about = record.get("resource_type"), record.get("resource_id")
        if record.get("action") not in STATEMENTS or about != (ABOUT, record.get("log")):
            return None
        rotations = list(filter(None, map(_statement, self.rotations)))
        first = [key, *led_to(key, rotations)][-1]
        ring = Keyring.begin(first, (one for one in rotations if one.sequence < self.index))
        statement = _statement(self.record)
        return statement is not None and (statement.is_signed_by(ring.present) or ring.follow(statement))


def _statement(record: str) -> Statement | None:
    try:
        found = decode(record)
        details = encode(found["details"]).decode()
        return Statement.parse(found["log"], found["action"], found["sequence"], found["previous_hash"], details)
    except (ValueError, TypeError, LookupError):
        return None


def prove(store: AuditStore, event: str | int, whole: AuditStore) -> Proof:
    """See ``AuditChain.prove``. ``whole`` is the store with what is archived of it."""
    event = event if isinstance(event, int) else clean_text(event)
    row = whole.row(event) if isinstance(event, int) else whole.find(event)
    head = store.head()
    if row is None or head is None:
        name = f"at sequence {event}" if isinstance(event, int) else event
        is_of_it = head is not None and (not isinstance(event, int) or 0 <= event < head.tree_size)
        if row is None and is_of_it and (left := store.find_left(event)) is not None:
            raise LookupError(
                f"The record of event {left.sequence} was purged: there is nothing to prove of it but its hash. `audit "
                "purge --certificates` has what proves that it was."
            )
        raise LookupError(
            f"There is no sealed event {name}: it may still wait to be sealed. `audit report` shows sequences, and "
            "with --format csv event ids."
        )
    origin = str(created_details(store).get("origin"))
    if head.tree_size > store.extent().events:  # else the leaves of a forged one would be looked for, for years
        raise IntegrityError(
            f"The checkpoint of {head.tree_size} events is of more than there are: run `audit verify`."
        )
    try:
        record = encode_record(row[:-1], origin).decode()
        index = int(decode(record)["sequence"])
        plan, subtrees = plan_inclusion(index, head.tree_size), Subtrees(store)
        subtrees.read(plan, head.tree_size)
        hashes = tuple(subtrees.root(*span) for span in plan)
        signed = parse_head(head, origin)
        check_inclusion(leaf_hash(record.encode()), index, signed.size, hashes, signed.root)
        return Proof(record, index, hashes, signed.note(head.signature), tuple(_rotations(store, origin)))
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"What is stored of event {event} cannot be proved: run `audit verify`.") from error


def _rotations(store: AuditStore, origin: str) -> Iterator[str]:
    """The records of those that count."""
    ring = read_keyring(store)
    for reign in ring.reigns[1:] if ring else ():
        if (row := store.row(reign.sequence)) is not None:
            yield encode_record(row[:-1], origin).decode()


def prove_consistency(store: AuditStore, old_size: int, size: int) -> tuple[bytes, ...]:
    """The consistency proof (RFC 9162 2.1.4) from one tree to a larger one, by the hashes that are stored.

    Raises IntegrityError when the tree shrinks, or when what is stored is no tree.
    """
    try:
        subtrees = Subtrees(store)
        return tuple(subtrees.root(*span) for span in plan_consistency(old_size, size))
    except (ValueError, TypeError) as error:
        raise IntegrityError("What is stored is not a tree of hashes: run `audit verify`.") from error


def stored_root(store: AuditStore, size: int) -> bytes:
    """The root of the first ``size`` events, by the stored hashes. Raises IntegrityError where they are none."""
    try:
        return Subtrees(store).root(0, size) if size else EMPTY_ROOT
    except (ValueError, TypeError) as error:
        raise IntegrityError("What is stored is not a tree of hashes: run `audit verify`.") from error
