"""A trail whose requests wait in Kafka: its position is kept with the events, and what the log has lost is told."""

import json
import os
import sys

import pytest
from confluent_kafka import Producer

from audit_core import AuditTrail
from audit_core.cli import main
from audit_core.errors import ConfigurationError, QueueUnavailableError
from audit_core.outbox.kafka_settings import check_topic
from audit_core.testing.making import make_event
from tests.queues.kafka_server import Broker, shared


@pytest.fixture
def broker(monkeypatch):
    monkeypatch.setattr("audit_core.outbox.kafka.WAIT_SECONDS", 1.0)
    broker = Broker()
    yield broker
    broker.stop()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def trail_at(path, queue, **settings):
    return AuditTrail(f"sqlite:///{path}", queue=queue, lifecycle=False, **settings)


def sealed(trail, action=None):
    return sorted((event for event in trail.events(action=action) if event.sealed), key=lambda event: event.sequence)


def names(trail):
    return [event.resource_id for event in sealed(trail, "a.b")]


def gaps(trail):
    return [event.details["lost"] for event in sealed(trail, "trail.gap")]


def let_a_minute_pass(trail):
    """The wheel's broker counts a batch as one event where it is asked for the end of its log."""
    trail.queue._looked -= 61
    trail.flush()


def record(trail, *numbers):
    for number in numbers:
        trail.record("a.b", resource=("n", str(number)))


def test_what_belongs_to_no_transaction_waits_in_the_topic_and_is_sealed_from_there(path):
    with trail_at(path, shared().new_queue(3)) as trail:
        trail.opened()
        record(trail, 1, 2)
        assert [event.resource_id for event in trail.waiting()] == ["1", "2"]
        trail.closed()
        trail.flush()
        assert names(trail) == ["1", "2"]
        assert list(trail.waiting()) == []
        assert trail.verify().findings == ()
        assert gaps(trail) == []


def test_the_position_is_kept_with_the_events_and_nothing_is_sealed_twice_after_a_crash(path, monkeypatch):
    url = shared().new_queue(3)
    with trail_at(path, url) as trail:
        record(trail, 1, 2)
        trail.flush()
        trail.queue.commit([make_event(action="a.b", resource_id="3")])
        keep = trail.store.keep_positions

        def fail(*arguments):
            keep(*arguments)
            raise QueueUnavailableError("the process died here")

        monkeypatch.setattr(trail.store, "keep_positions", fail)
        with pytest.raises(QueueUnavailableError, match="died here"):
            trail.sealer.seal()
        assert names(trail) == ["1", "2"]
        monkeypatch.undo()
    with trail_at(path, url) as trail, trail_at(path, url) as other:
        other.sealer.seal()
        record(trail, 4)
        trail.flush()
        other.sealer.seal()
        assert names(trail) == ["1", "2", "3", "4"]
        assert gaps(trail) == []
        assert sum(read[0] for read in json.loads(trail.sealer.drain.place()).values()) == 4


def test_an_event_that_was_sent_twice_is_sealed_once(path):
    with trail_at(path, shared().new_queue(3)) as trail:
        event = make_event(action="a.b", resource_id="1")
        trail.queue.commit([event])
        trail.queue._numbers._taken -= 1  # its answer was lost
        trail.queue.commit([event, make_event(action="a.b", resource_id="2")])
        trail.sealer.seal()
        assert names(trail) == ["1", "2"]
        assert gaps(trail) == []


class OldOnes:
    """A producer whose broker takes a message's sequence for one that it has had: to librdkafka that is success."""

    def __init__(self, producer, offset):
        self._producer, self._offset = producer, offset

    def produce(self, *_, on_delivery, **__):
        on_delivery(None, self)

    def offset(self):
        return self._offset

    def __getattr__(self, name):
        return getattr(self._producer, name)


@pytest.mark.parametrize("nowhere", [-1001, -1, None])
def test_a_success_that_names_no_offset_is_none(path, monkeypatch, nowhere):
    with trail_at(path, shared().new_queue()) as trail:
        record(trail, 1)
        real = trail.queue._place.producer

        def broken():
            monkeypatch.setattr(trail.queue._place, "producer", real)
            return OldOnes(real(), nowhere)

        trail.queue._drop_producer()
        monkeypatch.setattr(trail.queue._place, "producer", broken)
        record(trail, 2)
        record(trail, 3)
        trail.flush()
        assert names(trail) == ["1", "2", "3"]
        assert gaps(trail) == []


def test_a_broker_that_lost_its_log_is_told_of_and_what_is_known_of_the_loss(path, broker):
    url = broker.new_queue(topic="clinic")
    with trail_at(path, url) as trail:
        record(trail, 1)
        trail.flush()
        trail.opened()  # so that nothing is sealed meanwhile
        record(trail, 2, 3)
        broker.kill()
        record(trail, 4)  # waits in the spill file
        broker.start()
        broker.new_queue(topic="clinic")
        trail.closed()
        trail.flush()
        record(trail, 5)
        let_a_minute_pass(trail)
        assert names(trail) == ["1", "4", "5"]
        assert sorted(map(str, gaps(trail))) == ["2", "None"]
        assert trail.verify().findings == ()
        assert trail.counters()["lost"] == 0


def test_a_topic_that_was_made_anew_is_noticed_however_long_it_is_by_now(path, broker):
    url = broker.new_queue(topic="clinic")
    with trail_at(path, url) as trail:
        record(trail, 1)
        trail.flush()
        broker.kill()
        broker.start()
        broker.new_queue(topic="clinic")
        record(trail, 2, 3, 4)
        let_a_minute_pass(trail)
        assert names(trail) == ["1", "2", "3", "4"]
        assert gaps(trail) == [None]


def test_what_the_retention_removed_before_it_was_sealed_is_counted(path, broker):
    url = broker.new_queue(topic="clinic")
    with trail_at(path, url) as trail:
        record(trail, 1)
        trail.flush()
        trail.queue.commit([make_event(action="a.b", resource_id=str(n)) for n in (2, 3)])
        extent = trail.queue._place.extent
        trail.queue._place.extent = lambda *arguments: (3, max(3, extent(*arguments)[1]))
        trail.queue.commit([make_event(action="a.b", resource_id="4")])
        trail.sealer.seal()
        assert names(trail) == ["1", "4"]
        assert gaps(trail)[0] == 2
        assert "retention" in sealed(trail, "trail.gap")[0].details["why"]


def test_what_is_no_event_becomes_one_that_says_so_and_holds_up_nobody(path):
    url = shared().new_queue()
    producer = Producer({"bootstrap.servers": shared().host})
    for value, headers in [(b"\xff{", None), (None, {"mark": b"\xff"}), (b"{}", {"mark": "x"})]:
        producer.produce(url.rpartition("/")[2], value, headers=headers)
    producer.flush(10)
    with trail_at(path, url) as trail:
        record(trail, 1)
        trail.flush()
        assert names(trail) == ["1"]
        assert len(sealed(trail, "outbox.unreadable")) == 3


def test_a_forked_child_sends_for_itself_and_ends(path):
    with trail_at(path, shared().new_queue()) as trail:
        record(trail, 1)
        if (child := os.fork()) == 0:
            try:
                record(trail, 2)
                trail.close()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        record(trail, 3)
        trail.flush()
        assert sorted(names(trail)) == ["1", "2", "3"]
        assert gaps(trail) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://host", "The URL of a queue in Kafka is kafka://host:9092/topic"),
        ("kafka:///topic", "The URL of a queue in Kafka is kafka://host:9092/topic"),
        ("kafka://user:secret@host/topic?colour=blue", "cannot be used .*colour"),
    ],
)
def test_a_url_that_is_none_is_told_in_one_sentence_without_its_password(path, url, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        trail_at(path, url)
    assert "secret" not in str(caught.value)


def test_a_topic_that_there_is_not_is_told_with_its_cure(path):
    with pytest.raises(ConfigurationError, match="there is no such topic: correct the URL, or have it made"):
        trail_at(path, f"kafka://{shared().host}/nothing")


def test_without_the_library_the_cure_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigurationError, match=r'pip install "audit-core\[kafka\]"'):
        trail_at(path, "kafka://host/topic")


GOOD = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "retention.ms": "604800000"}


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (GOOD, None),
        (GOOD | {"min.insync.replicas": "1"}, "min.insync.replicas 1"),
        (GOOD | {"unclean.leader.election.enable": "true"}, "a broker that lacks events may lead"),
        (GOOD | {"retention.ms": "3600000"}, "less than a day"),
        (GOOD | {"retention.bytes": "1000000"}, "keeps 1,000,000 bytes"),
        (GOOD | {"retention.ms": "-1"}, None),
    ],
)
def test_doctor_says_which_settings_of_a_topic_lose_events(settings, wrong):
    found = [check.text for check in check_topic(settings) if not check.holds]
    assert len(found) == (wrong is not None)
    assert wrong is None or wrong in found[0]


def test_doctor_asks_the_brokers(path, capsys):
    words = ["--url", f"sqlite:///{path}", "--queue", shared().new_queue()]
    assert main([*words, "init"]) == 0
    assert main([*words, "doctor"]) == 1
    assert "WRONG the topic lies on one broker only" in capsys.readouterr().out


def test_a_partition_that_is_away_holds_up_no_other_one(path, monkeypatch):
    with trail_at(path, shared().new_queue(3)) as trail:
        record(trail, 1)
        mine, extent = trail.queue._partition, trail.queue._place.extent

        def fail(consumer, partition, timeout):
            if partition != mine:
                raise QueueUnavailableError("its leader is away")
            return extent(consumer, partition, timeout)

        monkeypatch.setattr(trail.queue._place, "extent", fail)
        trail.flush()
        assert names(trail) == ["1"]
