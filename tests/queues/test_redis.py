"""A trail whose requests wait in Redis: what is lost, what is not, and that it is told."""

import logging
import os
import shutil
import sqlite3
import sys
import time

import pytest
import redis

from audit_core import AuditTrail
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.outbox import redis as redis_queue
from audit_core.outbox.queue import Mark
from audit_core.testing.making import make_event
from audit_core.urls import open_queue
from tests.queues.redis_server import Server, new_queue


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def trail_at(path, queue, **settings):
    return AuditTrail(f"sqlite:///{path}", queue=queue, lifecycle=False, **settings)


def sealed(trail, action=None):
    return sorted((event for event in trail.events(action=action) if event.sealed), key=lambda event: event.sequence)


def names(trail):
    return [event.resource_id for event in sealed(trail, "a.b")]


def record(trail, *numbers):
    for number in numbers:
        trail.record("a.b", resource=("n", str(number)))


def lose(trail, *numbers):
    """The queue acknowledges these, and then has them no more."""
    trail.queue.commit([make_event(action="a.b", resource_id=str(number)) for number in numbers])
    for waiting in trail.queue.take(len(numbers)):
        trail.queue.remove([waiting.id])


# --- the way of an event


def test_what_belongs_to_no_transaction_waits_in_the_queue_and_is_sealed_from_there(path):
    with trail_at(path, new_queue()) as trail:
        trail.opened()  # somebody reads, and will write: nothing of ours may
        record(trail, 1, 2)
        assert [event.resource_id for event in trail.queue.waiting()] == ["1", "2"]
        assert [event.resource_id for event in trail.waiting()] == ["1", "2"]
        trail.closed()
        trail.flush()
        assert names(trail) == ["1", "2"]
        assert list(trail.queue.waiting()) == []
        assert trail.status()["queue"] == {"name": trail.queue.name, "waiting": 0, "trouble": None}
        assert trail.verify().findings == ()


def test_nobody_has_to_ask_for_what_is_in_the_queue_to_be_sealed(path):
    with trail_at(path, new_queue()) as trail:
        record(trail, 1)
        trail.flush()
        record(trail, 2)
        deadline = time.monotonic() + 10
        while names(trail) != ["1", "2"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_change_goes_with_its_transaction_and_not_to_the_queue(path):
    with trail_at(path, new_queue()) as trail:
        connection = sqlite3.connect(path)
        trail.carry([trail.event("a.b", resource=("n", "undone"))], connection, "clinic")
        connection.rollback()
        trail.carry([trail.event("a.b", resource=("n", "1"))], connection, "clinic")
        assert list(trail.queue.waiting()) == []
        connection.commit()
        connection.close()
        trail.flush()
        assert names(trail) == ["1"]


def test_an_event_whose_removal_was_interrupted_is_sealed_once(path, monkeypatch):
    with trail_at(path, new_queue()) as trail:
        trail.queue.commit([make_event(action="a.b", resource_id=str(n)) for n in range(3)])
        monkeypatch.setattr(trail.queue, "remove", lambda ids: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            trail.sealer.seal()
        monkeypatch.undo()
        assert len(list(trail.queue.waiting())) == 3
        trail.queue.commit([make_event(action="a.b", resource_id="3")])
        trail.sealer.seal()
        assert names(trail) == ["0", "1", "2", "3"]
        assert list(trail.queue.waiting()) == []
        assert sealed(trail, "trail.gap") == []


def test_an_event_whose_answer_was_lost_is_sent_again_and_sealed_once(path, monkeypatch):
    with trail_at(path, new_queue()) as trail:
        commit = trail.queue.commit

        def lose_the_answer(events):
            commit(events)
            trail.queue._numbers._taken -= len(events)
            monkeypatch.setattr(trail.queue, "commit", commit)
            raise StoreUnavailableError("the answer was lost")

        record(trail, 1)
        monkeypatch.setattr(trail.queue, "commit", lose_the_answer)
        record(trail, 2)
        record(trail, 3)
        trail.flush()
        assert names(trail) == ["1", "2", "3"]
        assert sealed(trail, "trail.gap") == []


def test_several_sealers_seal_each_event_once(path):
    url = new_queue()
    with trail_at(path, url) as one, trail_at(path, url) as other:
        for number in range(10):
            one.queue.commit([make_event(action="a.b", resource_id=str(number))])
            (one if number % 3 else other).sealer.seal_some(2)
        one.sealer.seal()
        assert names(one) == [str(number) for number in range(10)]
        assert sealed(one, "trail.gap") == []


def test_another_trail_does_not_take_from_a_queue_that_is_taken(path, tmp_path, caplog):
    url = new_queue()
    with trail_at(path, url) as trail, trail_at(tmp_path / "other.db", url) as other:
        record(trail, 1)
        trail.flush()
        trail.queue.commit([make_event(action="a.b", resource_id="2")])
        with pytest.raises(StoreUnavailableError, match=r"is the queue of the trail .* add .stream=name"):
            other.sealer.seal()
        assert names(other) == []
        trail.sealer.seal()
        assert names(trail) == ["1", "2"]


# --- away, full, restarted


def test_a_queue_that_is_away_loses_nothing(path, server, caplog):
    with trail_at(path, server.url) as trail:
        record(trail, 1)
        trail.flush()
        server.kill()
        with caplog.at_level(logging.WARNING):
            record(trail, 2, 3)
            assert {event.resource_id for event in trail.waiting()} >= {"2", "3"}
            assert "check that the server runs" in trail.status()["queue"]["trouble"]
        server.start()
        record(trail, 4)
        trail.flush()
        assert sorted(names(trail)) == ["1", "2", "3", "4"]
        assert sealed(trail, "trail.gap") == []
        assert trail.counters()["lost"] == 0
        (restarted,) = sealed(trail, "queue.restarted")
        assert restarted.details["queue"] == trail.queue.name
        assert trail.verify().findings == ()


def test_an_application_starts_while_its_queue_is_away(path, server):
    server.kill()
    with trail_at(path, server.url) as trail:
        record(trail, 1)
        server.start()
        trail.flush()
        assert names(trail) == ["1"]


def test_changes_are_sealed_while_the_queue_is_away(path, server):
    with trail_at(path, server.url) as trail:
        server.kill()
        connection = sqlite3.connect(path)
        trail.carry([trail.event("a.b", resource=("n", "1"))], connection, "clinic")
        connection.commit()
        connection.close()
        assert names(trail) == ["1"]
        server.start()


def test_all_that_waits_in_databases_is_sealed_before_a_queue_that_is_away_is_told_of(path, server):
    with trail_at(path, server.url) as trail:
        server.kill()
        trail.outboxes[0].commit([make_event(action="a.b", resource_id=str(number)) for number in range(5)])
        assert trail.sealer.seal_some(2)
        assert trail.sealer.seal_some(2)
        with pytest.raises(StoreUnavailableError, match="check that the server runs"):
            trail.sealer.seal_some(2)
        assert names(trail) == [str(number) for number in range(5)]
        server.start()


def test_a_full_queue_refuses_all_or_nothing_and_its_events_follow_when_there_is_room(path, server):
    with server.client() as client, trail_at(path, server.url) as trail:
        record(trail, 1)
        trail.flush()
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailableError, match="raise maxmemory"):
            trail.queue.commit([make_event(), make_event()])
        assert client.xlen("audit") == 0
        record(trail, 2)
        assert [event.resource_id for event in trail.waiting()] == ["2"]
        client.config_set("maxmemory", 0)
        trail.flush()
        assert names(trail) == ["1", "2"]
        assert sealed(trail, "trail.gap") == []


def test_a_sealer_that_comes_to_a_full_queue_makes_room(path, server):
    with server.client() as client:
        with trail_at(path, server.url) as trail:
            record(trail, 1)
            trail.flush()
            trail.queue.commit([make_event(action="a.b", resource_id="2")])
            client.config_set("maxmemory", 1)
        with trail_at(path, server.url) as trail:
            trail.sealer.seal()
            assert client.xlen("audit") == 0
        client.config_set("maxmemory", 0)
    with trail_at(path, server.url) as trail:
        trail.flush()
        assert sorted(names(trail)) == ["1", "2"]


def test_the_log_says_once_why_a_queue_takes_nothing(path, server, caplog):
    with trail_at(path, server.url) as trail:
        record(trail, 1)
        trail.flush()
        server.kill()
        with caplog.at_level(logging.WARNING):
            record(trail, 2, 3)
            with pytest.raises(StoreUnavailableError):
                trail.flush(0.2)
        told = [line.getMessage() for line in caplog.records if server.url in line.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("Events wait for the queue, durably in the spill file")
        server.start()


# --- what is lost


def test_what_a_crash_loses_is_counted_when_its_sender_goes_on(path, server):
    server.restart("--appendonly", "no")
    with trail_at(path, server.url) as trail:
        record(trail, 1)
        trail.flush()
        trail.opened()  # so that nothing is sealed meanwhile
        record(trail, 2, 3, 4)
        server.kill()
        server.start()
        record(trail, 5)
        trail.closed()
        trail.flush()
        assert names(trail) == ["1", "5"]
        unknown, counted = sealed(trail, "trail.gap")
        assert unknown.details["lost"] is None
        assert "emptied" in unknown.details["why"]
        assert counted.details["lost"] == 3
        assert counted.details["since"] < counted.details["until"]
        assert counted.outcome == "failure"
        assert trail.verify().findings == ()


def test_what_somebody_removed_from_the_stream_is_counted(path):
    with trail_at(path, new_queue()) as trail:
        record(trail, 1)
        trail.flush()
        lose(trail, 2, 3)
        record(trail, 4)
        trail.flush()
        assert names(trail) == ["1", "4"]
        (gap,) = sealed(trail, "trail.gap")
        assert gap.details["lost"] == 2


def test_an_emptied_queue_is_told_of_though_nobody_sends_any_more(path, server):
    with server.client() as client, trail_at(path, server.url) as trail:
        record(trail, 1)
        trail.flush()
        client.flushall()
        trail.flush()
        (gap,) = sealed(trail, "trail.gap")
        assert gap.details["lost"] is None
        trail.flush()
        trail.sealer.seal()
        assert len(sealed(trail, "trail.gap")) == 1


def test_a_position_that_somebody_removed_counts_nobody_as_lost(path):
    with trail_at(path, new_queue()) as trail:
        record(trail, 1, 2)
        trail.flush()
        connection = sqlite3.connect(path)
        connection.execute("DELETE FROM audit_positions")
        connection.commit()
        connection.close()
        record(trail, 3)
        trail.flush()
        assert names(trail) == ["1", "2", "3"]
        assert sealed(trail, "trail.gap") == []


def test_an_old_state_of_the_server_seals_nothing_twice_and_is_told_of(path, server):
    with trail_at(path, server.url) as trail:
        record(trail, 0)
        trail.flush()
        trail.opened()
        record(trail, 1, 2, 3)
        shutil.copy(server.folder / "appendonly.aof", server.folder / "old")
        trail.closed()
        trail.flush()
        record(trail, 4)
        trail.flush()
        assert names(trail) == ["0", "1", "2", "3", "4"]
        server.kill()
        shutil.move(server.folder / "old", server.folder / "appendonly.aof")
        server.start()
        assert len(list(trail.queue.waiting())) >= 2  # which are sealed
        trail.flush()
        record(trail, 5)
        trail.flush()
        assert names(trail) == ["0", "1", "2", "3", "4", "5"]
        assert list(trail.queue.waiting()) == []
        (gap,) = sealed(trail, "trail.gap")  # 4 was sealed before: that it is missing there is no loss
        assert gap.details["lost"] is None
        assert "has gone back" in gap.details["why"]
        assert trail.verify().findings == ()


def test_what_two_sealers_see_at_once_is_told_once(path, server, monkeypatch):
    with server.client() as client, trail_at(path, server.url) as one, trail_at(path, server.url) as other:
        record(one, 1)
        one.flush()
        client.flushall()
        take = one.queue.take_after

        def be_slow(place, limit):
            monkeypatch.undo()
            taken = take(place, limit)
            other.sealer.seal()
            return taken

        monkeypatch.setattr(one.queue, "take_after", be_slow)
        one.sealer.seal()
        assert len(sealed(one, "trail.gap")) == 1


# --- what others write there


@pytest.mark.parametrize(
    "fields",
    [{"x": "y"}, {"event": b"\xff{"}, {"event": "{}", "mark": "none"}, {"event": "x" * 100_000, "mark": b"\xff"}],
)
def test_what_is_no_event_becomes_one_that_says_so_and_holds_up_nobody(path, fields):
    with trail_at(path, new_queue()) as trail:
        with redis.Redis.from_url(trail.queue._url) as client:
            client.xadd(trail.queue._stream, fields)
        record(trail, 1)
        trail.flush()
        assert names(trail) == ["1"]
        assert len(sealed(trail, "outbox.unreadable")) == 1


# --- processes


def test_a_forked_child_counts_for_itself_and_uses_no_connection_of_its_parent(path):
    with trail_at(path, new_queue(), durable=True) as trail:
        record(trail, 1)
        if (child := os.fork()) == 0:
            try:
                record(trail, 2)
                trail.close()
            finally:
                os._exit(0)
        record(trail, 3)
        os.waitpid(child, 0)
        trail.flush()
        assert sorted(names(trail)) == ["1", "2", "3"]
        assert sealed(trail, "trail.gap") == []


# --- what is said


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://host", "redis://host:6379/0 or kafka://"),
        ("redis://host?stream=", "has a name"),
        ("redis://host:port/0", "cannot be used"),
        ("redis://user:secret@host/0?colour=blue", "cannot be used"),
        *((f"redis://:secret{sign}word@host/0", "written as %2F") for sign in "/?#[]"),
        ("kafka://host/topic?sasl.password=secret#word", "written as %2F"),
        ("kafka://:secret[word@host/topic", "written as %2F"),
    ],
)
def test_a_url_that_is_none_is_told_in_one_sentence_without_its_password(path, url, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        trail_at(path, url)
    assert "secret" not in str(caught.value)


def test_without_the_library_the_cure_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r'pip install "audit-core\[redis\]"'):
        trail_at(path, "redis://host")


def test_a_trail_in_a_bucket_has_no_place_to_keep_how_far_a_queue_was_read():
    with pytest.raises(ConfigurationError, match="leave out the queue"):
        AuditTrail("s3://bucket/audit/", outbox="memory:", queue="redis://host", create=False)


def test_a_wrong_password_keeps_an_application_from_starting(path, server):
    with server.client() as client:
        client.config_set("requirepass", "right")
    for netloc in ("", ":wrong@"):
        with pytest.raises(ConfigurationError, match="correct the URL's user and password"):
            trail_at(path, server.url.replace("//", f"//{netloc}"))
    with trail_at(path, server.url.replace("//", "//:right@")) as trail:
        assert "right" not in trail.queue.name
        record(trail, 1)
        trail.flush()
        assert names(trail) == ["1"]


def test_who_may_only_add_can_send_and_not_seal(path, server):
    with server.client() as client:
        client.execute_command("ACL SETUSER web on >web ~audit +xadd +multi +exec")
    with trail_at(path, server.url.replace("//", "//web:web@")) as trail:
        record(trail, 1)
        with server.client() as client:
            assert client.xlen("audit") == 1
        with pytest.raises(StoreUnavailableError, match="let that user do what docs/queues"):
            trail.sealer.seal()
    with trail_at(path, server.url) as trail:
        trail.flush()
        assert names(trail) == ["1"]


def test_a_key_that_holds_something_else_is_left_alone(path):
    url = new_queue()
    queue = open_queue(url)
    with redis.Redis.from_url(queue._url) as client:
        client.set(queue._stream, "somebody's")
        with pytest.raises(ConfigurationError, match="holds a string: name another one"):
            trail_at(path, url)
        assert client.get(queue._stream) == b"somebody's"
    queue.close()


def test_marks_go_with_the_events():
    queue = open_queue(new_queue())
    queue.commit([make_event(), make_event()])
    marks = queue.take_after(None, 10).marks
    assert [mark[1:] for mark in marks] == [(1, 1), (1, 2)]
    assert all(isinstance(mark, Mark) for mark in marks)
    queue.close()
    assert redis_queue.WAIT_SECONDS < 10
