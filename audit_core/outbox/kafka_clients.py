"""Where a topic of Kafka is, the clients that reach it, and their errors in one sentence with the cure."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote

from audit_core.errors import ConfigurationError, QueueUnavailableError
from audit_core.extras import lacking
from audit_core.outbox.queue import split_url

EXAMPLE = "kafka://host:9092/topic"
WAIT_SECONDS = 5.0  # for the list of partitions
FETCHED_AT_ONCE = 1_000_000  # bytes: a broker that gathers more may take longer than anybody waits
_MAKE_TOPIC = (
    "{name}: there is no such topic: correct the URL, or have it made (kafka-topics.sh --create --topic {topic} "
    "--replication-factor 3 --config min.insync.replicas=2)."
)


class KafkaPlace:
    """Which brokers, which topic, and what else librdkafka is told."""

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError for a URL that is none, for an unknown option, and without confluent-kafka."""
        _require_confluent()
        parts = split_url(url)
        self.topic = unquote(parts.path.strip("/"))
        hosts = parts.netloc.rpartition("@")[2]
        if not hosts or not self.topic or "/" in self.topic:
            raise ConfigurationError(f"The URL of a queue in Kafka is {EXAMPLE}.")
        self.name = f"kafka://{hosts}/{self.topic}"
        self._options: dict[str, Any] = {
            **_login(parts.netloc),
            **dict(parse_qsl(parts.query)),
            "bootstrap.servers": hosts,
        }
        self._options |= {"client.id": "audit-core", "log_level": 0, "error_cb": self._note}
        self._noted: Any = None  # what a client has heard in the background, such as a wrong password
        self.consumer().close()  # knows whether the options are ones

    def producer(self) -> Any:
        """One that sends each message once, and hears that all replicas in sync have it."""
        import confluent_kafka

        ours = {"enable.idempotence": True, "acks": "all", "linger.ms": 1, "message.timeout.ms": 10_000}
        return self._make(confluent_kafka.Producer, ours)

    def consumer(self) -> Any:
        """One that commits nothing, and belongs to no group that anybody else is in."""
        import confluent_kafka

        ours = {
            "group.id": "audit-core", "enable.auto.commit": False, "auto.offset.reset": "error",
            "enable.partition.eof": True, "fetch.wait.max.ms": 20, "fetch.max.bytes": FETCHED_AT_ONCE,
        }  # fmt: skip
        return self._make(confluent_kafka.Consumer, ours)

    def admin(self) -> Any:
        """For ``audit doctor``."""
        from confluent_kafka.admin import AdminClient

        return self._make(AdminClient, {})

    def partitions(self, client: Any) -> list[int]:
        """Their numbers; none where there is no such topic. Raises QueueUnavailableError, ConfigurationError."""
        import confluent_kafka

        with self.explained():
            found = client.list_topics(self.topic, timeout=WAIT_SECONDS).topics.get(self.topic)
            if found is None or (
                found.error and found.error.code() == confluent_kafka.KafkaError.UNKNOWN_TOPIC_OR_PART
            ):
                return []
            if found.error:
                raise confluent_kafka.KafkaException(found.error)
        return sorted(found.partitions)

    def extent(self, consumer: Any, partition: int, timeout: float) -> tuple[int, int]:
        """The first offset that is there, and the one that the next record will have."""
        import confluent_kafka

        place = confluent_kafka.TopicPartition(self.topic, partition)
        low, high = consumer.get_watermark_offsets(place, timeout=timeout) or (0, 0)
        return low, high

    def at(self, offsets: Mapping[int, int]) -> list[Any]:
        """Partitions with their offsets, as a consumer takes them."""
        import confluent_kafka

        return [confluent_kafka.TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]

    def is_end(self, error: Any) -> bool:
        """Whether it only says that there is no more."""
        return bool(error.code() == type(error)._PARTITION_EOF)

    def is_out_of_range(self, error: Any) -> bool:
        """Whether the offset that was asked for is not there."""
        return error.code() in {type(error)._AUTO_OFFSET_RESET, type(error).OFFSET_OUT_OF_RANGE}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Give Kafka's errors one sentence with the cure."""
        import confluent_kafka

        try:
            yield
        except confluent_kafka.KafkaException as error:
            raise self.explain(error.args[0]) from error
        except BufferError as error:
            raise QueueUnavailableError(f"{self.name}: more events wait to be sent than there is room for.") from error

    def explain(self, error: Any) -> ConfigurationError | QueueUnavailableError:
        """What to raise for it."""
        from confluent_kafka import KafkaError as Code

        refused = {
            Code._AUTHENTICATION, Code.SASL_AUTHENTICATION_FAILED, Code.TOPIC_AUTHORIZATION_FAILED,
            Code.CLUSTER_AUTHORIZATION_FAILED, Code.GROUP_AUTHORIZATION_FAILED,
        }  # fmt: skip
        noted, self._noted = self._noted, None
        if noted is not None and noted.code() in refused:
            error = noted
        code, text = error.code(), error.str().rstrip(".")
        if code in refused:
            return ConfigurationError(
                f"{self.name}: {text}: correct the URL's user and password, or let that user do what "
                "docs/queues.md lists."
            )
        if code in {Code.UNKNOWN_TOPIC_OR_PART, Code._UNKNOWN_TOPIC}:
            return self.no_topic()
        cure = "see the log of the brokers"
        if code in {Code._TRANSPORT, Code._ALL_BROKERS_DOWN, Code._TIMED_OUT, Code._MSG_TIMED_OUT, Code._RESOLVE}:
            cure = "check that its brokers run, and the URL's hosts and ports"
        elif code in {Code.NOT_ENOUGH_REPLICAS, Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND}:
            cure = "fewer replicas are in sync than min.insync.replicas asks for"
        return QueueUnavailableError(f"{self.name}: {text}: {cure}.")

    def no_topic(self) -> ConfigurationError:
        """What to raise where there is none."""
        return ConfigurationError(_MAKE_TOPIC.format(name=self.name, topic=self.topic))

    def _make(self, kind: Any, ours: Mapping[str, Any]) -> Any:
        import confluent_kafka

        try:
            return kind({**self._options, **ours})
        except confluent_kafka.KafkaException as error:
            raise ConfigurationError(
                f"The URL of the queue {self.name} cannot be used ({error.args[0].str()}): it is {EXAMPLE}"
                "?option=value, with options of librdkafka."
            ) from None

    def _note(self, error: Any) -> None:
        self._noted = error


def keep_for_ever(*clients: Any) -> None:
    """Of a parent process: to end one in a forked child would wait for threads that are not there."""
    for client in clients:
        if client is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def _login(netloc: str) -> dict[str, str]:
    """What a user and a password in the URL mean, unless its options say otherwise."""
    user, _, password = netloc.rpartition("@")[0].partition(":")
    if not user:
        return {}
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": unquote(user),
        "sasl.password": unquote(password),
    }


def _require_confluent() -> None:
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        raise ConfigurationError(lacking("A queue in Kafka", "confluent-kafka", "kafka")) from None
