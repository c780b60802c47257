"""What a store does, and what one in a database does besides."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit_core.canonical import MAX_RECORD_BYTES, encode_record
from audit_core.chain.hashing import LOWEST
from audit_core.chain.subtrees import FRONTIER_EVERY
from audit_core.draft import MAX_DRAFT_BYTES, draft_of, place
from audit_core.errors import ConflictError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.verify import Result
from audit_core.query import EventQuery, place_of
from audit_core.rows import from_row
from audit_core.stores import AuditStore
from audit_core.testing.making import EDGES, NOON, ORIGIN, make_chain, make_event, seal


def _sequences(rows: Any) -> list[int | None]:
    return [from_row(row).sequence for row in rows]


def _ids(rows: Any) -> list[str]:
    return [from_row(row).event_id for row in rows]


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
        assert store.row(0) is None
        assert store.kept_frontier(1) is None
        assert list(store.duplicate_ids()) == []

    def test_creating_twice_changes_nothing(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event()])
        store.create()
        assert store.is_created()
        assert store.extent() == (2, 2)

    def test_what_is_appended_is_read_back_in_order(self, store: AuditStore) -> None:
        chain = make_chain(store)
        events = [make_event(n, details={"number": n}) for n in range(5)]
        signed = [seal(chain, events[:2]), seal(chain, events[2:])]
        read = [from_row(row) for row in store.rows(1)]
        assert [event.details["number"] for event in read] == [0, 1, 2, 3, 4]
        assert [event.sequence for event in read] == [1, 2, 3, 4, 5]
        assert list(store.checkpoints()) == signed
        assert [head.tree_size for head in store.checkpoints(3)] == [6]
        assert store.head() == signed[-1]
        assert list(store.duplicate_ids()) == []

    # --- values

    @pytest.mark.parametrize("event", EDGES.values(), ids=EDGES)
    def test_an_event_is_read_back_as_it_was_sealed(self, store: AuditStore, event: AuditEvent) -> None:
        chain = make_chain(store)
        seal(chain, [event])
        (row,) = store.rows(1)
        previous, digest = store.leaf_hashes(0, 2)
        assert row == (*place(draft_of(event), 1, previous), digest)
        assert replace(from_row(row), sequence=None, previous_hash=None, event_hash=None) == event
        assert store.row(1) == store.find(event.event_id) == row
        assert chain.verify().findings == ()

    def test_a_record_as_long_as_one_may_be_is_kept_whole(self, store: AuditStore) -> None:
        seal(make_chain(store), [EDGES["the longest record"]])
        (row,) = store.rows(1)
        assert MAX_DRAFT_BYTES < len(encode_record(row[:-1], ORIGIN)) <= MAX_RECORD_BYTES

    # --- ranges

    def test_a_range_of_rows_is_read_without_its_end(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event(n) for n in range(9)])
        for start, stop in [(3, 6), (0, 10), (9, 10), (4, 4), (6, 3), (8, 99), (99, 100), (LOWEST, 3), (LOWEST, None)]:
            expected = [n for n in range(10) if start <= n and (stop is None or n < stop)]
            assert _sequences(store.rows(start, stop)) == expected
        assert len(store.leaf_hashes(3, 6)) == 3
        assert store.leaf_hashes(4, 4) == []
        assert [head.tree_size for head in store.checkpoints(LOWEST)] == [10]

    def test_a_long_range_has_neither_gap_nor_repeat(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event(n // 100) for n in range(4_500)])
        assert _sequences(store.rows()) == list(range(4_501))
        assert _sequences(store.rows(1_000, 4_001)) == list(range(1_000, 4_001))
        assert len(store.leaf_hashes(0, 4_501)) == 4_501
        for newest_first in (True, False):
            read = list(store.select(EventQuery(action="test.event", newest_first=newest_first)))
            assert _sequences(read) == sorted(range(1, 4_501), reverse=newest_first)

    def test_reading_goes_on_while_others_append(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event(n) for n in range(9)])
        rows = store.rows(0, 10)
        first = next(rows)
        seal(chain, [make_event(9)])
        assert _sequences([first, *rows]) == list(range(10))

    # --- appending

    def test_two_writers_can_never_both_append_at_the_same_place(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event()])
        head, rows = store.head(), list(store.rows(1))
        assert head is not None
        with pytest.raises(ConflictError), store.transaction(patient=True) as connection:
            store.append(rows, head, connection)
        assert store.extent() == (2, 2)
        assert chain.verify().result is Result.UNANCHORED

    def test_the_chain_is_taken_up_again_wherever_it_ended(self, store: AuditStore) -> None:
        for batch in (1, FRONTIER_EVERY - 2, 1, FRONTIER_EVERY, 2 * FRONTIER_EVERY + 1, 1):
            seal(make_chain(store), [make_event(n) for n in range(batch)])
        assert make_chain(store).verify().findings == ()

    def test_it_knows_which_events_it_has(self, store: AuditStore) -> None:
        events = [make_event(n) for n in range(1_200)]
        seal(make_chain(store), events[:600])
        ids = [event.event_id for event in events]
        assert store.known(ids) == set(ids[:600])
        assert store.known([]) == set()

    def test_what_is_no_id_is_nobodys(self, store: AuditStore) -> None:
        event = make_event()
        seal(make_chain(store), [event])
        for text in ("", "none", "'", "\U0001f9d1", event.event_id.upper(), "x" * 1_000):
            assert store.find(text) is None
            assert store.known([text, event.event_id]) == {event.event_id}

    def test_the_kept_frontier_is_the_latest_at_or_below_a_size(self, store: AuditStore) -> None:
        chain = make_chain(store)
        signed = [seal(chain, [make_event(batch) for _ in range(100)]) for batch in range(6)]
        kept = [head for head in signed if head.frontier is not None]
        assert [head.tree_size for head in kept] == [301, 601]  # where a multiple of FRONTIER_EVERY was passed
        assert FRONTIER_EVERY == 256
        assert store.kept_frontier(300) is None
        assert store.kept_frontier(301) == store.kept_frontier(600) == kept[0]
        assert store.kept_frontier(601) == kept[1]

    # --- queries

    def test_a_query_combines_what_it_asks_for(self, store: AuditStore) -> None:
        events = [
            make_event(n, actor_id=f"u{n % 3}", resource_type="patient", resource_id=str(n % 2), outcome="success")
            for n in range(12)
        ]
        seal(make_chain(store), events)
        query = EventQuery(actor="u1", resource_type="patient", resource_id="1", newest_first=False)
        assert _ids(store.select(query)) == [
            event.event_id for n, event in enumerate(events) if n % 3 == 1 and n % 2 == 1
        ]
        assert list(store.select(EventQuery(actor="nobody"))) == []

    def test_every_part_of_a_query_counts(self, store: AuditStore) -> None:
        fields = {
            "actor_id": "u", "resource_type": "patient", "resource_id": "7", "action": "a.b",
            "outcome": "denied", "tenant_id": "t", "actor_type": "admin", "on_behalf_of": "p",
        }  # fmt: skip
        wanted = make_event(1, **fields)
        other = {"outcome": "success", "actor_type": "user"}
        others = [make_event(1, **{**fields, name: other.get(name, "other")}) for name in fields]
        seal(make_chain(store), [*others, wanted])
        query = EventQuery(
            actor="u", resource_type="patient", resource_id="7", action="a.b", outcome="denied", tenant="t",
            on_behalf_of="p", actor_types=("admin", "service"),
        )  # fmt: skip
        assert _ids(store.select(query)) == [wanted.event_id]

    def test_a_query_for_several_ids_of_a_resource_finds_each_of_them(self, store: AuditStore) -> None:
        ids = ["7", "8", "9", "7" * 400, "7" * 399 + "8"]
        made = [make_event(resource_type="patient", resource_id=one) for one in ids]
        seal(make_chain(store), [*made, make_event(resource_type="doctor", resource_id="7")])
        query = EventQuery(resource_type="patient", resource_ids=("7", "8", "7" * 400), newest_first=False)
        assert {from_row(row).resource_id for row in store.select(query)} == {"7", "8", "7" * 400}

    def test_texts_are_told_apart_by_every_character(self, store: AuditStore) -> None:
        names = ["ada", "Ada", "ada ", "", "\xe9", "e\u0301", "a_a", "%", "\U0001f9d1"]
        seal(make_chain(store), [make_event(actor_id=name) for name in [*names, None]])
        for name in names:
            assert [from_row(row).actor_id for row in store.select(EventQuery(actor=name))] == [name]

    def test_pages_go_on_where_the_last_one_ended_in_both_directions(self, store: AuditStore) -> None:
        chance = random.Random(1)
        seal(make_chain(store), [make_event(chance.randrange(4)) for _ in range(40)])
        for newest_first in (True, False):
            everything = [from_row(row) for row in store.select(EventQuery(newest_first=newest_first))]
            assert everything == sorted(everything, key=place_of, reverse=newest_first)
            rest = store.select(EventQuery(newest_first=newest_first, after=place_of(everything[20])))
            assert _ids(rest) == [event.event_id for event in everything[21:]]

    def test_an_interval_includes_its_beginning_and_not_its_end(self, store: AuditStore) -> None:
        seal(make_chain(store), [make_event(n, actor_id="u") for n in range(5)])
        query = EventQuery(
            actor="u", since=NOON + timedelta(seconds=1), until=NOON + timedelta(seconds=3), newest_first=False
        )
        assert [from_row(row).timestamp.second for row in store.select(query)] == [1, 2]


class TransactionalStoreContract(StoreContract):
    """What a store in a database does besides: what is appended is there if and only if its transaction commits."""

    def test_a_transaction_that_fails_leaves_nothing(self, store: AuditStore) -> None:
        chain = make_chain(store)
        seal(chain, [make_event()])
        with suppress(KeyError), store.transaction(patient=True) as connection:
            chain.append([make_event()], connection)
            raise KeyError
        assert store.extent() == (2, 2)
        seal(chain, [make_event()])
        assert chain.verify().findings == ()

    def test_an_append_that_conflicts_leaves_none_of_its_rows(self, store: AuditStore) -> None:
        chain = make_chain(store)
        events = [make_event(n) for n in range(3)]
        seal(chain, events)
        with pytest.raises(IntegrityError), store.transaction(patient=True) as connection:
            chain.append([make_event(), events[1]], connection)  # the second one's id is taken
        assert store.extent() == (4, 4)
        seal(chain, [make_event()])
        assert chain.verify().findings == ()

    def test_a_savepoint_undoes_what_was_appended_in_it_and_no_more(self, store: AuditStore) -> None:
        chain = make_chain(store)
        kept = make_event(1)
        with store.transaction(patient=True) as connection:
            chain.append([kept], connection)
            with suppress(KeyError), store.savepoint(connection):
                chain.append([make_event(2)], connection)
                raise KeyError
        assert _ids(store.rows(1)) == [kept.event_id]
        seal(chain, [make_event(3)])
        assert chain.verify().findings == ()

    def test_a_transaction_sees_what_it_has_appended(self, store: AuditStore) -> None:
        chain, event = make_chain(store), make_event()
        with store.transaction(patient=True) as connection:
            signed = chain.append([event], connection)
            assert store.head(connection) == signed
            assert store.known([event.event_id], connection) == {event.event_id}
            assert (row := store.row(1, connection)) is not None
            assert store.leaf_hashes(1, 2, connection) == [row[-1]]
