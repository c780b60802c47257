"""A topic of Kafka as a queue: a log that keeps what was read, until its retention ends.

How far each partition was read is kept in the store, with a hash of the last record, in the transaction that seals. No
consumer group is used: whoever holds the chain's lock assigns the partitions by hand.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any, NamedTuple

from audit_core.errors import ConfigurationError, QueueUnavailableError
from audit_core.event import AuditEvent
from audit_core.outbox import BYTES_AT_ONCE, Waiting
from audit_core.outbox.kafka_clients import KafkaPlace, keep_for_ever
from audit_core.outbox.kafka_settings import check_settings
from audit_core.outbox.queue import Loss, Mark, Numbers, OfNoTransaction, Taken
from audit_core.postgres.doctor import Check
from audit_core.process.forking import abandon_in_children
from audit_core.waiting import read_waiting

PAGE = 500
WAIT_SECONDS = 5.0  # for an answer
CHECK_SECONDS = 60.0  # how often it is looked whether the log is still the one that was read
MOMENT_SECONDS = 0.0005  # librdkafka's own waiting would keep all of gevent's greenlets
# Of a message whose sequence a broker takes for an old one: it may be there, or the broker has fallen in between.
_NOWHERE = {None, -1, -1001}
LATE = "{name}: partition {partition} does not answer in time: see the log of its broker, and how busy that is."
EXPIRED = "The topic's retention has removed them before they were sealed (partition {partition})."
ANOTHER_LOG = (
    "Partition {partition} is not the log any more that was read (it lacks the end, or was made anew): how much was "
    "lost with that nobody knows."
)
logger = logging.getLogger("audit_core")


class _Read(NamedTuple):
    """How far a partition was read, and what the last record of it was."""

    next: int
    last: int = -1
    digest: str = ""


class KafkaQueue(OfNoTransaction):
    """Events that wait in ``kafka://host:9092,other:9092/topic?option=value``, with librdkafka's options."""

    def __init__(self, url: str) -> None:
        """Nothing is opened yet. Raises ConfigurationError for a URL that is none, and without confluent-kafka."""
        self._place = KafkaPlace(url)
        self.name, self.key = self._place.name, f"kafka {self._place.topic}"
        self._numbers = Numbers()
        self._producer: Any = None
        self._partition = 0
        self._consumer: Any = None
        self._reading = threading.RLock()  # only threads of ours take from a queue
        self._removed: dict[int, _Read] = {}  # by whoever keeps no position
        self._looked = -CHECK_SECONDS
        self._offline = ""  # which partitions, as it was last logged
        abandon_in_children(self)

    # -- as an outbox ------------------------------------------------------------------------------------------

    def create(self) -> None:
        """How often a topic is replicated, and for how long it is kept, is for whoever runs Kafka to say."""
        if not self.is_created():
            raise self._place.no_topic()

    def is_created(self) -> bool:
        consumer = self._place.consumer()  # not the one that stays: a server may fork after this
        try:
            return bool(self._place.partitions(consumer))
        finally:
            consumer.close()

    def put_json(self, events: Iterable[str], connection: Any) -> None:
        """Of one process all into one partition, whose order is kept. Waits until all replicas in sync have them."""
        del connection
        texts = list(events)
        marks = self._numbers.attempt(len(texts))
        try:
            self._send(texts, marks)
        except BaseException:
            self._drop_producer()  # what it still holds must not come after what is sent next
            raise
        self._numbers.taken(len(texts))

    def take(self, limit: int, connection: Any = None) -> list[Waiting]:
        del connection
        return list(self.take_after(_as_place(self._removed), limit).waiting)

    def remove(self, ids: Sequence[Any], connection: Any = None) -> None:
        """What was read stays in the log; only whoever keeps no position has to be told."""
        del connection
        for partition, offset in ids:
            before = self._removed.get(partition, _Read(0))
            self._removed[partition] = _Read(max(before.next, offset + 1))

    def waiting(self) -> Iterator[AuditEvent]:
        return self.waiting_after(_as_place(self._removed))

    def close(self) -> None:
        self._drop_producer()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def abandon(self) -> None:
        """In a forked child: the threads of librdkafka are the parent's, and to end them here would wait for ever."""
        keep_for_ever(self._producer, self._consumer)
        self._producer = self._consumer = None
        self._reading = threading.RLock()

    # -- as a queue --------------------------------------------------------------------------------------------

    def has_news(self, place: str | None) -> bool:
        if (
            place is None or time.monotonic() - self._looked > CHECK_SECONDS
        ):  # another log may have grown to the same length
            return True
        before = _read_place(place)
        with self._reading:
            extents = self._extents(self._log())
        return any(before.get(partition, _Read(low)).next != high for partition, (low, high) in extents.items())

    def claim(self, origin: str | None) -> None:
        """Two trails that read one topic both seal all of it: nothing is lost to either."""

    def take_after(self, place: str | None, limit: int) -> Taken:
        with self._reading, self._place.explained():
            taken = self._take(self._log(), _read_place(place), limit)
        self._looked = -CHECK_SECONDS if taken.cut else time.monotonic()
        return taken

    def waiting_after(self, place: str | None) -> Iterator[AuditEvent]:
        before = _read_place(place)
        consumer = self._place.consumer()  # the sealer uses the other one
        try:
            with self._place.explained():
                while True:
                    taken = self._take(consumer, before, PAGE)
                    for waiting in taken.waiting:
                        yield read_waiting(waiting.event)
                    if not taken.cut:
                        return
                    before = _read_place(taken.place)
        finally:
            consumer.close()

    def examine(self) -> Iterator[Check]:
        with self._place.explained():
            yield from check_settings(self._place)

    # -- sending -----------------------------------------------------------------------------------------------

    def _send(self, texts: Sequence[str], marks: Sequence[Mark]) -> None:
        outcomes: list[Any] = []  # errors, or the offsets at which the messages stand
        with self._place.explained():
            producer = self._sender()
            for text, mark in zip(texts, marks, strict=True):
                producer.produce(
                    self._place.topic, text.encode(), partition=self._partition, headers={"mark": str(mark)},
                    on_delivery=lambda error, message: outcomes.append(error or message.offset()),
                )  # fmt: skip
            deadline = time.monotonic() + WAIT_SECONDS
            while len(outcomes) < len(texts) and all(map(_is_offset, outcomes)) and time.monotonic() < deadline:
                if not producer.poll(0):
                    time.sleep(MOMENT_SECONDS)
        if len(outcomes) == len(texts) and all(map(_is_offset, outcomes)):
            return
        failed = next((each for each in outcomes if not _is_offset(each)), None)
        if failed is None:
            raise QueueUnavailableError(f"{self.name} does not answer: check that its brokers run.")
        if failed in _NOWHERE:
            raise QueueUnavailableError(f"{self.name} has not said where it keeps an event: it is sent again.")
        raise self._place.explain(failed)

    def _sender(self) -> Any:
        if self._producer is None:
            producer = self._place.producer()
            partitions = self._place.partitions(producer)
            if not partitions:
                raise self._place.no_topic()
            self._partition = partitions[int(self._numbers.sender, 16) % len(partitions)]
            self._producer = producer
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.poll(0)

    # -- reading -----------------------------------------------------------------------------------------------

    def _log(self) -> Any:
        if self._consumer is None:
            self._consumer = self._place.consumer()
        return self._consumer

    def _extents(self, consumer: Any) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition that can be read just now. Raises where there is none."""
        found: dict[int, tuple[int, int]] = {}
        failed: dict[int, ConfigurationError | QueueUnavailableError] = {}
        deadline = time.monotonic() + WAIT_SECONDS
        for partition in self._place.partitions(consumer):
            try:
                with self._place.explained():
                    found[partition] = self._place.extent(consumer, partition, WAIT_SECONDS)
            except QueueUnavailableError as error:
                failed[partition] = error
                if not found and time.monotonic() > deadline:
                    break  # the others would not answer either
        if not found:
            raise next(iter(failed.values()), self._place.no_topic())
        offline = ", ".join(map(str, failed))
        if offline and offline != self._offline:
            logger.warning("%s: partitions %s cannot be read, what waits there is not sealed.", self.name, offline)
        self._offline = offline
        return found

    def _take(self, consumer: Any, before: Mapping[int, _Read], limit: int) -> Taken:
        extents = self._extents(consumer)
        losses: list[Loss] = []
        reads: dict[int, _Read] = {}
        for partition, (low, _) in extents.items():
            read = before.get(partition, _Read(low))
            if read.next < low:
                losses.append(Loss(low - read.next, EXPIRED.format(partition=partition)))
                read = _Read(low)
            reads[partition] = read if low <= read.last else _Read(read.next)
        look = self._look(consumer, reads, extents, limit)
        if look.strange:
            losses += [Loss(None, ANOTHER_LOG.format(partition=partition)) for partition in look.strange]
            reads |= {partition: _Read(extents[partition][0]) for partition in look.strange}
            look = self._look(consumer, reads, extents, limit)
        place = _as_place({**before, **look.reads})
        is_whole = all(low == 0 for low, _ in extents.values())
        return Taken(look.waiting, look.marks, place, losses, cut=look.cut, is_whole=is_whole)

    def _look(
        self, consumer: Any, reads: Mapping[int, _Read], extents: Mapping[int, tuple[int, int]], limit: int
    ) -> _Look:
        """From the last record that was read on, to see whether it is still that one."""
        look = _Look(reads, limit)
        with _assigned(consumer, self._place, {p: r.last if r.last >= 0 else r.next for p, r in reads.items()}):
            deadline = time.monotonic() + WAIT_SECONDS  # of all of it: the chain's lock is held
            while look.open and not look.cut and time.monotonic() < deadline:
                messages = consumer.consume(PAGE, 0)
                if not messages:
                    time.sleep(MOMENT_SECONDS)
                for message in messages:
                    look.add(message, self._place)
        for partition in look.unchecked:
            if extents[partition][1] > reads[partition].last:
                raise QueueUnavailableError(LATE.format(name=self.name, partition=partition))
            look.strange.append(partition)
        look.late = any(extents[partition][1] > look.reads[partition].next for partition in look.open)
        if look.late and not look.waiting:  # a look that finds nothing must not pass for the end
            raise QueueUnavailableError(LATE.format(name=self.name, partition=min(look.open)))
        return look


class _Look:
    """What one look has found."""

    def __init__(self, reads: Mapping[int, _Read], limit: int) -> None:
        self.reads, self._limit = dict(reads), limit
        self.open = set(reads)  # partitions whose end was not seen
        self.unchecked = {partition for partition, read in reads.items() if read.last >= 0}
        self.strange: list[int] = []
        self.late = False  # whether somebody did not answer in time
        self.waiting: list[Waiting] = []
        self.marks: list[Mark | None] = []
        self._size = 0

    @property
    def cut(self) -> bool:
        """Whether there may be more."""
        return self.late or len(self.waiting) >= self._limit or self._size >= BYTES_AT_ONCE

    def add(self, message: Any, place: KafkaPlace) -> None:
        """Take what has come; what is behind the limit comes again."""
        partition = message.partition()
        if (error := message.error()) is not None:
            if place.is_end(error):
                self._end(partition, message.offset())
            elif place.is_out_of_range(error):
                self._end(partition, -1)
            else:
                raise place.explain(error)
        elif partition in self.unchecked:
            self.unchecked.discard(partition)
            read = self.reads[partition]
            if (message.offset(), _digest(message)) != (read.last, read.digest):
                self.strange.append(partition)
                self.open.discard(partition)
        elif partition not in self.strange and not self.cut:
            self._keep(message)

    def _end(self, partition: int, offset: int) -> None:
        self.open.discard(partition)
        if partition in self.unchecked:
            self.unchecked.discard(partition)
            self.strange.append(partition)
        elif partition not in self.strange and offset > self.reads[partition].next and not self.cut:
            self.reads[partition] = self.reads[partition]._replace(next=offset)

    def _keep(self, message: Any) -> None:
        value = message.value() or b""
        self._size += len(value)
        self.waiting.append(Waiting((message.partition(), message.offset()), value.decode("utf-8", "surrogateescape")))
        mark = dict(message.headers() or ()).get("mark") or b""
        self.marks.append(Mark.parse(mark.decode("ascii", "replace")))
        self.reads[message.partition()] = _Read(message.offset() + 1, message.offset(), _digest(message))


@contextmanager
def _assigned(consumer: Any, place: KafkaPlace, offsets: Mapping[int, int]) -> Iterator[None]:
    consumer.assign(place.at(offsets))
    try:
        yield
    finally:
        consumer.unassign()


def _is_offset(outcome: Any) -> bool:
    return isinstance(outcome, int) and outcome >= 0


def _digest(message: Any) -> str:
    return sha256(message.value() or b"").hexdigest()[:16]


def _as_place(reads: Mapping[int, _Read]) -> str:
    return json.dumps({str(partition): list(read) for partition, read in sorted(reads.items())})


def _read_place(place: str | None) -> dict[int, _Read]:
    """What somebody has changed in the database says nothing."""
    try:
        found = json.loads(place or "{}")
        reads = {int(p): _Read(int(n), int(last), str(digest)) for p, (n, last, digest) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}
    return {partition: read for partition, read in reads.items() if read.next >= 0}
