"""Where committed events wait to be sealed: in the database that changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from audit_core.event import AuditEvent

BYTES_AT_ONCE = 32_000_000  # of UTF-8; what is taken lies in memory


class Waiting(NamedTuple):
    """One event of an outbox, as JSON, and the id to remove it by."""

    id: Any
    event: str


def may_be_more(taken: Sequence[Waiting], limit: int) -> bool:
    """Whether this ``limit`` may have ended what was taken, or its size: a character has four bytes at most."""
    return len(taken) == limit or sum(len(waiting.event) for waiting in taken) >= BYTES_AT_ONCE // 4


class Outbox(Protocol):
    """First in, first out, among what is committed. ``connection`` is the caller's, in his transaction.

    An attacker who can modify an outbox can change, drop or invent events that are not sealed yet.
    """

    def create(self) -> None:
        """Make the table if it is missing."""

    def is_created(self) -> bool:
        """Whether the table is there."""

    def owns(self, connection: Any) -> bool:
        """Whether the application's DB-API connection is to the database of this outbox."""

    def commit(self, events: Sequence[AuditEvent]) -> None:
        """Add events, all or none, in a transaction of our own. Raises StoreUnavailableError."""

    def reserve(self, connection: Any) -> None:
        """Make the caller's transaction one that writes, where one that has read first could be refused later."""

    def put(self, events: Sequence[AuditEvent], connection: Any) -> None:
        """Add events: they are there if and only if the transaction of ``connection`` commits."""

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        """The same with events as ``to_json`` writes them. Each is asked for when it is written, or soon before."""

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        """The oldest ``limit`` events, or fewer that come to BYTES_AT_ONCE; they stay until they are removed."""

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        """Forget events that are sealed."""

    def waiting(self) -> Iterator[AuditEvent]:
        """Every event that waits, oldest first, in constant memory."""

    def close(self) -> None:
        """Release every connection."""
