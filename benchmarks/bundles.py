"""Export 10,000 events of a large trail as evidence, check that, and open it: seconds and bytes.

    python -m benchmarks.bundles [--events 1000000] [--selected 10000] [--rounds 3]

``range`` are neighbours, ``sample`` lies all over the trail: each of its proofs has hashes of its own. ``page`` is the
time from the beginning of the page to its verdict in Chromium and Firefox, where this machine has them. CPU is that of
this process; the shortest of the rounds counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from audit_core.chain import AuditChain
from audit_core.event import AuditEvent
from audit_core.evidence.bundle import write_bundle
from audit_core.evidence.check import check_bundle
from audit_core.evidence.selection import Selection
from audit_core.keys import LocalSigner
from audit_core.query import EventQuery
from audit_core.testing.making import make_event, seal
from audit_core.trail import AuditTrail
from tests.evidence.browser import find, running

BATCH = 1_000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = LocalSigner(b"k" * 32)


def make_events(first: int, count: int, chance: random.Random) -> list[AuditEvent]:
    return [
        make_event(
            number,
            timestamp=BEGIN + timedelta(seconds=number),
            action="update",
            actor_id=f"user-{chance.randrange(500)}",
            actor_type="user",
            resource_type="patient",
            resource_id=str(chance.randrange(20_000)),
            details={"changes": {"diagnosis": {"old": f"J{chance.randrange(99)}.1", "new": "J45.0"}}},
            ip_address=f"10.0.{chance.randrange(256)}.{chance.randrange(256)}",
            user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            request_id=f"{chance.getrandbits(128):032x}",
        )
        for number in range(first, first + count)
    ]


def fill(chain: AuditChain, count: int) -> None:
    chance = random.Random(1)
    for first in range(0, count, BATCH):
        seal(chain, make_events(first, min(BATCH, count - first), chance))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def check(path: Path, trail: AuditTrail) -> None:
    key = trail.chain.key
    assert key is not None  # noqa: S101 - the trail has begun
    with path.open("rb") as file:
        found = check_bundle(file, [key])
    assert found.verdict == "ok", found  # noqa: S101 - else the figures are of something else


def open_page(kind: str, path: Path, key: str, rounds: int) -> float:
    """Milliseconds to the verdict."""
    folder = Path(tempfile.mkdtemp())
    with zipfile.ZipFile(path) as archive:
        archive.extract("evidence.html", folder)
    took = []
    with running(kind, folder) as page:
        for _ in range(rounds):
            page.open(folder / "evidence.html", key)
            assert page.verdict == "ok", page.text  # noqa: S101
            took.append(page.value("performance.getEntriesByName('verdict')[0].startTime"))
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--selected", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    middle = BEGIN + timedelta(seconds=options.events // 2)
    asked = {
        "range": Selection(EventQuery(since=middle, until=middle + timedelta(seconds=options.selected))),
        "sample": Selection(EventQuery(), options.selected, "figures"),
    }
    with AuditTrail(f"sqlite:///{folder}/trail.db", signer=SIGNER, lifecycle=False) as trail:
        fill(trail.chain, options.events)
        for name, selection in asked.items():
            path = folder / f"{name}.zip"
            written, checked = [], []
            for _ in range(options.rounds):
                path.unlink(missing_ok=True)
                written.append(timed(lambda: write_bundle(trail, selection, path)))  # noqa: B023
                checked.append(timed(lambda: check(path, trail)))  # noqa: B023
            print(
                f"{name}: written in {min(written)[0]:.2f} s ({min(written)[1]:.2f} s of CPU), checked in "
                f"{min(checked)[0]:.2f} s ({min(checked)[1]:.2f}), {path.stat().st_size:,} bytes"
            )
            for kind in ("chromium", "firefox"):
                if find(kind):
                    took = open_page(kind, path, str(trail.chain.key), options.rounds)
                    print(f"{name}: page in {kind}: {took / 1000:.2f} s")


if __name__ == "__main__":
    main()
