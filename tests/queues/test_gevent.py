"""Under gevent the writer and the sealer are greenlets, and a queue must not stop all the others."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.queues import kafka_server, redis_server

PROGRAM = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, sys, time
    from audit_core import AuditTrail

    longest = 0.0
    def watch():
        global longest
        last = time.monotonic()
        while True:
            time.sleep(0.001)
            now = time.monotonic()
            longest, last = max(longest, now - last), now

    with AuditTrail(f"sqlite:///{sys.argv[1]}", queue=sys.argv[2], lifecycle=False) as trail:
        gevent.spawn(watch)
        gevent.joinall([gevent.spawn(trail.record, "a.b", resource=("n", str(n))) for n in range(50)], timeout=20)
        trail.flush()
        sealed = [event for event in trail.events(action="a.b") if event.sealed]
    print(len(sealed), longest < 2)
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "kafka"])
def test_greenlets_go_on_while_a_queue_takes_and_gives(kind, tmp_path):
    url = redis_server.new_queue() if kind == "redis" else kafka_server.shared().new_queue(3)
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path / "clinic.db"), url]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=100, check=False, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "50 True\n", done.stderr
