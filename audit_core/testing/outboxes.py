"""What an outbox does, and what one does besides that lies in the database that changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from audit_core.event import AuditEvent
from audit_core.outbox import Outbox
from audit_core.outbox.memory import MemoryOutbox
from audit_core.rows import from_row
from audit_core.stores.memory import MemoryStore
from audit_core.testing.making import EDGES, make_chain, make_event
from audit_core.waiting import read_waiting
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables


def _ids(events: Sequence[AuditEvent]) -> list[str]:
    return [event.event_id for event in events]


class OutboxContract:
    """What an Outbox does."""

    def make_outbox(self, path: Path) -> Outbox:
        """A new, empty outbox; ``path`` is a folder for it."""
        raise NotImplementedError

    def put(self, outbox: Outbox, events: Sequence[AuditEvent]) -> None:
        """Put events so that they are there for everybody; one without transactions needs no connection."""
        outbox.put(events, None)

    @pytest.fixture
    def outbox(self, tmp_path: Path) -> Any:
        """The outbox under test, created twice, and closed at the end."""
        outbox = self.make_outbox(tmp_path)
        outbox.create()
        outbox.create()
        yield outbox
        outbox.close()

    def test_an_empty_outbox_has_nothing_to_take(self, outbox: Outbox) -> None:
        assert outbox.take(10) == []
        assert list(outbox.waiting()) == []

    def test_events_are_taken_in_the_order_in_which_they_were_put(self, outbox: Outbox) -> None:
        events = [make_event(-n) for n in range(1_200)]
        self.put(outbox, events[:3])
        self.put(outbox, events[3:])
        assert _ids(list(outbox.waiting())) == _ids(events)
        assert _ids([read_waiting(waiting.event) for waiting in outbox.take(5)]) == _ids(events[:5])

    def test_what_is_taken_stays_until_it_is_removed(self, outbox: Outbox) -> None:
        events = [make_event(n) for n in range(5)]
        self.put(outbox, events)
        first = outbox.take(2)
        assert outbox.take(2) == first
        outbox.remove([waiting.id for waiting in first])
        outbox.remove([])
        assert _ids(list(outbox.waiting())) == _ids(events[2:])
        assert len(outbox.take(10)) == 3

    @pytest.mark.parametrize("event", EDGES.values(), ids=EDGES)
    def test_an_event_comes_back_as_it_was_put(self, outbox: Outbox, event: AuditEvent) -> None:
        self.put(outbox, [event])
        assert list(outbox.waiting()) == [event]
        assert [read_waiting(waiting.event) for waiting in outbox.take(2)] == [event]

    def test_the_sealer_moves_each_event_once(self, outbox: Outbox) -> None:
        chain = make_chain(MemoryStore())
        outboxes = [MemoryOutbox(), outbox]
        sealer = Sealer(chain, outboxes, Tables(chain.store, outboxes))
        events = [make_event(n) for n in range(5)]
        # The second time is what a crash between append and remove leaves.
        for _ in range(2):
            self.put(outbox, events)
            sealer.seal()
            assert _ids([from_row(row) for row in chain.store.rows(1)]) == _ids(events)
            assert list(outbox.waiting()) == []


class TransactionalOutboxContract(OutboxContract):
    """What an outbox does besides that lies in the database that changes."""

    def connect(self, outbox: Outbox) -> Any:
        """A DB-API connection of an application to the outbox's database, with transactions, not in autocommit."""
        raise NotImplementedError

    def put(self, outbox: Outbox, events: Sequence[AuditEvent]) -> None:
        """In a transaction of an application."""
        connection = self.connect(outbox)
        try:
            outbox.put(events, connection)
            connection.commit()
        finally:
            connection.close()

    @pytest.fixture
    def connection(self, outbox: Outbox) -> Any:
        """An application's connection."""
        connection = self.connect(outbox)
        yield connection
        connection.close()

    def test_it_knows_the_connections_of_its_own_database(self, outbox: Outbox, connection: Any) -> None:
        assert outbox.owns(connection)

    def test_a_rollback_takes_the_events_with_it(self, outbox: Outbox, connection: Any) -> None:
        outbox.put([make_event()], connection)
        connection.rollback()
        assert list(outbox.waiting()) == []

    def test_a_savepoint_takes_its_events_with_it_and_no_others(self, outbox: Outbox, connection: Any) -> None:
        kept, undone = make_event(1), make_event(2)
        outbox.put([kept], connection)
        connection.cursor().execute("SAVEPOINT one")
        outbox.put([undone], connection)
        connection.cursor().execute("ROLLBACK TO SAVEPOINT one")
        connection.commit()
        assert list(outbox.waiting()) == [kept]

    def test_what_is_not_committed_is_not_visible(self, outbox: Outbox, connection: Any) -> None:
        outbox.put([make_event()], connection)
        assert outbox.take(10) == []
        connection.commit()
        assert len(outbox.take(10)) == 1

    def test_what_a_transaction_took_and_removed_comes_back_with_its_rollback(
        self, outbox: Outbox, connection: Any
    ) -> None:
        events = [make_event(n) for n in range(3)]
        self.put(outbox, events)
        outbox.remove([waiting.id for waiting in outbox.take(2, connection)], connection)
        assert len(outbox.take(10, connection)) == 1
        connection.rollback()
        assert list(outbox.waiting()) == events
