"""What one request costs: each framework's application with and without a trail, interleaved.

    python -m benchmarks.request_cost [fastapi flask django] [--database postgresql] [--peers] [--rounds 5]

Needs wrk on the PATH. All variants of one application run at once, each with a database of its own; each round loads
them in turn, one at a time, for a second (``--seconds``). Printed are medians over the rounds: throughput and p99 as
shares of the same application without a trail in the same round, and what a request takes of CPU on top of it, in the
application's process (the sealer among it) and in the database's server. A framework takes about three minutes, with
``--peers`` five; they are installed into an environment of their own (see ``benchmarks.peers``).

* ``GET /read`` is not audited, ``POST /empty`` does nothing else.
* ``POST /work`` writes one row in one transaction, and the trail does not tell of the row.
* ``POST /change`` is the same with a row that it tells of.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from benchmarks.databases import Databases, count, databases
from benchmarks.load import Measured, Processes, load
from benchmarks.peers import EVENTS, REQUEST_PEERS, captures_rows, python_with

OURS = ("plain", "durable", "buffered")
REQUESTS = (("GET", "read"), ("POST", "empty"), ("POST", "work"), ("POST", "change"))
START_SECONDS = 30.0


class Server(NamedTuple):
    port: int
    processes: Processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(framework: str, variant: str, places: Databases) -> Iterator[Server]:
    """The application in a process of its own."""
    port, folder = free_port(), tempfile.mkdtemp()
    python = sys.executable if variant in OURS else python_with(*REQUEST_PEERS[framework].values())
    environment = {**os.environ, "AUDIT_STATE_DIR": folder}
    command = [python, "-m", "benchmarks.apps", framework, variant, str(port), places.urls[variant]]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(port, f"{framework} {variant}")
        yield Server(port, Processes(process.pid, places.server))
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{name} did not start")


def measure(framework: str, engine: str, options: argparse.Namespace) -> None:
    variants = [*OURS, *(REQUEST_PEERS[framework] if options.peers else ())]
    answered: Counter[str] = Counter()
    with databases(engine, variants) as places:
        with ExitStack() as stack:
            servers = {v: stack.enter_context(serving(framework, v, places)) for v in variants}
            for method, path in REQUESTS:
                asked = {v: s for v, s in servers.items() if path != "change" or v in OURS or captures_rows(v)}
                for connections in options.connections:
                    rounds = in_turn(asked, method, path, connections, options)
                    tell(f"{framework:7} {engine:10} {method:4} /{path:6} {connections:2}", rounds[1:])
                    if method == "POST":
                        for found in rounds:
                            answered.update({v: found[v].number for v in found})
        told = {v: events_of(v, places.urls[v]) / answered[v] for v in variants[1:]}
    shares = "  ".join(f"{variant} {share:.3f}" for variant, share in told.items())
    print(f"{framework:7} {engine:10} events of each audited request, after an orderly stop: {shares}", flush=True)


def in_turn(
    servers: Mapping[str, Server], method: str, path: str, connections: int, options: argparse.Namespace
) -> list[dict[str, Measured]]:
    """Each round loads each of the servers once. The first one warms up."""
    names, rounds = list(servers), []
    for turn in range(options.rounds + 1):
        first = turn % len(names)
        found = {}
        for name in [*names[first:], *names[:first]]:
            url, processes = f"http://127.0.0.1:{servers[name].port}/{path}", servers[name].processes
            found[name] = load(url, method, connections=connections, seconds=options.seconds, processes=processes)
        rounds.append(found)
    return rounds


def events_of(variant: str, url: str) -> int:
    """How many there are of requests; a few more than wrk has seen answered when it stopped."""
    if variant in EVENTS:
        return count(url, f"SELECT count(*) FROM {EVENTS[variant]}")
    schema = "" if url.startswith("sqlite") else "audit."
    return count(url, f"SELECT count(*) FROM {schema}audit_events WHERE action LIKE 'POST %'") + count(
        url, f'SELECT count(*) FROM {schema}audit_outbox WHERE event LIKE \'%"action":"POST %\''
    )


def tell(name: str, rounds: list[dict[str, Measured]]) -> None:
    def median(variant: str, field: str) -> float:
        return statistics.median(getattr(found[variant], field) for found in rounds)

    rate, app, database = (median("plain", field) for field in ("rate", "app", "database"))
    print(f"{name} connections: {rate:5.0f}/s, {app:.0f} + {database:.0f} us CPU without", flush=True)
    for variant in sorted(rounds[0].keys() - {"plain"}):
        share = statistics.median(found[variant].rate / found["plain"].rate for found in rounds)
        p99 = statistics.median(found[variant].p99 / found["plain"].p99 for found in rounds)
        more_app = statistics.median(found[variant].app - found["plain"].app for found in rounds)
        more = statistics.median(found[variant].database - found["plain"].database for found in rounds)
        print(f"    {variant:18} {share:.2f} (p99 x{p99:.2f}), {more_app:+.0f} {more:+.0f} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frameworks", nargs="*", default=["fastapi", "flask", "django"])
    parser.add_argument("--database", nargs="*", default=["postgresql", "sqlite"])
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 32])
    options = parser.parse_args()
    for framework in options.frameworks:
        for engine in options.database:
            measure(framework, engine, options)


if __name__ == "__main__":
    main()
