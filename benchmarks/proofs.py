"""What proofs, resumed verification and tiles cost.

python -m benchmarks.proofs [--events 1000000] [--simulated 1000000000]

``--events`` are sealed into SQLite in batches of 10,000, and proved, verified and exported. ``--simulated`` is a tree
of so many equal leaves, of which every subtree is known without a store: the functions are those of a real proof, over
a frontier that is kept at every multiple of 256.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from audit_core.chain.proof import prove_consistency
from audit_core.evidence.tiles import export_tiles
from audit_core.integrity.merkle import Frontier, check_consistency, check_inclusion, node_hash, plan_inclusion
from audit_core.sqlite import SqliteDatabase
from audit_core.stores import StoredCheckpoint
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import make_chain, make_event, seal

BATCH = 10_000
PROOFS = 300
LEAF = b"\x5a" * 32


class Equal:
    """A store of equal leaves, which keeps a frontier at every multiple of 256."""

    def __init__(self) -> None:
        self.reads = 0
        self._heights = [LEAF]
        while len(self._heights) < 64:
            self._heights.append(node_hash(self._heights[-1], self._heights[-1]))

    def tree(self, size: int) -> Frontier:
        return Frontier(size, [self._heights[bit] for bit in range(63, -1, -1) if size >> bit & 1])

    def leaf_hashes(self, start: int, stop: int) -> list[str]:
        self.reads += 1
        return [LEAF.hex()] * (stop - start)

    def kept_frontier(self, size: int) -> StoredCheckpoint:
        self.reads += 1
        kept = size - size % 256
        return StoredCheckpoint(kept, 0, "", "", self.tree(kept).to_bytes(), "")


def timed(work: Callable[[int], Any], over: Iterable[int]) -> tuple[list[Any], str]:
    """What it gives, and how long one takes: the median and the worst."""
    given, took = [], []
    for each in over:
        began = time.perf_counter()
        given.append(work(each))
        took.append(time.perf_counter() - began)
    return given, f"median {median(took) * 1000:.2f} ms, worst {max(took) * 1000:.2f} ms"


def simulate(size: int) -> None:
    store, chance = Equal(), random.Random(1)
    places = [0, size - 1, *(chance.randrange(size) for _ in range(PROOFS))]
    root = store.tree(size).root()

    def check(proved: tuple[int, list[bytes]]) -> None:
        check_inclusion(LEAF, proved[0], size, proved[1], root)

    plans = [plan_inclusion(place, size) for place in places]
    hashes = [[store.tree(stop - start).root() for start, stop in plan] for plan in plans]
    _, taken = timed(lambda n: check((places[n], hashes[n])), range(len(places)))
    print(f"{size:,} leaves, simulated: an inclusion proof has {max(map(len, hashes))} hashes at most; checked {taken}")
    store.reads = 0
    proofs, taken = timed(lambda old: prove_consistency(store, old, size), places[1:])  # type: ignore[arg-type]
    print(f"  consistency: {max(map(len, proofs))} hashes at most, {store.reads / len(proofs):.0f} reads, {taken}")
    for old, proof in zip(places[1:], proofs, strict=True):
        check_consistency(old, size, proof, store.tree(old).root(), root)


def measure(events: int, folder: Path) -> None:
    store = SqliteStore(SqliteDatabase(folder / "trail.db"))
    store.create()
    chain = make_chain(store)
    details = {"changes": {"diagnosis": {"old": "J06.9", "new": "J20.9"}}, "ward": "north"}

    def add(count: int) -> None:
        for at in range(0, count, BATCH):
            names = range(at, min(at + BATCH, count))
            seal(chain, [make_event(n, resource_type="patient", resource_id=str(n), details=details) for n in names])

    add(events)
    chance = random.Random(1)
    proofs, taken = timed(chain.prove, [0, events, *(chance.randrange(events) for _ in range(PROOFS))])
    size = max(32 * len(proof.hashes) for proof in proofs)
    print(f"{events:,} events: an inclusion proof has {size // 32} hashes, {size} bytes, at most; made {taken}")
    _, taken = timed(lambda n: proofs[n].check(chain.key), range(len(proofs)))
    print(f"  checked, its signature too: {taken}")
    _, taken = timed(lambda old: chain.prove_consistency(old, events), [chance.randrange(1, events) for _ in range(99)])
    print(f"  consistency: {taken}")

    began = time.perf_counter()
    seen = chain.verify().seen
    whole = time.perf_counter() - began
    add(1_000)
    began = time.perf_counter()
    found = chain.verify(seen=seen)
    resumed = time.perf_counter() - began
    print(
        f"  verified: all {whole:.1f} s; gone on from there, {found.size - found.start:,} events more, {resumed:.3f} s"
    )

    began = time.perf_counter()
    export_tiles(chain, folder / "tiles")
    took = time.perf_counter() - began
    files = [path.stat().st_size for path in (folder / "tiles").rglob("*") if path.is_file()]
    print(f"  tiles: {events / took:,.0f} events/s, {sum(files) / events:.0f} bytes an event, {len(files):,} files")
    add(1_000)
    began = time.perf_counter()
    export_tiles(chain, folder / "tiles")
    print(f"  1,000 events more into them: {time.perf_counter() - began:.2f} s")
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--simulated", type=int, default=1_000_000_000)
    options = parser.parse_args()
    simulate(options.simulated)
    with tempfile.TemporaryDirectory() as folder:
        measure(options.events, Path(folder))


if __name__ == "__main__":
    main()
