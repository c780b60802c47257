"""The long forms of the tests: `scripts/soak` runs them, and docs/soak.md has what they found.

python -m tests.soak torture [--minutes 60]     on each version of PostgreSQL in turn, under each isolation level
python -m tests.soak interleavings              every order of two transactions and the sealer
python -m tests.soak growth [--events 10000000]
python -m tests.soak hostile [--minutes 60]     raw HTTP and WebSocket frames of attackers, with an audit and without
python -m tests.soak queues [--events 100000]   into each queue, while who sends, who seals and who keeps is killed
python -m tests.soak schemas [--examples 200]   the example applications by their schema, with an audit and without
python -m tests.soak suites                     the own tests of SQLAlchemy, Starlette, FastAPI, Flask and Django
python -m tests.soak requests [--requests 10000] [--clients 100]      under each server, on both databases
python -m tests.soak streams [--mebibytes 1024]                       down and up, under each server
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.hostile import sockets
from tests.hostile.differential import fuzz, paired
from tests.hostile.sites import SITES
from tests.postgres import interleavings, torture
from tests.postgres.server import VERSIONS, Server, new_database
from tests.queues import soak as queues
from tests.servers import soak as servers
from tests.suites import trial

ROUND_SECONDS = 120
ATTACKS = 500  # on one application, before the next has its turn
ISOLATION = ("read committed", "repeatable read", "serializable")


def torture_for(minutes):
    """Rounds of two minutes until the time is up; the server falls in the middle of each."""
    ends = time.monotonic() + 60 * minutes
    total = 0
    for version, isolation in itertools.cycle(itertools.product(VERSIONS, ISOLATION)):
        if time.monotonic() >= ends:
            break
        server = Server(version)
        try:
            seconds = min(ROUND_SECONDS, max(10, ends - time.monotonic()))
            count = torture.play(server, isolation, Path(os.environ["AUDIT_STATE_DIR"]), seconds)
        finally:
            server.stop()
        total += count
        print(f"PostgreSQL {version}, {isolation}: {count:,} committed events, each sealed once, in order", flush=True)
    print(f"{total:,} events in all")


def interleave():
    """Every order, on each version; 280 of them, and the sealer between the steps as chance has it."""
    for version in VERSIONS:
        count = interleavings.play(new_database(version))
        print(f"PostgreSQL {version}: {count} orders of two transactions, nobody waited, all sealed once", flush=True)


def besiege(minutes, folder):
    """Each application in turn, until the time is up."""
    ends, sent, events = time.monotonic() + 60 * minutes, Counter(), Counter()
    for number, name in enumerate(itertools.cycle(SITES)):
        if time.monotonic() >= ends:
            break
        place = folder / str(number)
        place.mkdir()
        with paired(name, place) as pair:
            fuzz(pair, ATTACKS, repeatable=False)
        sent[name] += pair.sent
        events[name] += pair.events.total()
        shutil.rmtree(place)
        print(f"{name}: {pair.sent:,} attacks, {pair.events.total():,} requests that arrived and their events")
    for name in sent:
        print(f"{name}: {sent[name]:,} attacks answered as without us, {events[name]:,} events in all", flush=True)


def besiege_sockets(minutes):
    """Each server that speaks WebSocket in turn, until the time is up."""
    ends, sent, arrived = time.monotonic() + 60 * minutes, Counter(), Counter()
    for name in itertools.cycle(sockets.SITES | sockets.SLOW):
        if time.monotonic() >= ends:
            break
        with sockets.paired(name) as pair:
            sockets.fuzz(pair, ATTACKS, repeatable=False)
        sent[name] += pair.sent
        arrived[name] += pair.arrived.total()
        print(f"{name}: {pair.arrived[True]:,} opened, {pair.arrived[False]:,} refused, {dict(pair.codes)}", flush=True)
    for name in sent:
        print(
            f"{name}: {sent[name]:,} attacks, {arrived[name]:,} arrived, each with its opening and its end", flush=True
        )


def grow(options):
    from benchmarks.postgres import growth

    options.events = options.events or 10_000_000
    growth(options)


def compare_schemas(state, examples):
    os.environ["CLINIC_DATABASE"] = f"sqlite:///{state}/schema.db"
    from tests.hostile import clinics

    if differences := clinics.play(state, examples):
        sys.exit(f"An answer is another one with an audit than without: {differences}")


def try_suites(folder):
    if not trial.play(folder):
        sys.exit("A test fails with us that does not fail without; see above.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    longer = ["torture", "interleavings", "growth", "queues", "hostile", "schemas", "suites", "requests", "streams"]
    parser.add_argument("what", choices=longer)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--events", type=int)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--mebibytes", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        os.environ["AUDIT_STATE_DIR"] = state
        {
            "torture": lambda: torture_for(options.minutes),
            "interleavings": interleave,
            "growth": lambda: grow(options),
            "queues": lambda: queues.play_all(options.events or 100_000),
            "hostile": lambda: (besiege(options.minutes * 0.8, Path(state)), besiege_sockets(options.minutes * 0.2)),
            "schemas": lambda: compare_schemas(state, options.examples),
            "suites": lambda: try_suites(Path(state)),
            "requests": lambda: servers.requests(options.requests, options.clients),
            "streams": lambda: servers.stream_all(options.mebibytes),
        }[options.what]()


if __name__ == "__main__":
    main()
