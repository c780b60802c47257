import sqlite3
from datetime import timedelta
from types import SimpleNamespace

import pytest

from audit_core.errors import IntegrityError, StoreUnavailableError
from audit_core.outbox.spill import SpillFile
from audit_core.outbox.sqlite import SqliteOutbox
from audit_core.rows import from_row, to_json
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain, make_event, seal
from audit_core.trail import AuditTrail
from audit_core.writing import sealer
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables


@pytest.fixture
def place_of_work(tmp_path):
    """A trail with an outbox in its own database, and one in the database of an application."""
    own, other = SqliteDatabase(tmp_path / "trail.db"), SqliteDatabase(tmp_path / "app.db")
    chain, outboxes = make_chain(SqliteStore(own)), [SqliteOutbox(own), SqliteOutbox(other)]
    chain.store.create()
    for outbox in outboxes:
        outbox.create()
    yield SimpleNamespace(
        chain=chain, own=outboxes[0], other=outboxes[1], sealer=Sealer(chain, outboxes, Tables(chain.store, outboxes))
    )
    own.close()
    other.close()


def put(outbox, *transactions):
    for events in transactions:
        with outbox.database.transaction() as connection:
            for event in events:
                outbox.put([event], connection)


def backwards(count):
    """Events whose times and ids both run against the order in which they happened."""
    events = sorted((make_event() for _ in range(count)), key=lambda event: event.event_id, reverse=True)
    return [make_event(-number, event_id=event.event_id) for number, event in enumerate(events)]


def sealed_ids(chain):
    assert chain.verify().findings == ()
    return [from_row(row).event_id for row in chain.store.rows(1)]


def ids(events):
    return [event.event_id for event in events]


class TestOrder:
    @pytest.mark.parametrize("where", ["own", "other"])
    @pytest.mark.parametrize("batch", [1, 2, 3, 100])
    def test_the_events_of_one_transaction_keep_their_order_whatever_their_times_say(
        self, place_of_work, monkeypatch, where, batch
    ):
        monkeypatch.setattr(sealer, "BATCH", batch)
        events = backwards(10)
        put(getattr(place_of_work, where), events[:3], events[3:4], events[4:])
        place_of_work.sealer.seal()
        assert sealed_ids(place_of_work.chain) == ids(events)

    def test_a_change_that_seals_at_once_comes_after_what_waited_before_it(self, tmp_path):
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
            trail.record("a.b")
            waited, changes = backwards(3), backwards(3)
            put(trail.outboxes[0], waited)
            connection = sqlite3.connect(tmp_path / "trail.db")
            trail.carry(changes, connection, "app")
            connection.commit()
            connection.close()
            sealed = [event.event_id for event in map(from_row, trail.store.rows()) if event.action == "test.event"]
            assert sealed == ids([*waited, *changes])

    def test_what_the_writer_brings_comes_after_what_waited_before_it(self, place_of_work):
        waited, brought = backwards(3), backwards(3)
        put(place_of_work.own, waited)
        place_of_work.sealer.deliver(brought)
        assert sealed_ids(place_of_work.chain) == ids([*waited, *brought])


class TestOnce:
    def test_a_crash_between_append_and_remove_seals_each_event_once_and_later_ones_after_it(
        self, place_of_work, monkeypatch
    ):
        events = backwards(8)
        put(place_of_work.other, events[:5])

        def crash(rows, connection=None):
            raise StoreUnavailableError("the power went")

        with monkeypatch.context() as patch:
            patch.setattr(place_of_work.other, "remove", crash)
            with pytest.raises(StoreUnavailableError):
                place_of_work.sealer.seal()
        assert sealed_ids(place_of_work.chain) == ids(events[:5])
        assert len(place_of_work.other.take(10)) == 5
        put(place_of_work.other, events[5:])
        place_of_work.sealer.seal()
        assert sealed_ids(place_of_work.chain) == ids(events)
        assert place_of_work.other.take(10) == []

    def test_a_spill_file_whose_events_were_sealed_before_the_crash_seals_only_the_rest(self, tmp_path):
        events = backwards(6)
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
            trail.record("a.b")
            seal(trail.chain, events[:4])
        spill = SpillFile(tmp_path / "trail.db-audit")
        spill.append(events)
        spill.abandon()
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
            trail.record("a.b")
            trail.flush()
            sealed = [event.event_id for event in map(from_row, trail.store.rows()) if event.action == "test.event"]
            assert sealed[:4] == ids(events[:4])
            assert sorted(sealed) == sorted(ids(events))
            assert trail.verify().findings == ()
        assert list((tmp_path / "trail.db-audit").glob("*.spill")) == []

    def test_of_two_events_with_one_id_the_first_is_sealed_and_the_other_told(self, place_of_work):
        honest = make_event(actor_id="7")
        forged = make_event(event_id=honest.event_id, timestamp=honest.timestamp + timedelta(days=1))
        put(place_of_work.own, [honest, make_event(), forged])
        place_of_work.sealer.seal()
        put(place_of_work.own, [forged, honest])
        place_of_work.sealer.seal()
        assert len(sealed_ids(place_of_work.chain)) == 4
        records = [from_row(row) for row in place_of_work.chain.store.rows(1)]
        assert records[0].actor_id == "7"
        assert [record.action for record in records].count("outbox.unreadable") == 2
        assert place_of_work.own.take(10) == []


def test_a_batch_that_is_refused_in_its_midst_leaves_nothing_and_the_chain_goes_on(place_of_work, monkeypatch):
    known, events = make_event(), backwards(5)
    seal(place_of_work.chain, [known])
    put(place_of_work.own, [*events[:3], known, *events[3:]])
    with monkeypatch.context() as patch:
        patch.setattr(place_of_work.chain.store, "known", lambda ids, connection: set())
        with pytest.raises(IntegrityError, match="leaves no place"):
            place_of_work.sealer.seal()
    assert sealed_ids(place_of_work.chain) == [known.event_id]
    place_of_work.sealer.seal()
    assert sealed_ids(place_of_work.chain) == ids([known, *events])


def test_a_replace_of_many_rows_takes_none_away(place_of_work):
    seal(place_of_work.chain, backwards(5))
    before = list(place_of_work.chain.store.rows())
    with place_of_work.own.database.transaction() as connection:
        connection.execute("CREATE TEMP TABLE forged AS SELECT * FROM audit_events")
        connection.execute("UPDATE forged SET sequence = 100 + sequence, event_id = 'x' WHERE sequence = 0")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute("INSERT OR REPLACE INTO audit_events SELECT * FROM forged ORDER BY sequence DESC")
    assert list(place_of_work.chain.store.rows(0, 6)) == before


def test_an_event_made_by_hand_holds_up_nobody(place_of_work):
    events = [make_event(), make_event(details={"ratio": 0.5}), make_event(actor_id=7), make_event(timestamp=None)]
    place_of_work.sealer.deliver(events)
    sealed = [from_row(row) for row in place_of_work.chain.store.rows(1)]
    assert [event.action for event in sealed] == ["test.event", *["outbox.unreadable"] * 3]
    assert sealed_ids(place_of_work.chain)[0] == events[0].event_id


def test_a_forged_line_of_a_spill_file_becomes_an_event_that_says_so(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
        trail.record("a.b")
    before, after = make_event(1), make_event(2)
    spill = SpillFile(tmp_path / "trail.db-audit")
    spill.append([before, make_event(details={"a": 0.5}), make_event(actor_type="robot"), after])
    spill.abandon()
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
        trail.record("a.b")
        trail.flush()
        unreadable = [event.details["text"] for event in trail.events(action="outbox.unreadable", newest_first=False)]
        assert len(unreadable) == 2
        assert ids(trail.events(action="test.event", newest_first=False)) == ids([before, after])
        assert trail.verify().findings == ()


def test_what_is_taken_is_text_as_it_was_put(place_of_work):
    event = make_event(actor_id="Zoë")
    put(place_of_work.own, [event])
    (waiting,) = place_of_work.own.take(5)
    assert waiting.event == to_json(event)


def test_why_nothing_is_sealed_is_told_where_the_newest_checkpoint_was_taken_away(tmp_path, caplog):
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db", lifecycle=False) as trail:
        for name in ("a.b", "c.d"):
            trail.record(name)
            trail.flush()
        with trail.store.database.transaction() as connection:
            connection.execute("DROP TRIGGER audit_checkpoints_no_delete")
            connection.execute("DELETE FROM audit_checkpoints WHERE tree_size = 3")
        trail.record("e.f")
        assert "leaves no place" in trail.status()["trouble"]
        assert [event.action for event in trail.outboxes[0].waiting()] == ["e.f"]
    assert "run `audit verify`" in caplog.text
