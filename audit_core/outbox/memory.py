"""The outbox of a memory trail: a list, and no transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from audit_core.event import AuditEvent
from audit_core.outbox import Waiting
from audit_core.rows import to_json
from audit_core.waiting import read_waiting


class MemoryOutbox:
    """Takes events from any connection, so that a test needs no database for them."""

    def __init__(self) -> None:
        self._events: dict[int, str] = {}
        self._ids = count(1)

    def create(self) -> None:
        """There is nothing to make."""

    def is_created(self) -> bool:
        return True

    def owns(self, connection: Any) -> bool:
        del connection
        return True

    def commit(self, events: Sequence[AuditEvent]) -> None:
        self.put(events, None)

    def reserve(self, connection: Any) -> None:
        """Nobody waits for anybody."""

    def put(self, events: Sequence[AuditEvent], connection: Any) -> None:
        self.put_json(map(to_json, events), connection)

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        del connection
        for event in events:
            self._events[next(self._ids)] = event

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        del connection
        return [Waiting(*item) for item in list(self._events.items())[:limit]]

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        del connection
        for id_ in ids:
            self._events.pop(id_, None)

    def waiting(self) -> Iterator[AuditEvent]:
        yield from map(read_waiting, list(self._events.values()))

    def close(self) -> None:
        """There is nothing to release."""
