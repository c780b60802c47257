"""What is not there any more, as signed statements say: whoever reads is told so, and not shown less in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from audit_core.canonical import RECORD_COLUMNS, format_timestamp
from audit_core.chain.keys import read_keyring
from audit_core.chain.whole import touches
from audit_core.integrity.retention import Archive, Purge
from audit_core.normalise import clean_text
from audit_core.query import EventQuery
from audit_core.stores import AuditStore

_TIMESTAMP = RECORD_COLUMNS.index("timestamp")


class Purged(NamedTuple):
    """An archived month that was destroyed after its retention."""

    month: str
    events: int
    sequence: int  # of the statement that says so
    reason: str

    def __str__(self) -> str:
        events = "1 event" if self.events == 1 else f"{self.events:,} events"
        return f"{events} of {self.month} were purged by event {self.sequence:,} ({self.reason})"


def purged_in(store: AuditStore, query: EventQuery) -> list[Purged]:
    """What was purged of the interval of a query, in order of time."""
    return sorted(_purged(archive, purge) for archive, purge in _purges(store) if touches(archive, query))


def purge_of(store: AuditStore, event: str | int) -> Purged | None:
    """What an event was purged with, by its id or its sequence; None where it was not."""
    if (left := store.find_left(event if isinstance(event, int) else clean_text(event))) is None:
        return None
    return next((_purged(*one) for one in _purges(store) if one[0].sequence == left.archive), None)


def archived_in(store: AuditStore, query: EventQuery) -> list[str]:
    """The months of the interval that have events in archives, which are read with the others."""
    if (ring := read_keyring(store)) is None:
        return []
    return sorted({one.month for one in ring.not_purged() if touches(one, query)})


def restored_in(store: AuditStore, query: EventQuery) -> Iterator[str]:
    """What is lost of the interval of a query since a backup was put back, in a sentence each."""
    ring = read_keyring(store)
    for one in ring.restorations if ring else ():
        since, until = _moment(store, one.lost_from - 1), _moment(store, one.sequence)
        is_before = query.since is not None and until != "" and until < format_timestamp(query.since)
        if one.lost and not is_before and (query.until is None or since < format_timestamp(query.until)):
            yield (
                f"a backup was put back, which lacks up to {one.lost:,} events from sequence {one.lost_from:,} on, as "
                f"event {one.sequence:,} says ({one.reason})"
            )


def _moment(store: AuditStore, sequence: int) -> str:
    """When an event happened; "" where its record is not at hand."""
    return str(row[_TIMESTAMP]) if sequence >= 0 and (row := store.row(sequence)) else ""


def _purges(store: AuditStore) -> Iterator[tuple[Archive, Purge]]:
    if (ring := read_keyring(store)) is not None:
        yield from ((ring.archives[number], purge) for number, purge in ring.purges.items())


def _purged(archive: Archive, purge: Purge) -> Purged:
    return Purged(archive.month, archive.events, purge.sequence, purge.reason)
