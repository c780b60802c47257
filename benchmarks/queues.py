"""Events a second into each queue, and from it into the chain, beside the outbox of the same PostgreSQL.

python -m benchmarks.queues [--events 10000] [--rounds 5]

In each round every kind takes its turn: single events, each waited for; groups of fifty; then all of them are sealed.
Printed are the medians of the rounds, as shares of the outbox's in the same round, and the outbox's own.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from audit_core import AuditEvent, AuditTrail
from audit_core.testing import make_event
from tests.postgres.server import Server as Postgres
from tests.queues.kafka_server import Broker
from tests.queues.redis_server import Server as Redis

SINGLE = 200
GROUP = 50
PARTS = ("single", "groups of 50", "sealed", "CPU to send, groups", "CPU to seal")


def events(count: int) -> list[AuditEvent]:
    details = {"changes": {"diagnosis": {"old": "J06.9", "new": "J20.9"}}, "ward": "north"}
    return [
        make_event(n, actor_id="42", resource_type="patient", resource_id=str(n), details=details) for n in range(count)
    ]


def rate(count: int, work: Callable[[], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - began), count / (time.process_time() - cpu)


def play(trail: AuditTrail, count: int) -> tuple[float, ...]:
    singles, many = events(SINGLE), events(count)
    single, _ = rate(SINGLE, lambda: [trail.sealer.deliver([each]) for each in singles])
    groups, sending = rate(count, lambda: [trail.sealer.deliver(many[n : n + GROUP]) for n in range(0, count, GROUP)])
    sealed, sealing = rate(SINGLE + count, trail.sealer.seal)
    return single, groups, sealed, sending, sealing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["AUDIT_STATE_DIR"] = tempfile.mkdtemp()
    database, broker = Postgres(18), Broker()
    servers = {
        "outbox": None,
        "redis, everysec": Redis("--appendfsync", "everysec"),
        "redis, always": Redis("--appendfsync", "always"),
    }
    queues = {name: server and server.url for name, server in servers.items()}
    queues["kafka, in memory"] = broker.new_queue(1)
    trail = {}
    for number, (name, queue) in enumerate(queues.items()):
        schema = f"{database.url}{'&' if '?' in database.url else '?'}schema=audit_{number}"
        trail[name] = AuditTrail(schema, queue=queue, lifecycle=False)
    found = [{name: play(trail[name], options.events) for name in queues} for _ in range(options.rounds + 1)][1:]
    for place, part in enumerate(PARTS):
        own = statistics.median(each["outbox"][place] for each in found)
        shares = [
            f"{name} {statistics.median(each[name][place] / each['outbox'][place] for each in found):.2f}"
            for name in list(queues)[1:]
        ]
        print(f"{part:<20} outbox {own:>8,.0f}/s   {'   '.join(shares)}", flush=True)
    for each in trail.values():
        each.close()
    for server in [database, broker, *filter(None, servers.values())]:
        server.stop()


if __name__ == "__main__":
    main()
