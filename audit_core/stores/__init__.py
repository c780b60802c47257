"""Where sealed events are kept: append-only, readable, one file per technology."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from audit_core.integrity.verify import Finding
from audit_core.query import EventQuery
from audit_core.rows import Row
from audit_core.stores.values import ValueStore


class StoredCheckpoint(NamedTuple):
    """One signed tree head, as its table has it."""

    tree_size: int
    first_sequence: int
    root: str  # base64
    signature: str  # base64 of key hash and Ed25519 signature
    frontier: bytes | None  # the tree's right edge, where it is kept
    sealed_at: str


class Left(NamedTuple):
    """What is left of an event whose month was archived."""

    sequence: int
    event_hash: str
    event_id: str
    archive: int  # the sequence of the statement that says where the event is now


class Extent(NamedTuple):
    """How far a chain reaches, read in one look: what a writer adds meanwhile must not look like a gap."""

    events: int  # the highest sequence plus one
    signed: int  # the largest tree size of a checkpoint


class AuditStore(Protocol):
    """Append-only and readable. ``connection`` is a transaction: our own, or the caller's.

    An attacker who can modify a store can deny service and delete what it holds; what he changes, removes or adds
    is found by ``verify``, within what docs/protection.md says.
    """

    name: str
    values: ValueStore | None  # that are kept outside of the records; None where nothing could be erased
    seals_in_transaction: bool  # whether the transaction that carries an event seals it (SQLite)

    def create(self) -> None:
        """Make what is missing of the tables; may be repeated."""

    def is_created(self) -> bool:
        """Whether the tables are there."""

    def may_append(self) -> bool:
        """Whether this process's role may seal; where each has its own, only the sealer's may.

        Raises ConfigurationError where it may do a part of that, and so was meant to.
        """

    def is_writable(self) -> bool:
        """Whether this user may write where the tables lie."""

    def check_schema(self) -> Iterator[Finding]:
        """Yield what is not as ``create`` makes it.

        One of the kind "empty" says that none of the tables is there. Raises ConfigurationError where there is no
        database.
        """

    def check_indexes(self) -> Iterator[Finding]:
        """Yield the events that an index hides. In a thread of its own, while the rows are hashed."""

    def transaction(self, *, patient: bool = False) -> AbstractContextManager[Any]:
        """A transaction of our own; one writer at a time. Raises StoreUnavailableError."""

    def savepoint(self, connection: Any) -> AbstractContextManager[Any]:
        """A part of the caller's transaction that is undone by itself when the block raises."""

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        """The latest checkpoint."""

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        """The latest checkpoint of at most ``size`` events that keeps its frontier."""

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        """``event_hash`` of the sequences from ``start`` to before ``stop``, those of archived events among them."""

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        """Which of these events are in the chain already, archived or not. One below the first sequence is in none."""

    def append(self, rows: Sequence[Row], checkpoint: StoredCheckpoint, connection: Any) -> None:
        """Add rows and their checkpoint. Raises ConflictError if somebody else appended there first."""

    def extent(self) -> Extent:
        """How far the rows reach, and how far the checkpoints do. Raises ConfigurationError without tables."""

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Stored rows in order of sequence, in constant memory."""

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        """Checkpoints of more than ``after`` events, in order of size, in constant memory."""

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        """Event ids that stand more than once, with the sequence of the second."""

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        """The sealed row at one place of the chain."""

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        """The sealed row of one event, from the first sequence on."""

    def select(self, query: EventQuery) -> Iterator[Row]:
        """Stored rows that match, from the first sequence on, by (timestamp, sequence), in constant memory."""

    def left(self, start: int = 0, stop: int | None = None) -> Iterator[Left]:
        """What is left of archived events, in order of sequence, in constant memory."""

    def find_left(self, event: str | int) -> Left | None:
        """What is left of one archived event, by its id or its sequence."""

    def close(self) -> None:
        """Release every connection."""
