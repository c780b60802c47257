"""What has to be made in each database before anything can be written there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from audit_core.errors import QueueUnavailableError, StoreUnavailableError
from audit_core.outbox import Outbox
from audit_core.outbox.queue import Queue
from audit_core.stores import AuditStore

logger = logging.getLogger("audit_core")


class _Part(Protocol):
    def is_created(self) -> bool:
        """Whether it is there."""

    def create(self) -> None:
        """Make what is missing of it; may be repeated."""


class Tables:
    """The parts of a trail by the database that they share: the store's first, a queue's last."""

    def __init__(
        self,
        store: AuditStore,
        outboxes: Sequence[Outbox],
        *,
        own: bool = True,
        queue: Queue | None = None,
        erasable: bool = False,
    ) -> None:
        """Whether the first outbox is in the store's ``own`` database, and values that can be erased in it, too."""
        values = store.values if erasable else None  # the table may be missing of a trail from before there were any
        first: tuple[_Part | None, ...] = (store, outboxes[0] if own and outboxes else None, values)
        others: list[tuple[_Part | None, ...]] = [(outbox,) for outbox in outboxes[own:]]
        self._databases = [first, *others, *([(queue,)] if queue else [])]
        self.own, self.queue = own, queue
        self._waits_for_store = not store.seals_in_transaction
        self._unready: set[int] = set()  # those that could not be looked for yet

    def of_outbox(self, number: int) -> int:
        """In which database an outbox is."""
        return number if self.own else number + 1

    @property
    def of_queue(self) -> int:
        """In which one the queue is, where there is one."""
        return len(self._databases) - 1

    def create(self) -> None:
        """Make what is missing, everywhere. Raises what that raises."""
        for number in range(len(self._databases)):
            self._make(number)

    def create_at_the_start(self) -> None:
        """A server that is away just now keeps no application from starting: its events wait, and the tables.

        Raises what making them raises otherwise.
        """
        for number in range(len(self._databases)):
            try:
                self._make(number)
            except QueueUnavailableError as error:
                self._wait_for(number, "queue", error)
            except StoreUnavailableError as error:
                if not self._waits_for_store:
                    raise
                self._wait_for(number, "tables", error)

    def make_ready(self, number: int = 0) -> None:
        """Make those of one database, where that could not be done at the start. Raises what that raises."""
        if number in self._unready:
            self._make(number)
            self._unready.discard(number)

    def _make(self, number: int) -> None:
        for part in filter(None, self._databases[number]):
            if not part.is_created():
                part.create()

    def _wait_for(self, number: int, what: str, error: StoreUnavailableError) -> None:
        logger.warning("The audit trail's %s could not be looked for, its events wait: %s", what, error)
        self._unready.add(number)
