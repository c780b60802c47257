"""What every outbox does, done by a topic of Kafka."""

from audit_core.testing import OutboxContract
from audit_core.urls import open_queue
from tests.queues.kafka_server import shared


class TestKafkaQueue(OutboxContract):
    def make_outbox(self, path):
        return open_queue(shared().new_queue(partitions=3))
