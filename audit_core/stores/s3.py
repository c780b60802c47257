"""Sealed events in a bucket of S3 with Object Lock: one object for each batch.

An attacker who may write to the bucket can add versions and delete markers, which change nothing of what is read and
are findings, and can stop the trail by an object at its next place. Nobody can change or remove an event before its
time, not even who owns the account; he can close the account.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from audit_core.canonical import RECORD_COLUMNS, decode
from audit_core.integrity.verify import Finding
from audit_core.keys import state_directory
from audit_core.query import EventQuery
from audit_core.rows import Row
from audit_core.s3 import RETENTION_YEARS, Bucket, Version, open_bucket
from audit_core.stores import Extent, Left, StoredCheckpoint
from audit_core.stores.s3_mirror import Mirror, Mirrored, what_fits
from audit_core.stores.s3_objects import Batch, first_of, key_of, read_batch, write_batch
from audit_core.stores.values import ValueStore

AHEAD = 8  # objects that are read at a time
FRESH_SECONDS = 1.0  # how old what queries see may be; whoever seals or verifies looks at once
_SEQUENCE = RECORD_COLUMNS.index("sequence")
_DETAILS = RECORD_COLUMNS.index("details")


class _Object(NamedTuple):
    first: int
    versions: list[Version]


class _Read(NamedTuple):
    version: str
    is_locked: bool
    batch: Batch


class S3AuditStore:
    """The chain in ``bucket``, below ``prefix``, locked for ``retention_years``.

    A mirror of it, for queries and proofs, lies in ``mirror``, or in the user's state directory. Nothing is asked yet.
    Raises ConfigurationError without boto3.
    """

    name = "s3"
    seals_in_transaction = False
    values: ValueStore | None = None  # what is locked cannot be erased

    def __init__(
        self,
        bucket: str | Bucket,
        prefix: str = "audit/",
        retention_years: int = RETENTION_YEARS,
        *,
        mirror: Path | None = None,
    ) -> None:
        self._bucket = bucket if isinstance(bucket, Bucket) else Bucket(bucket, retention_years=retention_years)
        self._prefix, self.place = prefix, f"{self._bucket.place} {prefix}"
        name = sha256(self.place.encode()).hexdigest()[:16]
        self._mirror = Mirror(mirror or state_directory() / "mirrors" / f"{name}.db")
        self._synced = -FRESH_SECONDS
        self._named: str | None = None  # the origin
        self._recent: OrderedDict[str, _Read] = OrderedDict()  # rows and checkpoints are read side by side

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self) -> None:
        """See whether the bucket keeps what is written there. Raises ConfigurationError with what is missing."""
        self._bucket.check()

    def is_created(self) -> bool:
        self._bucket.check()
        return next(self._objects(), None) is not None

    def may_append(self) -> bool:
        return True

    def is_writable(self) -> bool:
        return True

    def transaction(self, *, patient: bool = False) -> AbstractContextManager[Any]:
        """There is none: an object is written as a whole, or not at all, and of two at one place only the first.

        Begins with a look at what there is: an object whose answer was lost is known from then on.
        """
        del patient
        self._sync()
        return nullcontext(self)

    def savepoint(self, connection: Any) -> AbstractContextManager[Any]:
        return nullcontext(connection)

    def append(self, rows: Sequence[Row], checkpoint: StoredCheckpoint, connection: Any) -> None:
        del connection
        first = checkpoint.first_sequence
        body = write_batch(rows, checkpoint, self._log(rows))
        version = self._bucket.put_new(f"{self._prefix}{key_of(first)}", body)
        # A crash here leaves an object that the mirror lacks: the next look finds it.
        self._mirror.add(Mirrored(first, version, is_locked=True), Batch(list(rows), checkpoint))

    # -- what is read from the bucket itself ---------------------------------------------------------------------

    def check_schema(self) -> Iterator[Finding]:
        """Whatever somebody has done to the objects since they were written."""
        self._bucket.check()
        self._sync()
        for versions in self._bucket.objects(self._prefix, self._prefix):  # what "create folder" makes has no name
            yield from _check_object(versions, self._prefix)
        for first in self._mirror.unlocked():
            yield _finding(first, "no lock in COMPLIANCE mode for a year or more")

    def check_indexes(self) -> Iterator[Finding]:
        return iter(())

    def head(self, connection: Any = None) -> StoredCheckpoint | None:
        if connection is None:
            self._sync()
        return self._mirror.head()

    def extent(self) -> Extent:
        """As the bucket's last object has it: nobody hides the end by what he writes into the mirror."""
        last = self._last_batch()
        if _is_another(self._mirror.extent(), _end_of(what_fits(last))):
            self._mirror.forget()
            last = self._last_batch()
        end, there = _end_of(last), self._mirror.extent()
        return Extent(max(end.events, there.events), max(end.signed, there.signed))

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        self._refresh()
        holding = self._mirror.holding(start) if start > 0 else None
        for read in self._batches(holding.first if holding else 0, stop):
            for row in read.batch.rows:
                if start <= row[_SEQUENCE] and (stop is None or row[_SEQUENCE] < stop):
                    yield row

    def checkpoints(self, after: int = 0) -> Iterator[StoredCheckpoint]:
        self._refresh()
        holding = self._mirror.holding(after) if after > 0 else None
        for read in self._batches(holding.first if holding else 0, None):
            if (found := read.batch.checkpoint) is not None and found.tree_size > after:
                yield found

    # -- what is read from the mirror ----------------------------------------------------------------------------

    def kept_frontier(self, size: int, connection: Any = None) -> StoredCheckpoint | None:
        self._refresh(connection)
        return self._mirror.kept_frontier(size)

    def leaf_hashes(self, start: int, stop: int, connection: Any = None) -> list[str]:
        self._refresh(connection)
        return self._mirror.leaf_hashes(start, stop)

    def known(self, event_ids: Iterable[str], connection: Any = None) -> set[str]:
        self._refresh(connection)
        return self._mirror.known(event_ids)

    def duplicate_ids(self) -> Iterator[tuple[str, int]]:
        self._refresh()
        return self._mirror.duplicate_ids()

    def row(self, sequence: int, connection: Any = None) -> Row | None:
        self._refresh(connection)
        return self._mirror.row(sequence)

    def find(self, event_id: str, connection: Any = None) -> Row | None:
        self._refresh(connection)
        return self._mirror.find(event_id)

    def select(self, query: EventQuery) -> Iterator[Row]:
        self._refresh()
        return self._mirror.select(query)

    def left(self, start: int = 0, stop: int | None = None) -> Iterator[Left]:
        """Nothing of a trail in a bucket is archived: it is locked where it is."""
        del start, stop
        return iter(())

    def find_left(self, event: str | int) -> Left | None:
        del event
        return None

    def close(self) -> None:
        self._mirror.close()

    # -- the objects -------------------------------------------------------------------------------------------

    def _log(self, rows: Sequence[Row]) -> str:
        """The origin, which stands in every record."""
        return (_origin_in(rows[0]) if rows[0][_SEQUENCE] == 0 else self._origin()) or ""

    def _origin(self) -> str | None:
        """As the bucket's first object has it, or the mirror before that was read."""
        if self._named is None and (created := self._mirror.row(0)) is not None:
            return _origin_in(created)
        return self._named

    def _refresh(self, connection: Any = None) -> None:
        """Whoever seals has looked at the head already."""
        if connection is None and time.monotonic() - self._synced > FRESH_SECONDS:
            self._sync()

    def _last_batch(self) -> Batch:
        """What the last object holds, as the bucket has it."""
        last = self._sync()
        return Batch([], None) if last is None else self._read(last).batch

    def _sync(self) -> _Object | None:
        """Take what others have written into the mirror, and give the bucket's last object.

        A mirror that does not fit the bucket is made anew.
        """
        self._mirror.open()
        end: _Object | None = None
        objects = self._objects()
        if (last := self._mirror.last()) is not None:
            objects = self._objects(last.first)
            end = next(objects, None)
            if end is None or end.first != last.first or last.version not in [each.id for each in end.versions]:
                self._mirror.forget()
                end, objects = None, self._objects()
        for each, read in self._read_ahead(objects):
            self._mirror.add(Mirrored(each.first, read.version, read.is_locked), read.batch)
            end = each
        self._synced = time.monotonic()
        return end

    def _batches(self, first: int, stop: int | None) -> Iterator[_Read]:
        for _, read in self._read_ahead(self._objects(first, stop)):
            yield read

    def _objects(self, first: int = 0, stop: int | None = None) -> Iterator[_Object]:
        """Those that begin from ``first`` on, and before ``stop``."""
        before = f"{self._prefix}{key_of(first)[:-1]}" if first else ""  # comes right before it
        for versions in self._bucket.objects(self._prefix, before):
            place = first_of(versions[0].key.removeprefix(self._prefix))
            if place is None or all(version.is_marker for version in versions):
                continue
            if stop is not None and place >= stop:
                return
            yield _Object(place, versions)

    def _read_ahead(self, objects: Iterable[_Object]) -> Iterator[tuple[_Object, _Read]]:
        waiting: deque[tuple[_Object, Future[_Read]]] = deque()
        with ThreadPoolExecutor(AHEAD, "audit-s3") as readers:
            for each in objects:
                waiting.append((each, readers.submit(self._read, each)))
                if each.first == 0:
                    waiting[-1][1].result()  # the others are compared with the origin that it says
                if len(waiting) >= AHEAD:
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()

    def _read(self, each: _Object) -> _Read:
        name = each.versions[0].key
        if (recent := self._recent.get(name)) is not None and recent.version in [v.id for v in each.versions]:
            return recent
        found = self._bucket.read(each.versions)
        log = self._origin() if each.first else None
        read = _Read(found.id, found.is_locked, read_batch(found.body, each.first, log))
        if each.first == 0:
            self._named = _origin_in(read.batch.rows[0]) if read.batch.rows else None
        self._recent[name] = read
        while len(self._recent) > 4 * AHEAD:
            self._recent.popitem(last=False)
        return read


def open_s3_store(url: str) -> S3AuditStore:
    """The store at ``s3://bucket/prefix``. Raises ConfigurationError."""
    bucket, prefix = open_bucket(url)
    return S3AuditStore(bucket, prefix or "audit/")


def _end_of(batch: Batch) -> Extent:
    """Up to where it reaches; 0 for what it has not."""
    events = max((row[_SEQUENCE] + 1 for row in batch.rows), default=0)
    return Extent(events, batch.checkpoint.tree_size if batch.checkpoint else 0)


def _is_another(there: Extent, end: Extent) -> bool:
    """Whether a mirror ends elsewhere than the bucket's last object, as far as that says where: it may be no batch."""
    return (0 < end.events != there.events) or (0 < end.signed != there.signed)


def _origin_in(created: Row) -> str | None:
    """What the first event says; it may be anything."""
    try:
        return str(decode(created[_DETAILS])["origin"])
    except (ValueError, TypeError, LookupError):
        return None


def _check_object(versions: list[Version], prefix: str) -> Iterator[Finding]:
    name = versions[0].key.removeprefix(prefix)
    if (first := first_of(name)) is None:
        yield _finding(None, f"another one, {name}")
        return
    markers = sum(version.is_marker for version in versions)
    if (later := len(versions) - markers - 1) > 0:
        yield _finding(first, f"{later} later {'version' if later == 1 else 'versions'}")
    if markers:
        yield _finding(first, "a delete marker")


def _finding(first: int | None, got: str) -> Finding:
    return Finding("object", first, "each object once, locked", got)
