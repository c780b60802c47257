"""Seal and verify on one core: events a second, CPU time, peak memory, bytes on disk.

    python benchmarks/chain.py [--events 1000000] [--batch 1000] [--json-only]

Events are about 600 bytes as records. ``seal`` is the way of the sealer from the outbox's JSON to the committed
batch; ``bare`` is SQLite's own work for the same rows: one ``executemany`` and one commit a batch into a second file
with the same table and indexes and nothing else, in turns with the sealer. ``verify`` reads every row and checkpoint.
``--json-only`` leaves orjson out.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sqlite3
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--events", type=int, default=1_000_000)
parser.add_argument("--batch", type=int, default=1_000)
parser.add_argument("--json-only", action="store_true")
options = parser.parse_args()
if options.json_only:
    sys.modules["orjson"] = None  # type: ignore[assignment]
os.environ.setdefault("AUDIT_STATE_DIR", tempfile.mkdtemp())

from audit_core.event import AuditEvent  # noqa: E402 - orjson has to be hidden first
from audit_core.identity import new_event_id  # noqa: E402
from audit_core.rows import STORED_COLUMNS, to_json  # noqa: E402
from audit_core.trail import AuditTrail  # noqa: E402

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


def make_events(count: int, chance: random.Random, start: datetime) -> list[str]:
    return [
        to_json(
            AuditEvent(
                event_id=new_event_id(),
                timestamp=start + timedelta(milliseconds=number),
                action="update",
                actor_id=f"user-{chance.randrange(500)}",
                actor_type="user",
                resource_type="patient",
                resource_id=str(chance.randrange(20_000)),
                details={"changes": {"diagnosis": {"old": f"J{chance.randrange(99)}.1", "new": "J45.0"}}},
                ip_address=f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
                user_agent=BROWSER,
                request_id=new_event_id(),
            )
        )
        for number in range(count)
    ]


class Bare:
    """The same rows in a table with the same indexes, written by nothing but sqlite3."""

    def __init__(self, folder: Path, like: Path) -> None:
        self._connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self._connection.execute("PRAGMA cache_size = -65536")
        self._connection.execute("PRAGMA synchronous = FULL")
        schema = sqlite3.connect(like).execute(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = 'audit_events' AND type IN ('table', 'index')"
        )
        for (statement,) in schema:
            self._connection.execute(statement)
        self._insert = (
            f"INSERT INTO audit_events ({', '.join(STORED_COLUMNS)}) VALUES ({', '.join('?' * len(STORED_COLUMNS))})"
        )
        self.spent, self.cpu = 0.0, 0.0

    def write(self, rows: list[tuple[object, ...]]) -> None:
        began, began_cpu = time.perf_counter(), time.process_time()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, rows)
        self._connection.execute("COMMIT")
        self.spent, self.cpu = self.spent + time.perf_counter() - began, self.cpu + time.process_time() - began_cpu


def main() -> None:
    chance = random.Random(1)
    path = Path(tempfile.mkdtemp()) / "trail.db"
    trail = AuditTrail(f"sqlite:///{path}", lifecycle=False)
    outbox, store = trail.outboxes[0], trail.store
    sealing, sealing_cpu = 0.0, 0.0
    bare = Bare(path.parent, like=path)
    for done in range(0, options.events, options.batch):
        texts = make_events(options.batch, chance, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=done))
        with store.transaction(patient=True) as connection:
            connection.executemany("INSERT INTO audit_outbox (event) VALUES (?)", [(text,) for text in texts])
        began, began_cpu = time.perf_counter(), time.process_time()
        while outbox.take(1):
            trail.sealer.seal()
        sealing, sealing_cpu = sealing + time.perf_counter() - began, sealing_cpu + time.process_time() - began_cpu
        bare.write(list(store.rows(done + 1, done + 1 + options.batch)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, began_cpu = time.perf_counter(), time.process_time()
    found = trail.chain.verify()
    verifying, verifying_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = trail.prove(next(trail.events(action="update")).event_id).record
    codec = "json" if options.json_only else "orjson"
    print(f"{options.events:,} events of {len(record)} bytes, batches of {options.batch:,}, {codec}: {found.result}")
    print(f"seal    {options.events / sealing:>10,.0f} events/s, {sealing_cpu / options.events * 1e6:.1f} us CPU each")
    print(f"bare    {options.events / bare.spent:>10,.0f} events/s, {bare.cpu / options.events * 1e6:.1f} us CPU each")
    print(f"verify  {found.size / verifying:>10,.0f} events/s, {verifying_cpu / found.size * 1e6:.1f} us CPU each")
    print(f"memory  {before / 1024:.0f} MB after sealing, {after / 1024:.0f} MB after verifying")
    print(f"disk    {path.stat().st_size / found.size:.0f} bytes per event")


if __name__ == "__main__":
    main()
