"""PostgreSQL: what an audited transaction costs, how fast is sealed and verified, and what stays flat.

    python -m benchmarks.postgres transactions [--seconds 10] [--rounds 5]
    python -m benchmarks.postgres seal         [--events 1000000]     also verifies, and says what the indexes take
    python -m benchmarks.postgres growth       [--events 10000000]    the cost of an event as the trail grows; reports
    python -m benchmarks.postgres lag          [--seconds 20]         from commit to seal, at 1,000 and 5,000 events/s
    python -m benchmarks.postgres open         [--seconds 60]         the outbox while another transaction stays open

Each starts its own server (PostgreSQL 18, settings as they come, but for max_wal_size), on the machine's cores together
with clients and sealer. ``transactions`` interleaves all its variants in every round and prints medians as shares of
the same transaction without audit.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from audit_core.event import AuditEvent
from audit_core.identity import new_event_id
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter
from audit_core.rows import to_json
from audit_core.trail import AuditTrail
from tests.postgres.server import Server, new_database

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
UPDATE = "\\set id random(1, 100000)\nBEGIN;\nUPDATE patient SET visits = visits + 1 WHERE id = :id;\n{work}{wait}{end}"
INSERT = "INSERT INTO audit.audit_outbox (event) VALUES ({event});\n"
COMMIT, PIPELINED = "COMMIT;\n", "\\startpipeline\n{insert}COMMIT;\n\\endpipeline\n"
LINK = "encode(sha256(convert_to(:last::text || {event}, 'UTF8')), 'hex')"
VARIANTS = {  # and the script of each; who is audited has a sealer at work
    "insert alone": "audited",
    "audited": "audited",
    "audited, sent with the COMMIT": "pipelined",
    "chained": "chained",
}
CHAINED = (
    "SELECT hash AS last FROM chain_head FOR UPDATE \\gset\n"
    f"INSERT INTO chained (event, hash) VALUES ({{event}}, {LINK});\n"
    f"UPDATE chain_head SET hash = {LINK};\n"
)


def make_events(count: int, chance: random.Random, start: datetime) -> Iterator[str]:
    for number in range(count):
        yield to_json(
            AuditEvent(
                event_id=new_event_id(),
                timestamp=start + timedelta(milliseconds=number),
                action="update",
                actor_id=f"user-{chance.randrange(500)}",
                actor_type="user" if chance.random() < 0.999 else "admin",
                outcome="success" if chance.random() < 0.99 else "denied",
                resource_type="patient",
                resource_id=str(chance.randrange(20_000)),
                details={"changes": {"diagnosis": {"old": f"J{chance.randrange(99)}.1", "new": "J45.0"}}},
                ip_address=f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
                user_agent=BROWSER,
                request_id=new_event_id(),
            )
        )


def fill(trail: AuditTrail, count: int, chance: random.Random, start: datetime) -> None:
    """Put events into the outbox."""
    into = "COPY audit.audit_outbox (event) FROM STDIN"
    with psycopg.connect(trail.url) as connection, connection.cursor().copy(into) as copy:
        for text in make_events(count, chance, start):
            copy.write_row((text,))


@contextmanager
def server() -> Iterator[Server]:
    made = Server(18, ["max_wal_size = '8GB'"])
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def sealing(url: str) -> Iterator[None]:
    """A process that seals."""
    process = subprocess.Popen([sys.executable, "-m", "audit_core.cli", "--url", url, "seal", "--follow"])
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()


# --- Transactions


class Bench:
    """pgbench with the scripts of each variant."""

    def __init__(self, made: Server, url: str, trail: AuditTrail) -> None:
        self._program, self._url = str(made.bin_path / "pgbench"), url
        self._folder = Path(tempfile.mkdtemp())
        changes = {"diagnosis": {"old": "J44.1", "new": "J45.0"}, "phone": {"old": "+49 123 4567890", "new": None}}
        event = to_json(trail.event("update", resource=("patient", "4711"), details={"changes": changes}))
        literal = (
            "U&'" + event.replace("'", "''").replace(":", "\\003A") + "'"
        )  # pgbench would read :null as a variable
        for wait, sleep in (("", ""), ("-5ms", "\\sleep 5 ms\n")):
            for name, work, end in (
                ("plain", "", COMMIT),
                ("audited", INSERT, COMMIT),
                ("pipelined", "", PIPELINED.replace("{insert}", INSERT)),
                ("chained", CHAINED, COMMIT),
            ):
                script = UPDATE.format(work=work, wait=sleep, end=end)
                (self._folder / f"{name}{wait}").write_text(script.replace("{event}", literal))

    def run(self, script: str, clients: int, seconds: float) -> tuple[float, float]:
        """Transactions a second, and the 99th percentile in ms."""
        log = self._folder / "log"
        arguments = ["-n", "-M", "prepared", "-c", clients, "-j", min(2, clients), "-T", round(seconds), "-l"]
        command = [
            self._program,
            *map(str, arguments),
            f"--log-prefix={log}",
            "-f",
            str(self._folder / script),
            self._url,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rate = next(float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("tps"))
        times = []
        for file in self._folder.glob("log.*"):
            times += [int(line.split()[2]) for line in file.read_text().splitlines()]
            file.unlink()
        return rate, sorted(times)[int(len(times) * 0.99)] / 1000


def transactions(options: argparse.Namespace) -> None:
    with server() as made:
        url = new_database(url=made.url)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in (
                "CREATE TABLE patient (id int PRIMARY KEY, name text, visits int)",
                "INSERT INTO patient SELECT n, 'name ' || n, 0 FROM generate_series(1, 100000) n",
                "CREATE TABLE chain_head (hash text)",
                "INSERT INTO chain_head VALUES ('')",
                "CREATE TABLE chained (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event text, hash text)",
                "VACUUM ANALYZE",
            ):
                connection.execute(statement)
        with AuditTrail(url, lifecycle=False) as trail:
            bench = Bench(made, url, trail)
            for clients, wait in ((1, ""), (16, ""), (16, "-5ms")):
                _one_setting(bench, trail, clients, wait, options)


def _one_setting(bench: Bench, trail: AuditTrail, clients: int, wait: str, options: argparse.Namespace) -> None:
    shares: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    left = 0
    for _ in range(options.rounds):
        plain, plain_late = bench.run(f"plain{wait}", clients, options.seconds)
        for name, found in shares.items():
            script = f"{VARIANTS[name]}{wait}"
            if name.startswith("audited"):
                with sealing(trail.url):
                    rate, late = bench.run(script, clients, options.seconds)
                    left = max(left, sum(1 for _ in trail.waiting()))
            else:
                rate, late = bench.run(script, clients, options.seconds)
            trail.sealer.seal()
            found.append((rate / plain, late / plain_late))
    print(
        f"{clients} clients{wait.replace('-', ', ')}: plain {plain:,.0f}/s, p99 {plain_late:.1f} ms; unsealed {left:,}"
    )
    for name, found in shares.items():
        rates, lates = zip(*found, strict=True)
        spread = f"{min(rates):.2f}-{max(rates):.2f}"
        print(f"  {name:<29} {statistics.median(rates):.2f} ({spread}) of it, p99 x{statistics.median(lates):.2f}")


# --- Sealing and verifying


def seal(options: argparse.Namespace) -> None:
    with server() as made:
        for indexes in (True, False):
            with AuditTrail(new_database(url=made.url), lifecycle=False) as trail:
                if not indexes:
                    _drop_indexes(trail)
                _seal_all(trail, options.events, "all indexes" if indexes else "only the ids and sequences")
                if indexes:
                    _verify(trail)
                    _sizes(trail)


def _seal_all(trail: AuditTrail, events: int, name: str) -> None:
    chance, spent, cpu = random.Random(1), 0.0, 0.0
    for done in range(0, events, 50_000):
        fill(trail, 50_000, chance, datetime(2026, 11, 1, tzinfo=UTC) + timedelta(milliseconds=done))
        began, began_cpu = time.perf_counter(), time.process_time()
        trail.sealer.seal()
        spent, cpu = spent + time.perf_counter() - began, cpu + time.process_time() - began_cpu
    print(f"seal    {events / spent:>10,.0f} events/s, {cpu / events * 1e6:.1f} us of our CPU each, {name}")


def _drop_indexes(trail: AuditTrail) -> None:
    with psycopg.connect(trail.url) as connection:
        for name in ("actor", "resource", "action", "timestamp"):
            connection.execute(f"DROP INDEX audit.audit_events_{name}")


def _verify(trail: AuditTrail, jobs: int = 1) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    found = trail.verify(jobs=jobs)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"verify  {found.size / spent:>10,.0f} events/s, {cpu / found.size * 1e6:.1f} us CPU each, {jobs} jobs")
    print(f"memory  {grown:.0f} MB more than before verifying")


def _sizes(trail: AuditTrail) -> None:
    query = (
        "SELECT sum(pg_table_size(inhrelid)), sum(pg_indexes_size(inhrelid)), "
        "(SELECT count(*) FROM audit.audit_events), (SELECT pg_total_relation_size('audit.audit_checkpoints')) "
        "FROM pg_inherits WHERE inhparent = 'audit.audit_events'::regclass"
    )
    with psycopg.connect(trail.url) as connection:
        connection.execute("VACUUM ANALYZE" if connection.autocommit else "SELECT 1")
        table, indexes, events, checkpoints = connection.execute(query).fetchone() or (0, 0, 1, 0)
    print(
        f"disk    {table / events:.0f} bytes an event, indexes {indexes / events:.0f}, heads {checkpoints / events:.1f}"
    )


def growth(options: argparse.Namespace) -> None:
    """The cost of a million events after another, then the three reports."""
    with server() as made, AuditTrail(new_database(url=made.url), lifecycle=False) as trail:
        chance = random.Random(1)
        step = options.events // 10
        for number in range(10):
            spent, cpu = 0.0, 0.0
            for done in range(0, step, 50_000):
                start = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(milliseconds=number * step + done)
                fill(trail, min(50_000, step), chance, start)
                began, began_cpu = time.perf_counter(), time.process_time()
                trail.sealer.seal()
                spent, cpu = spent + time.perf_counter() - began, cpu + time.process_time() - began_cpu
            print(
                f"{(number + 1) * step:>12,} events: {step / spent:>8,.0f}/s, {cpu / step * 1e6:.1f} us CPU each",
                flush=True,
            )
        with psycopg.connect(trail.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE audit.audit_events")
        for jobs in (1, 2):
            _verify(trail, jobs)
        _sizes(trail)
        _reports(trail)


def _reports(trail: AuditTrail) -> None:
    reporter = AuditReporter(trail)
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for name, make in (
        ("access", lambda: reporter.access_report("patient", "4711", start, start + timedelta(days=30))),
        ("privileged", lambda: reporter.privileged_action_report(start, start + timedelta(minutes=30))),
        ("failures", lambda: reporter.failed_access_report(start, start + timedelta(minutes=30))),
    ):
        began = time.perf_counter()
        rows = sum(1 for _ in make())
        print(f"report  {name}: {rows:,} rows in {(time.perf_counter() - began) * 1000:.0f} ms")
    hour = {"since": start, "until": start + timedelta(minutes=30), "newest_first": False}
    for query in (
        EventQuery(resource_type="patient", resource_id="4711", newest_first=False),
        EventQuery(actor_types=("admin", "service", "system"), **hour),
        EventQuery(outcome="denied", **hour),
        EventQuery(actor="user-42"),
    ):
        _plan(trail, query)


def _plan(trail: AuditTrail, query: EventQuery) -> None:
    statement, values = trail.store._compile(query, None)  # type: ignore[attr-defined]  # noqa: SLF001 - its plan
    plan = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF) {statement}"
    print("\n".join(row[0] for row in trail.store.database.fetch(plan, values)))  # type: ignore[attr-defined]


# --- Lag, and transactions that stay open


def lag(options: argparse.Namespace) -> None:
    with server() as made, AuditTrail(new_database(url=made.url), lifecycle=False) as trail:
        for rate in (1_000, 5_000):
            with sealing(trail.url):
                _lag(trail, rate, options.seconds)


def _lag(trail: AuditTrail, rate: int, seconds: float) -> None:
    committed: dict[str, float] = {}
    stop = threading.Event()

    def write() -> None:
        texts, size, due = (
            iter(make_events(int(rate * seconds), random.Random(rate), datetime.now(UTC))),
            rate // 100,
            time.time(),
        )
        with psycopg.connect(trail.url, autocommit=True) as connection:
            for _ in range(int(seconds * 100)):
                some = [next(texts) for _ in range(size)]
                connection.execute("INSERT INTO audit.audit_outbox (event) SELECT unnest(%s::text[])", (some,))
                now = time.time()
                committed.update((text.split('"event_id":"')[1][:36], now) for text in some)
                due += 0.01
                time.sleep(max(0.0, due - time.time()))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen, lags, late = 0, [], 0.0
    with psycopg.connect(trail.url, autocommit=True) as connection:
        query = "SELECT event_id::text, sequence FROM audit.audit_events WHERE sequence > %s AND action = 'update'"
        seen = (connection.execute("SELECT coalesce(max(sequence), 0) FROM audit.audit_events").fetchone() or (0,))[0]
        while not stop.is_set() or len(lags) < len(committed):
            found, now = connection.execute(query, (seen,)).fetchall(), time.time()
            lags += [now - committed[event_id] for event_id, _ in found if event_id in committed]
            seen = max([seen, *(sequence for _, sequence in found)])
            time.sleep(0.005)
            late = max(late, now)
    writer.join()
    lags.sort()
    print(
        f"lag at {rate:,}/s: p50 {lags[len(lags) // 2] * 1000:.0f} ms, p99 {lags[int(len(lags) * 0.99)] * 1000:.0f} ms"
    )


def stays_open(options: argparse.Namespace) -> None:
    """Time of a look at the outbox, as more and more rows cannot be cleaned up."""
    with server() as made, AuditTrail(new_database(url=made.url), lifecycle=False) as trail:
        held = psycopg.connect(trail.url)
        held.execute("CREATE TABLE held ()")
        chance, ends, dead = random.Random(1), time.monotonic() + options.seconds, 0
        while time.monotonic() < ends:
            fill(trail, 50_000, chance, datetime.now(UTC))
            trail.sealer.seal()
            dead += 50_000
            fill(trail, 100, chance, datetime.now(UTC))
            began = time.perf_counter()
            trail.sealer.seal()
            sealed = time.perf_counter() - began
            began = time.perf_counter()
            trail.outboxes[0].take(1)
            idle = time.perf_counter() - began
            print(f"{dead:>10,} dead rows: 100 events in {sealed * 1000:.1f} ms, an idle look {idle * 1000:.1f} ms")
        held.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = {"transactions": transactions, "seal": seal, "growth": growth, "lag": lag, "open": stays_open}
    parser.add_argument("what", choices=commands)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=1_000_000)
    os.environ.setdefault("AUDIT_STATE_DIR", tempfile.mkdtemp())
    options = parser.parse_args()
    commands[options.what](options)


if __name__ == "__main__":
    main()
