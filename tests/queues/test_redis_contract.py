"""What every outbox does, done by a stream of Redis."""

from audit_core.testing import OutboxContract
from audit_core.urls import open_queue
from tests.queues.redis_server import new_queue


class TestRedisQueue(OutboxContract):
    def make_outbox(self, path):
        return open_queue(new_queue())
