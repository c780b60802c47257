"""Which settings of a topic can lose events that wait in it: for ``audit doctor``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audit_core.outbox.kafka_clients import WAIT_SECONDS, KafkaPlace
from audit_core.postgres.doctor import Check

DAY_MILLISECONDS = 86_400_000


def check_settings(place: KafkaPlace) -> Iterator[Check]:
    """Each setting in turn. Raises what the client raises when the brokers cannot be asked."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    admin = place.admin()
    if not place.partitions(admin):
        raise place.no_topic()
    found = admin.list_topics(place.topic, timeout=WAIT_SECONDS).topics[place.topic].partitions.values()
    yield _replicas(min(len(partition.replicas) for partition in found))
    try:
        (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, place.topic)]).values()
        settings = {name: entry.value for name, entry in answer.result(WAIT_SECONDS).items()}
    except KafkaException:
        settings = {}
    yield from check_topic(settings)


def check_topic(settings: Mapping[str, Any]) -> Iterator[Check]:
    """What the settings of the topic say."""
    if "min.insync.replicas" not in settings:
        text = "not tried: the settings of the topic, which the brokers do not tell this user"
        yield Check(holds=True, is_note=True, text=text)
        return
    if int(settings["min.insync.replicas"]) < 2:
        text = "an event is acknowledged when one broker has it (min.insync.replicas 1): set it to 2"
        yield Check(holds=False, text=text)
    else:
        yield Check(holds=True, text="an event is acknowledged when two brokers or more have it (min.insync.replicas)")
    if str(settings.get("unclean.leader.election.enable", "false")) == "true":
        text = "a broker that lacks events may lead (unclean.leader.election.enable): set it to false"
        yield Check(holds=False, text=text)
    yield _retention(int(settings.get("retention.ms", -1)), int(settings.get("retention.bytes", -1)))


def _replicas(count: int) -> Check:
    if count < 2:
        return Check(holds=False, text="the topic lies on one broker only: whoever loses that loses what waits in it")
    return Check(holds=True, text=f"the topic lies on {count} brokers")


def _retention(milliseconds: int, size: int) -> Check:
    if size >= 0:
        text = f"the topic keeps {size:,} bytes, sealed or not (retention.bytes): set it to -1"
        return Check(holds=False, text=text)
    if 0 <= milliseconds < DAY_MILLISECONDS:
        text = "the topic keeps events for less than a day, sealed or not (retention.ms): keep them for a week"
        return Check(holds=False, text=text)
    return Check(holds=True, text="the topic keeps events for a day or longer")
