"""Who watches what is recorded in this process. Nobody does, but for tests: see ``audit_core.testing.recording``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from audit_core.event import AuditEvent


class Watcher(Protocol):
    """Is told what every trail of this process records, and what is undone of it. A connection is DB-API's."""

    def recorded(self, event: AuditEvent) -> None:
        """An event of no transaction."""

    def carried(self, events: Sequence[AuditEvent], connection: Any) -> None:
        """Events in the transaction of this connection."""

    def savepoint(self, connection: Any, name: str) -> None:
        """It has set a savepoint."""

    def undone(self, connection: Any, name: str | None) -> None:
        """It has gone back to this savepoint; without a name, to the beginning of its transaction."""

    def committed(self, connection: Any) -> None:
        """Its transaction has committed."""


Follow: TypeAlias = Callable[[Watcher], AbstractContextManager[object]]

watchers: list[Watcher] = []
followers: list[Follow] = []
"""How an ORM that is in use tells a watcher, inside of a block, of its savepoints, commits and rollbacks."""
