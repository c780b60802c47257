"""Archive one month of two, restore it, verify with it and without, and report over both.

python -m benchmarks.archives sqlite|postgres [EVENTS]
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from audit_core import AuditTrail
from audit_core.archives.places import open_place
from audit_core.reports import AuditReporter
from audit_core.retention.archiving import Archiver
from audit_core.testing import make_event

MONTHS = ("2025-01", "2025-02")
BATCH = 2_000


def fill(trail: AuditTrail, count: int) -> None:
    chance = random.Random(1)
    for month in MONTHS:
        first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
        events = [
            make_event(
                timestamp=first + timedelta(seconds=2 * number),
                actor_id=str(chance.randrange(500)),
                action="PATCH /patients/{id}",
                resource_type="patient",
                resource_id=str(chance.randrange(20_000)),
                ip_address=f"10.0.{chance.randrange(255)}.{chance.randrange(255)}",
                user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
                request_id=str(UUID(int=chance.getrandbits(128))),
                details={"changes": {"phone": {"old": str(chance.randrange(10**9)), "new": "1"}}, "status": 200},
            )
            for number in range(count)
        ]
        for start in range(0, count, BATCH):
            with trail.store.transaction(patient=True) as connection:
                trail.chain.append(events[start : start + BATCH], connection)


def report(trail: AuditTrail) -> None:
    end = datetime(2025, 3, 1, tzinfo=UTC)
    for _ in AuditReporter(trail).access_report("patient", None, None, end):
        pass


def timed(what: str, count: int, action: Callable[[], object]) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:<28}{count / wall:>12,.0f} events/s{count / cpu:>12,.0f} events/s of CPU")


def main() -> None:
    kind, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["AUDIT_STATE_DIR"] = str(folder / "state")
        url = f"sqlite:///{folder / 'trail.db'}"
        if kind == "postgres":
            from tests.postgres.server import new_database

            url = new_database()
        place = open_place((folder / "archive").as_uri())
        with AuditTrail(url, lifecycle=False) as trail:
            fill(trail, count)
            timed("report, both live", 2 * count, lambda: report(trail))
            found: list[object] = []
            timed("archive", count, lambda: found.extend(Archiver(trail.chain, place, trail.event).run(MONTHS[1])))
            (archive,) = found
            print(f"{archive.size / archive.events:,.0f} bytes per event")  # type: ignore[attr-defined]
            timed("restore", count, lambda: trail.chain.shelf.restored(archive, trail.chain.origin or ""))  # type: ignore[arg-type]
            timed("verify with it", 2 * count, trail.verify)
            timed("report, one restored", 2 * count, lambda: report(trail))
        with AuditTrail(url, lifecycle=False) as trail:
            timed("report, one archived", 2 * count, lambda: report(trail))
        (folder / "archive").rename(folder / "away")
        with AuditTrail(url, lifecycle=False) as trail:
            timed("verify without it", 2 * count, trail.verify)


if __name__ == "__main__":
    main()
