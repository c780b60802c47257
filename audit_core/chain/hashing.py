"""Read and hash the rows of a chain, in this process or in several: what takes the time when a chain is verified."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from audit_core.integrity.hashed import Hashed, hash_rows
from audit_core.stores import AuditStore

RANGE = 20_000  # sequences that one process hashes at a time
LOWEST = -(2**63)  # where an attacker may have put what no chain has

OpenStore = Callable[[], AuditStore]
_store: AuditStore | None = None  # of a process that hashes


def hash_chain(
    store: AuditStore, stop: int, log: str, *, jobs: int = 1, open_store: OpenStore | None = None, start: int = LOWEST
) -> Iterator[Hashed]:
    """Every row from ``start`` to before ``stop``, in order. Several ``jobs`` open the store by themselves."""
    if jobs == 1 or open_store is None:
        yield from hash_rows(store.rows(start, stop), log)
        return
    # Not by a fork: another thread of this process may be in the middle of something.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _open, (open_store,)) as pool:
        hole = stop
        for end, rows in _ahead(pool, _ranges(start, stop), log, 2 * jobs):
            yield from rows
            if not rows:  # no honest chain has such a hole, and an attacker's may be of any size
                hole = end
                break
    yield from hash_rows(store.rows(hole, stop), log)


def _ahead(
    pool: ProcessPoolExecutor, ranges: Iterable[tuple[int, int]], log: str, depth: int
) -> Iterator[tuple[int, list[Hashed]]]:
    """The end of each range, and its rows."""
    waiting: deque[tuple[int, Future[list[Hashed]]]] = deque()
    for start, end in ranges:
        waiting.append((end, pool.submit(_hash_range, start, end, log)))
        if len(waiting) > depth:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def _ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(max(start, 0) + RANGE, stop)
        yield start, end
        start = end


def _open(open_store: OpenStore) -> None:
    global _store  # noqa: PLW0603 - a process that hashes does nothing else
    _store = open_store()


def _hash_range(start: int, stop: int, log: str) -> list[Hashed]:
    assert _store is not None  # noqa: S101 - opened when this process began
    return list(hash_rows(_store.rows(start, stop), log))
