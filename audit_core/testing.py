"""Contracts that every store and every outbox fulfils, as tests: subclass one, and say how to make yours.

class TestMyStore(StoreContract):
    def make_store(self, path): return MyStore(...)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_core.chain import AuditChain
from audit_core.errors import ConflictError
from audit_core.event import AuditEvent
from audit_core.identity import new_event_id
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.outbox import Outbox
from audit_core.outbox.memory import MemoryOutbox
from audit_core.proof import FRONTIER_EVERY
from audit_core.query import EventQuery, place_of
from audit_core.rows import from_row
from audit_core.sealer import Sealer
from audit_core.stores import AuditStore
from audit_core.stores.memory import MemoryStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_event(number: int = 0, **fields: Any) -> AuditEvent:
    """A plain event, ``number`` seconds after noon."""
    moment = NOON + timedelta(seconds=number)
    usual: dict[str, Any] = {"event_id": new_event_id(), "timestamp": moment, "action": "test.event"}
    return AuditEvent(**(usual | fields))


def make_chain(store: AuditStore) -> AuditChain:
    """A chain over ``store`` with a key of its own."""
    signer = LocalSigner(b"k" * 32)
    return AuditChain(store, lambda: signer, "example.com/test")


def seal(chain: AuditChain, events: Sequence[AuditEvent]) -> None:
    """Append events in a transaction of their own."""
    with chain.store.transaction(patient=True) as connection:
        chain.append(events, connection)


class StoreContract:
    """What an AuditStore does."""

    def make_store(self, path: Path) -> AuditStore:
        """A new, empty store; ``path`` is a folder for it."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        """The store under test, created, and closed at the end."""
        store = self.make_store(tmp_path)
        store.create()
        yield store
        store.close()

    def test_an_empty_store_has_neither_head_nor_rows(self, store: AuditStore) -> None:
        assert store.head() is None
        assert store.extent() == (0, 0)
        assert list(store.rows()) == []
        assert list(store.checkpoints()) == []
        assert store.find("none") is None

    def test_creating_twice_changes_nothing(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event()])
        store.create()
        assert store.is_created()
        assert store.extent() == (2, 2)

    def test_what_it_makes_is_as_it_should_be_and_may_be_written(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event()])
        assert list(store.check_schema()) == []
        assert store.is_writable()

    def test_what_is_appended_is_read_back_in_order(self, store: AuditStore) -> None:
        chain = make_chain(store)
        events = [make_event(n, details={"number": n}) for n in range(5)]
        seal(chain, events[:2])
        seal(chain, events[2:])
        read = [from_row(row) for row in store.rows(1)]
        assert [event.details["number"] for event in read] == [0, 1, 2, 3, 4]
        assert [event.sequence for event in read] == [1, 2, 3, 4, 5]
        assert [head.tree_size for head in store.checkpoints()] == [3, 6]
        assert [head.tree_size for head in store.checkpoints(3)] == [6]

    def test_a_range_of_rows_is_read_without_its_end(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event(n) for n in range(9)])
        assert [from_row(row).sequence for row in store.rows(3, 6)] == [3, 4, 5]
        assert len(store.leaf_hashes(3, 6)) == 3

    def test_two_writers_can_never_both_append_at_the_same_place(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event()])
        head, rows = store.head(), list(store.rows(1))
        assert head is not None
        with pytest.raises(ConflictError), store.transaction(patient=True) as connection:
            store.append(rows, head, connection)
        assert store.extent() == (2, 2)

    def test_an_append_that_fails_leaves_nothing(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event()])
        event = next(from_row(row) for row in store.rows(1))
        with pytest.raises((ConflictError, ValueError)), store.transaction(patient=True) as connection:
            if event.event_id in store.known([event.event_id], connection):
                raise ConflictError("known")
            chain.append([event], connection)
        assert chain.verify().result is Result.UNANCHORED
        assert store.extent() == (2, 2)

    def test_it_knows_which_events_it_has(self, store: AuditStore) -> None:
        events = [make_event(n) for n in range(1_200)]
        seal(make_chain(store), events[:600])
        ids = [event.event_id for event in events]
        assert store.known(ids) == set(ids[:600])
        assert store.known([]) == set()

    def test_an_event_is_found_by_its_id_and_by_its_place(self, store: AuditStore) -> None:
        event = make_event(actor_id="42")
        seal(make_chain(store), [event])
        assert (row := store.find(event.event_id)) is not None
        assert store.row(1) == row
        assert from_row(row).actor_id == "42"

    def test_the_kept_frontier_is_the_latest_at_or_below_a_size(self, store: AuditStore) -> None:
        chain = make_chain(store)
        for batch in range(6):
            seal(chain, [make_event(batch) for _ in range(100)])
        kept = [head.tree_size for head in store.checkpoints() if head.frontier is not None]
        assert kept == [301, 601]  # where a multiple of FRONTIER_EVERY was passed
        assert FRONTIER_EVERY == 256
        assert (found := store.kept_frontier(600)) is not None
        assert found.tree_size == 301

    def test_a_query_combines_what_it_asks_for(self, store: AuditStore) -> None:
        events = [
            make_event(n, actor_id=f"u{n % 3}", resource_type="patient", resource_id=str(n % 2), outcome="success")
            for n in range(12)
        ]
        seal(make_chain(store), events)
        query = EventQuery(actor="u1", resource_type="patient", resource_id="1", newest_first=False)
        assert [from_row(row).event_id for row in store.select(query)] == [
            event.event_id for n, event in enumerate(events) if n % 3 == 1 and n % 2 == 1
        ]
        assert list(store.select(EventQuery(actor="nobody"))) == []

    def test_pages_go_on_where_the_last_one_ended_in_both_directions(self, store: AuditStore) -> None:
        chance = random.Random(1)
        seal(make_chain(store), [make_event(chance.randrange(4)) for _ in range(40)])
        for newest_first in (True, False):
            everything = [from_row(row) for row in store.select(EventQuery(newest_first=newest_first))]
            middle = everything[20]
            rest = store.select(EventQuery(newest_first=newest_first, after=place_of(middle)))
            assert [from_row(row).event_id for row in rest] == [event.event_id for event in everything[21:]]

    def test_an_interval_includes_its_beginning_and_not_its_end(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event(n, actor_id="u") for n in range(5)])
        query = EventQuery(
            actor="u", since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=3), newest_first=False
        )
        assert [from_row(row).timestamp.second for row in store.select(query)] == [1, 2]


class OutboxContract:
    """What an Outbox does."""

    def make_outbox(self, path: Path) -> Outbox:
        """A new, empty outbox; ``path`` is a folder for it."""
        raise NotImplementedError

    def connect(self, outbox: Outbox) -> Any:
        """A DB-API connection of an application to the outbox's database."""
        raise NotImplementedError

    @pytest.fixture
    def outbox(self, tmp_path: Path) -> Any:
        """The outbox under test, created, and closed at the end."""
        outbox = self.make_outbox(tmp_path)
        outbox.create()
        outbox.create()
        yield outbox
        outbox.close()

    @pytest.fixture
    def connection(self, outbox: Outbox) -> Any:
        """An application's connection."""
        connection = self.connect(outbox)
        yield connection
        connection.close()

    def test_events_are_taken_in_the_order_in_which_they_were_put(self, outbox: Outbox, connection: Any) -> None:
        events = [make_event(n) for n in range(7)]
        outbox.put(events[:3], connection)
        outbox.put(events[3:], connection)
        connection.commit()
        assert [event.event_id for event in outbox.waiting()] == [event.event_id for event in events]
        assert len(outbox.take(5)) == 5

    def test_what_is_taken_stays_until_it_is_removed(self, outbox: Outbox, connection: Any) -> None:
        outbox.put([make_event(n) for n in range(5)], connection)
        connection.commit()
        first = outbox.take(2)
        assert outbox.take(2) == first
        outbox.remove([waiting.id for waiting in first])
        outbox.remove([])
        assert len(outbox.take(10)) == 3

    def test_an_event_comes_back_as_it_was_put(self, outbox: Outbox, connection: Any) -> None:
        event = make_event(
            actor_id="Zoë \u2028 \U0001f9d1",
            resource_type="patient",
            resource_id="1,2",
            details={"changes": {"name": {"old": None, "new": 'a"b\\c'}}},
            ip_address="2001:db8::1",
        )
        outbox.put([event], connection)
        connection.commit()
        assert list(outbox.waiting()) == [event]

    def test_it_knows_the_connections_of_its_own_database(self, outbox: Outbox, connection: Any) -> None:
        assert outbox.owns(connection)


class TransactionalOutboxContract(OutboxContract):
    """What an outbox does that lies in the database that changes."""

    def test_a_rollback_takes_the_events_with_it(self, outbox: Outbox, connection: Any) -> None:
        outbox.put([make_event()], connection)
        connection.rollback()
        assert list(outbox.waiting()) == []

    def test_a_savepoint_takes_its_events_with_it_and_no_others(self, outbox: Outbox, connection: Any) -> None:
        kept, undone = make_event(1), make_event(2)
        outbox.put([kept], connection)
        connection.execute("SAVEPOINT one")
        outbox.put([undone], connection)
        connection.execute("ROLLBACK TO SAVEPOINT one")
        connection.commit()
        assert [event.event_id for event in outbox.waiting()] == [kept.event_id]

    def test_what_is_not_committed_is_not_visible(self, outbox: Outbox, connection: Any) -> None:
        outbox.put([make_event()], connection)
        assert outbox.take(10) == []
        connection.commit()
        assert len(outbox.take(10)) == 1

    def test_the_sealer_moves_each_event_once(self, outbox: Outbox, connection: Any) -> None:
        chain = make_chain(MemoryStore())
        sealer = Sealer(chain, [MemoryOutbox(), outbox])
        outbox.put([make_event(n) for n in range(5)], connection)
        connection.commit()
        left = outbox.take(10)
        sealer.seal()
        assert chain.store.extent() == (6, 6)
        assert list(outbox.waiting()) == []
        # A crash between append and remove leaves the batch in both places.
        connection.execute("INSERT INTO audit_outbox (event) SELECT ?", (left[0].event,))
        connection.commit()
        sealer.seal()
        assert chain.store.extent() == (6, 6)
        assert list(outbox.waiting()) == []
