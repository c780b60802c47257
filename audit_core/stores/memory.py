"""Sealed events in a list: for an application's own tests. Nothing survives the process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.errors import ConflictError
from audit_core.integrity.verify import Finding
from audit_core.query import EventQuery, Place, matches
from audit_core.rows import STORED_COLUMNS, Row, from_row
from audit_core.stores import Extent, Left, StoredCheckpoint
from audit_core.stores.positions import Position
from audit_core.stores.values import MemoryValues, ValueStore

_AT = {name: place for place, name in enumerate(STORED_COLUMNS)}


class MemoryStore:
    """The chain of one process. There is no transaction to join: what is recorded stays, also after a rollback."""

    name = "memory"
    seals_in_transaction = True

    def __init__(self) -> None:
        self.events: list[Row] = []
        self.heads: list[StoredCheckpoint] = []
        self.lock = threading.RLock()
        self.values: ValueStore | None = MemoryValues()
        self._positions: dict[tuple[str, str], Position] = {}

    def create(self) -> None:
        """There is nothing to make."""

    def is_created(self) -> bool:
        return True

    def may_append(self) -> bool:
        return True

    def is_writable(self) -> bool:
        return True

    def check_schema(self) -> Iterator[Finding]:
        return iter(())

    def check_indexes(self) -> Iterator[Finding]:
        return iter(())

    def transaction(self, *, patient: bool = False) -> AbstractContextManager[Any]:
        del patient
        return self.lock

    def savepoint(self, connection: Any) -> AbstractContextManager[Any]:
        del connection
        return self.lock

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        del connection
        return self.heads[-1] if self.heads else None

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        del connection
        return next((h for h in reversed(self.heads) if h.tree_size <= size and h.frontier is not None), None)

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        del connection
        return [row[-1] for row in self.events[start:stop]]

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        del connection
        return {row[_AT["event_id"]] for row in self._chained()}.intersection(event_ids)

    def append(self, rows: Sequence[Row], checkpoint: StoredCheckpoint, connection: Any) -> None:
        del connection
        if len(self.events) != checkpoint.first_sequence:
            raise ConflictError(f"Sequence {checkpoint.first_sequence} is taken already.")
        self.events.extend(rows)
        self.heads.append(checkpoint)

    def extent(self) -> Extent:
        with self.lock:
            events = int(self.events[-1][_AT["sequence"]]) + 1 if self.events else 0
            return Extent(events, self.heads[-1].tree_size if self.heads else 0)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        last = float("inf") if stop is None else stop
        yield from [row for row in self.events if start <= row[_AT["sequence"]] < last]

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        yield from [head for head in self.heads if head.tree_size > after]

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        seen: set[str] = set()
        for row in self.events:
            if row[_AT["event_id"]] in seen:
                yield row[_AT["event_id"]], row[_AT["sequence"]]
            seen.add(row[_AT["event_id"]])

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        del connection
        return next((row for row in self.events if row[_AT["sequence"]] == sequence), None)

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        del connection
        return next((row for row in self._chained() if row[_AT["event_id"]] == event_id), None)

    def select(self, query: EventQuery) -> Iterator[Row]:
        rows = [row for row in self._chained() if matches(from_row(row), query)]
        yield from sorted(rows, key=_place, reverse=query.newest_first)

    def left(self, start: int = 0, stop: int | None = None) -> Iterator[Left]:
        """Nothing of a trail in memory is archived."""
        del start, stop
        return iter(())

    def find_left(self, event: str | int) -> Left | None:
        del event
        return None

    def positions(self, queue: str, parts: Collection[str], connection: Any = None) -> dict[str, Position]:
        del connection
        return {part: found for part in parts if (found := self._positions.get((queue, part)))}

    def keep_positions(self, queue: str, values: Mapping[str, str], connection: Any) -> None:
        del connection
        now = format_timestamp(datetime.now(UTC))
        self._positions |= {(queue, part): Position(value, now) for part, value in values.items()}

    def forget_positions(self, queue: str, before: str, connection: Any) -> None:
        del connection
        old = [key for key, found in self._positions.items() if key[0] == queue and key[1] and found.kept_at < before]
        for key in old:
            del self._positions[key]

    def queues_since(self, moment: str) -> list[str]:
        return sorted(queue for (queue, part), kept in self._positions.items() if not part and kept.kept_at > moment)

    def close(self) -> None:
        """There is nothing to release."""

    def _chained(self) -> Iterator[Row]:
        """Without what an attacker has put below the first sequence."""
        return (row for row in self.events if row[_AT["sequence"]] >= 0)


def _place(row: Row) -> Place:
    return row[_AT["timestamp"]], row[_AT["sequence"]], ""
