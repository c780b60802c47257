"""The long form: 100,000 events of eight processes into each queue, while everybody is killed."""

import os
import tempfile
from pathlib import Path

from tests.queues.kafka_server import Broker
from tests.queues.redis_server import Server
from tests.queues.torture import EVERYBODY, Round


class CutOff(Server):
    """A Redis whose machine falls: what was not written to the disk in the last moment is gone from its file."""

    def kill(self):
        super().kill()
        file = self.folder / "appendonly.aof"
        os.truncate(file, max(0, file.stat().st_size - 100_000))


class UnlikeError(Exception):
    """Something else has happened than the documentation says."""


def redis_always():
    return Server("--appendfsync", "always")


def redis_everysec():
    return CutOff("--appendfsync", "everysec")


def redis_without_a_file():
    return Server("--appendonly", "no")


def kafka_on_a_disk():
    """A broker that keeps its log in a bucket."""
    from tests.s3 import server as s3

    url, bucket = s3.shared(), f"kafka-{os.urandom(4).hex()}"
    s3.client().create_bucket(Bucket=bucket)
    return Broker(f"s3://{bucket}/", AWS_ENDPOINT=url, AWS_ALLOW_HTTP="true")


def kafka_in_memory():
    return Broker()


# Whether it may lose something. Where it does, no process that sends is killed: it would not go on, and be counted.
KINDS = {
    "redis, appendfsync always": (redis_always, False),
    "redis, appendfsync everysec, its machine falls": (redis_everysec, True),
    "redis, no append-only file": (redis_without_a_file, True),
    "kafka, on a disk": (kafka_on_a_disk, False),
    "kafka, in memory": (kafka_in_memory, True),
}


def play(kind, folder, *, events, processes):
    make, may_lose = KINDS[kind]
    broker = make()
    queue = broker.new_queue(4, "audit") if isinstance(broker, Broker) else broker.url
    kill = ("both",) if may_lose else EVERYBODY
    found = Round(queue, broker, folder, events=events, processes=processes, kill=kill).play(2.0)
    broker.stop()
    print(f"{kind}: {found}", flush=True)
    if found.lost != found.counted or bool(found.lost) != may_lose:
        raise UnlikeError(f"{kind}: {found}")
    return found


def play_all(events, kinds=tuple(KINDS)):
    """Each kind in turn."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["AUDIT_STATE_DIR"] = folder
            play(kind, Path(folder), events=events, processes=8)
