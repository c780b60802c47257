"""Everything that a trail lies in: its store, the outboxes and the queue that it drains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audit_core.errors import ConfigurationError
from audit_core.outbox import Outbox
from audit_core.outbox.gate import Gate
from audit_core.outbox.queue import Queue
from audit_core.settings import checked_texts
from audit_core.stores import AuditStore
from audit_core.stores.positions import KeepsPositions
from audit_core.urls import open_outbox, open_queue, open_url
from audit_core.writing.tables import Tables

NO_OUTBOX = (
    'Events wait for a bucket in a database, where they commit with the change: name it, AuditTrail("s3://...", '
    'outbox="postgresql://host/database").'
)
NOT_ERASABLE = (
    "What a bucket has locked cannot be erased: leave out erasable=True, or keep the trail in a database and only its "
    "checkpoints in the bucket, as an anchor."
)

NO_POSITION = (
    "How far a queue was read is kept in the trail's database, in the transaction that seals: a trail in a bucket has "
    "none, so leave out the queue."
)


@dataclass(frozen=True, slots=True)
class Places:
    """``directory`` is where spill files lie; the ``gate`` tells when we may write to the application's database."""

    store: AuditStore
    outboxes: list[Outbox]
    queue: Queue | None
    tables: Tables
    directory: Path | None
    gate: Gate | None

    def close(self) -> None:
        """Release what is open there."""
        for outbox in [*self.outboxes, *([self.queue] if self.queue else [])]:
            outbox.close()
        self.store.close()
        if self.gate:
            self.gate.close()


def open_places(
    url: str, outbox: str | Iterable[str] = (), queue: str | None = None, *, erasable: bool = False, writes: bool = True
) -> Places:
    """Nothing is opened or made yet. ``writes`` says that events will wait there.

    Raises ConfigurationError for a URL that is none of ours, and for what a bucket cannot do.
    """
    store, own, directory, gate = open_url(url)
    if erasable and store.values is None:
        raise ConfigurationError(NOT_ERASABLE)
    others = map(open_outbox, checked_texts("outbox", outbox))
    outboxes = [*([own] if own else []), *others]
    if writes and not outboxes:
        raise ConfigurationError(NO_OUTBOX)
    if queue is not None and not isinstance(store, KeepsPositions):
        raise ConfigurationError(NO_POSITION)
    opened = None if queue is None else open_queue(queue)
    tables = Tables(store, outboxes, own=own is not None, queue=opened, erasable=erasable)
    return Places(store, outboxes, opened, tables, directory, gate)
