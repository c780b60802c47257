"""A trail with what is archived of it: what whoever asks for events reads."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from audit_core.archives.shelf import Shelf
from audit_core.canonical import RECORD_COLUMNS, format_timestamp
from audit_core.chain.keys import read_keyring
from audit_core.errors import AuditError, IntegrityError, StoreUnavailableError
from audit_core.integrity.retention import Archive
from audit_core.query import EventQuery
from audit_core.rows import Row
from audit_core.stores import AuditStore
from audit_core.stores.sqlite import SqliteStore

_TIMESTAMP, _SEQUENCE = RECORD_COLUMNS.index("timestamp"), RECORD_COLUMNS.index("sequence")
_ENDLESS = 2**63
_Placed = tuple[str, int, Row | None]  # what stands at this place; None where an archive may begin


class WholeStore:
    """The store's own, and for reading events what is archived besides. An archive is opened when it is needed.

    Raises StoreUnavailableError where an archive cannot be had, IntegrityError where it is another one: a reader is
    never shown less than what he has asked for.
    """

    def __init__(self, store: AuditStore, shelf: Shelf) -> None:
        self._store, self._shelf, self._log = store, shelf, ""

    def __getattr__(self, name: str) -> Any:
        """Everything but to read events is the store's."""
        return getattr(self._store, name)

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        """The sealed row at one place of the chain."""
        return self._store.row(sequence, connection) or self._archived_row(sequence)

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        """The sealed row of one event."""
        return self._store.find(event_id, connection) or self._archived_row(event_id)

    def select(self, query: EventQuery) -> Iterator[Row]:
        """Stored and archived rows that match, by (timestamp, sequence), in constant memory."""
        archives = self._archives()
        wanted = [archive for archive in archives if touches(archive, query)]
        live = self._unless_archived_meanwhile(self._store.select(query), len(archives))
        if not wanted:
            return live
        streams = [map(_placed, live), *(self._stream(archive, query) for archive in wanted)]
        merged = heapq.merge(*streams, key=lambda placed: placed[:2], reverse=query.newest_first)
        return _without_repeats(merged)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Stored and archived rows in order of sequence, in constant memory."""
        archives = self._archives()
        live = self._unless_archived_meanwhile(self._store.rows(start, stop), len(archives))
        wanted = [one for one in archives if one.last >= start and (stop is None or one.first < stop)]
        if not wanted:
            return live
        streams = [live, *(self._restored(archive).rows(start, stop) for archive in wanted)]
        placed = (("", row[_SEQUENCE], row) for row in heapq.merge(*streams, key=lambda row: row[_SEQUENCE]))
        return _without_repeats(placed)

    def _archived_row(self, event: str | int) -> Row | None:
        if (left := self._store.find_left(event)) is None:
            return None
        ring = read_keyring(self._store)
        if ring is not None and ring.is_purged(left.archive):
            return None
        if ring is None or (archive := ring.archives.get(left.archive)) is None:
            raise IntegrityError(
                f"No signed statement says where event {left.sequence} is archived: run `audit verify`."
            )
        return self._restored(archive).row(left.sequence)

    def _archives(self) -> list[Archive]:
        """Those that were not purged, in order of time."""
        if next(self._store.left(), None) is None:
            return []
        ring = read_keyring(self._store)
        return ring.not_purged() if ring else []

    def _stream(self, archive: Archive, query: EventQuery) -> Iterator[_Placed]:
        """Begins with a mark in front of its month, so that the archive is opened once somebody has come so far."""
        yield (f"{archive.month}~", _ENDLESS, None) if query.newest_first else (archive.month, -1, None)
        yield from map(_placed, self._restored(archive).select(query))

    def _restored(self, archive: Archive) -> SqliteStore:
        try:
            return self._shelf.restored(archive, self._origin())
        except AuditError as error:
            kind = StoreUnavailableError if isinstance(error, StoreUnavailableError) else IntegrityError
            raise kind(
                f"The events of {archive.month} are archived and cannot be read ({error}): say with --archive where "
                "they lie now, or ask for another time (--since)."
            ) from error

    def _origin(self) -> str:
        """Of the chain, which never changes: it is asked for with each row."""
        if not self._log and (ring := read_keyring(self._store)):
            self._log = ring.origin
        return self._log

    def _unless_archived_meanwhile(self, rows: Iterable[Row], archives: int) -> Iterator[Row]:
        yield from rows
        if len(self._archives()) != archives:
            raise StoreUnavailableError("A month was archived while events were read: read them again.")


def touches(archive: Archive, query: EventQuery) -> bool:
    """Whether its month is in the interval of the query."""
    until = None if query.until is None else format_timestamp(query.until)
    since = None if query.since is None else format_timestamp(query.since)
    return (until is None or f"{archive.month}-01T00:00:00.000000Z" < until) and (
        since is None or f"{archive.month}~" > since
    )


def _placed(row: Row) -> _Placed:
    return row[_TIMESTAMP], row[_SEQUENCE], row


def _without_repeats(placed: Iterable[_Placed]) -> Iterator[Row]:
    """An event that is archived and not removed yet stands in both, one after the other."""
    last = None
    for _, sequence, row in placed:
        if row is not None and sequence != last:
            yield row
            last = sequence
