"""Signal handlers that record, flush, close and end the process, whatever they interrupt."""

import pytest

from audit_core.trail import AuditTrail
from tests.crash.test_processes import start
from tests.postgres.server import new_database

BEGIN = """
    import faulthandler, itertools, random, signal, sys, threading, time
    from audit_core import AuditTrail
    faulthandler.dump_traceback_later(40, exit=True)
    url, chance = sys.argv[1], random.Random(sys.argv[2])
"""

INTERRUPTED = (
    BEGIN
    + """
    counts = {"in.loop": 0, "in.handler": 0}

    def record(action):
        trail.record(action)
        counts[action] += 1

    def handle(*_):
        chance.choice([lambda: record("in.handler")] * 6 + [trail.flush, trail.close])()
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004))

    signal.signal(signal.SIGALRM, handle)
    trail = AuditTrail(url)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends:
        trail.opened()
        trail.closed()
        chance.choice([lambda: record("in.loop")] * 20 + [trail.flush, trail.close])()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    trail.close()
    print(counts["in.loop"], counts["in.handler"])
"""
)

RUNS = 4
STOPPED = (
    BEGIN
    + """
    import gc
    gc.disable()  # Python drops what a handler raises where it interrupts the callback of a weak reference

    def handle(*_):
        at_the_end()
        sys.exit(0)

    trail = AuditTrail(url, durable=chance.random() < 0.3)
    at_the_end = {"exit": lambda: None, "record": lambda: trail.submit("a.c").result(), "close": trail.close}[
        sys.argv[3]
    ]
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.06))
    for number in itertools.count():
        trail.opened()
        trail.record("a.b", resource=("n", number))
        trail.closed()
        if number % 50 == 49:
            chance.choice([trail.flush, trail.close])()
"""
)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    url = f"sqlite:///{tmp_path}/clinic.db" if request.param == "sqlite" else new_database()
    AuditTrail(url).close()
    return url


def read(url):
    with AuditTrail(url, lifecycle=False) as trail:
        trail.flush()
        assert trail.chain.verify().findings == ()
        return sorted(trail.events(), key=lambda event: event.sequence)


def run(code, *arguments):
    """What it prints; it must come to its end by itself."""
    process = start(code, *arguments)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return output


@pytest.mark.parametrize("seed", range(2))
def test_a_handler_may_record_flush_and_close_whatever_it_interrupts(url, seed):
    in_loop, in_handler = map(int, run(INTERRUPTED, url, seed).split())
    actions = [event.action for event in read(url)]
    assert (actions.count("in.loop"), actions.count("in.handler")) == (in_loop, in_handler)
    assert in_handler > 20


@pytest.mark.parametrize("at_the_end", ["exit", "record", "close"])
def test_a_handler_may_end_the_process_and_nothing_is_lost(url, at_the_end):
    for seed in range(RUNS):
        run(STOPPED, url, seed, at_the_end)
    events = read(url)
    names = [int(event.resource_id) for event in events if event.resource_type == "n"]
    starts = [position for position, name in enumerate(names) if name == 0]
    for begin, end in zip(starts, [*starts[1:], len(names)], strict=True):
        assert names[begin:end] == list(range(end - begin))
    assert sum(event.action == "a.c" for event in events) == (RUNS if at_the_end == "record" else 0)
