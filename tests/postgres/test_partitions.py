"""Months: made ahead, missing without a loss, and moved out of the default partition while the trail is used."""

import threading
from datetime import UTC, datetime

import psycopg
import pytest

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import ConfigurationError
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.making import make_roles
from audit_core.postgres.partitions import Partitions
from audit_core.testing import make_event
from tests.postgres.server import as_role, new_database


@pytest.fixture
def trail(state):
    with AuditTrail(new_database(), lifecycle=False) as trail:
        yield trail


def put(trail, *moments):
    with trail.outboxes[0].database.transaction() as connection:
        trail.outboxes[0].put([make_event(timestamp=moment, resource_id="x") for moment in moments], connection)
    trail.flush()


def names(trail):
    return [partition.name for partition in Partitions(trail.store.database).all()]


def test_a_month_without_an_estimate_is_counted_and_one_with_it_is_told_as_about(trail, capsys):
    put(trail, *[datetime(2019, 5, 1, tzinfo=UTC)] * 3)

    def shown():
        assert main(["partitions", "--url", trail.url]) == 0
        lines = capsys.readouterr().out.splitlines()
        return " ".join(next(line for line in lines if line.startswith("audit_events_default")).split()[1:4])

    assert shown().startswith("4 events")  # with the first record
    with psycopg.connect(trail.url, autocommit=True) as connection:
        connection.execute("ANALYZE audit.audit_events_default")
    assert shown() == "about 4 events"


def test_the_months_to_come_have_partitions_from_the_beginning(trail):
    now = datetime.now(UTC)
    made = names(trail)
    assert made[:2] == ["audit_events_default", f"audit_events_{now:%Y_%m}"]
    assert len(made) == 5
    assert Partitions(trail.store.database).make(3) == []
    assert len(Partitions(trail.store.database).make(5)) == 2


def test_a_month_without_a_partition_loses_nothing(trail):
    put(trail, datetime(2019, 5, 1, tzinfo=UTC), datetime(2019, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC))
    assert Partitions(trail.store.database).months_in_default() == ["2019_05"]
    assert trail.chain.verify().findings == ()
    assert len(list(trail.events(action="test.event", until=datetime(2019, 6, 1, tzinfo=UTC)))) == 2


def test_months_move_out_of_the_default_partition_while_events_are_sealed_and_read(trail):
    months = [datetime(2019, month, 1, tzinfo=UTC) for month in (5, 6, 12)]
    put(
        trail, *(moment.replace(day=day, second=second) for moment in months for day in (1, 28) for second in range(50))
    )
    put(trail, datetime(1, 1, 1, tzinfo=UTC))
    before = [event.event_hash for event in trail.events()]
    stop, errors = threading.Event(), []

    def use():
        try:
            while not stop.is_set():
                put(trail, months[0], datetime.now(UTC))
                assert len(list(trail.events(until=months[1]))) > 100
        except Exception as error:
            errors.append(error)

    user = threading.Thread(target=use)
    user.start()
    partitions = Partitions(trail.store.database)
    assert partitions.move_from_default() == ["2019_05", "2019_06", "2019_12"]
    stop.set()
    user.join()
    assert errors == []
    assert {"audit_events_2019_05", "audit_events_2019_06", "audit_events_2019_12"} < set(names(trail))
    assert partitions.months_in_default() == []
    assert set(before) < {event.event_hash for event in trail.events()}
    assert trail.chain.verify().findings == ()
    assert partitions.move_from_default() == []
    put(trail, months[2])
    assert partitions.months_in_default() == []


def test_a_moved_month_refuses_what_every_month_refuses(trail):
    put(trail, datetime(2019, 5, 1, tzinfo=UTC))
    Partitions(trail.store.database).move_from_default()
    with psycopg.connect(trail.url, autocommit=True) as connection:
        for statement in (
            "UPDATE audit.audit_events_2019_05 SET actor_id = 'x'",
            "DELETE FROM audit.audit_events_2019_05",
            "TRUNCATE audit.audit_events_2019_05",
            "TRUNCATE audit.audit_events_default",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                connection.execute(statement)


def test_a_move_that_was_interrupted_is_begun_again(trail, monkeypatch):
    put(trail, datetime(2019, 5, 1, tzinfo=UTC))
    partitions = Partitions(trail.store.database)
    with monkeypatch.context() as patched:
        patched.setattr(Partitions, "_exchange", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            partitions.move_from_default()
    assert partitions.move_from_default() == ["2019_05"]
    assert len(list(trail.events(action="test.event"))) == 1


def test_only_the_owner_moves_months_out_of_the_default_partition(trail):
    put(trail, datetime(2020, 2, 3, tzinfo=UTC))
    make_roles(trail.store.database)
    sealer = PostgresDatabase(as_role(trail.store.database.conninfo, "audit_sealer"))
    with pytest.raises(ConfigurationError, match="Only the owner"):
        Partitions(sealer).move_from_default()
    sealer.close()


def test_a_table_that_has_kept_the_name_of_a_month_is_named(trail):
    put(trail, datetime(2020, 2, 3, tzinfo=UTC))
    with psycopg.connect(trail.store.database.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE audit.audit_events_2020_02 (note text)")
    with pytest.raises(ConfigurationError, match="audit_events_2020_02 is there, and is no part of the trail"):
        Partitions(trail.store.database).move_from_default()
