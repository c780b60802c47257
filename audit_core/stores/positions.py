"""How far queues were read: rows of the store's own database, changed in the transaction that seals.

An attacker who can change them can make the sealer pass over events of a queue that keeps what was read (Kafka), which
whoever may remove from an outbox can do as well, and can tell of gaps that there are not, or hide one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable


class Position(NamedTuple):
    """One part of a queue's position, and when that was kept."""

    value: str
    kept_at: str  # as in a record


@runtime_checkable
class KeepsPositions(Protocol):
    """A store in whose transactions positions can be kept."""

    def positions(self, queue: str, parts: Collection[str], connection: Any = None) -> dict[str, Position]:
        """What is kept of these parts of a queue's position. Raises ConfigurationError where there is no table."""

    def keep_positions(self, queue: str, values: Mapping[str, str], connection: Any) -> None:
        """Put these values in the place of those that were there."""

    def forget_positions(self, queue: str, before: str, connection: Any) -> None:
        """Remove all parts but the one without a name that were kept before this time."""

    def queues_since(self, moment: str) -> list[str]:
        """The queues whose place has changed since then."""
