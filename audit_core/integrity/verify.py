"""Check a whole chain, streaming: every finding, not only the first.

The caller reads; this module only computes. It trusts the verifier key and the checkpoints that were kept
elsewhere, and nothing else: rows and stored checkpoints may have been written by an attacker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Protocol, TypeAlias

from audit_core.canonical import RECORD_COLUMNS, encode_record, parse_timestamp
from audit_core.errors import IntegrityError
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import GENESIS_HASH
from audit_core.integrity.merkle import Frontier
from audit_core.integrity.note import VerifierKey

CHUNK = 4_096
CLOCKS_DIFFER = timedelta(minutes=10)  # what an anchor needs to keep a checkpoint included
Hashed: TypeAlias = tuple[Any, Any, Any, bytes, str, Any]
"""A row's sequence, previous and own hash, the hash of its record or why it is none, and its time."""

SHOWN = 500  # characters of a value that is none of ours
_SEQUENCE = RECORD_COLUMNS.index("sequence")
_PREVIOUS = RECORD_COLUMNS.index("previous_hash")
_TIMESTAMP = RECORD_COLUMNS.index("timestamp")
_WIDTH = len(RECORD_COLUMNS)
_UNENCODABLE = (TypeError, ValueError, OverflowError)


class Result(StrEnum):
    """What verification says."""

    OK = "ok"
    FAILED = "failed"
    UNANCHORED = "unanchored"  # consistent in itself, but nothing outside the database vouches for it


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, or (``warning``) worth a look."""

    kind: str
    sequence: int | None
    expected: str
    got: str
    warning: bool = False
    where: str = ""  # which anchor it is about

    def __str__(self) -> str:
        place = "" if self.sequence is None else f" at sequence {self.sequence}"
        return f"{self.kind}{place}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint that is kept elsewhere: the chain must extend it."""

    checkpoint: Checkpoint
    where: str = ""  # the name of the anchor that keeps it
    since: str = ""  # a time as in the record, by a clock that is not the trail's: then it was there


class StoredHead(Protocol):
    """A signed tree head as a store has it."""

    @property
    def tree_size(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def first_sequence(self) -> int: ...  # noqa: D102
    @property
    def root(self) -> str: ...  # noqa: D102
    @property
    def signature(self) -> str: ...  # noqa: D102
    @property
    def frontier(self) -> bytes | None: ...  # noqa: D102
    @property
    def sealed_at(self) -> str: ...  # noqa: D102


@dataclass(slots=True)
class ChainVerifier:
    """Walks rows and checkpoints once, in order, in constant memory.

    ``known`` are checkpoints that were kept where the operator cannot rewrite them: the chain must extend each.
    """

    key: VerifierKey
    known: Sequence[Known] = ()
    size: int = 0  # sequences walked so far, missing ones included
    _previous: Any = GENESIS_HASH  # None after a gap: what was there is not known
    _tree: Frontier | None = field(default_factory=Frontier)  # None while a gap hides a leaf
    _signed: int = 0
    _happened: str = ""  # the time of the last row walked
    _times: tuple[str, str] = ("", "")  # when the last checkpoint was sealed, and when its last event happened
    _by_size: dict[int, list[Known]] = field(default_factory=dict)
    _sizes: list[int] = field(default_factory=list)  # of what is known, from the smallest
    _attested: Known | None = None  # of those below the last checkpoint, the one that was kept last
    _reached: Known | None = None  # the same, of those up to it

    def __post_init__(self) -> None:
        for known in _since_larger(self.known):
            self._by_size.setdefault(known.checkpoint.size, []).append(known)
        self._sizes = sorted(self._by_size)

    @property
    def state(self) -> tuple[Frontier | None, Any]:
        """The tree of what was walked, and the hash of the last event; with findings they may be anything."""
        return self._tree, self._previous

    def walk(self, rows: Iterable[Hashed], checkpoints: Iterable[StoredHead]) -> Iterator[Finding]:
        """Yield every finding of the chain; ``rows`` are what ``hash_rows`` makes of them, in order."""
        reader = _RowReader(rows)
        yield from self._check_known(self.size)
        for checkpoint in checkpoints:
            yield from self._walk_rows(reader, checkpoint.tree_size)
            yield from self._check_missing_tail(checkpoint.tree_size)
            yield from self._check_checkpoint(checkpoint)
        yield from self._walk_rows(reader, None)
        yield from self._check_end()

    def _walk_rows(self, reader: _RowReader, stop: int | None) -> Iterator[Finding]:
        end = len(self._sizes) if stop is None else bisect_right(self._sizes, stop)
        cuts = self._sizes[bisect_right(self._sizes, self.size) : end]
        for cut in dict.fromkeys([*cuts, stop]):  # a checkpoint may lie where one was kept
            while chunk := reader.take(cut):
                yield from self._check_rows(chunk)
            if cut is not None and cut == self.size:
                yield from self._check_known(cut)

    def _check_rows(self, rows: list[Hashed]) -> Iterator[Finding]:
        """Compare each record's hash with its own row and with the row before."""
        previous, expected = self._previous, self.size
        leaves: list[bytes] = []
        for sequence, link, stored, digest, why, _ in rows:
            leaf = digest
            if type(sequence) is not int or sequence < expected:  # from a table made anew, or from below the first
                place = sequence if type(sequence) is int else None
                yield Finding("misplaced", place, f"a sequence of {expected} or more", str(sequence))
                continue
            if digest.hex() != stored:
                got = f"a row that is no record ({why})" if why else digest.hex()
                yield Finding("edited", sequence, as_text(stored), got)
                leaf = _hash_bytes(stored)
            if sequence != expected:
                yield Finding("missing", expected, _range(expected, sequence), "nothing")
                self._skip(leaves, expected, sequence, link)
            elif link != previous and previous is not None:
                yield Finding("unlinked", sequence, as_text(previous), as_text(link))
            leaves.append(leaf)
            previous, expected = stored, sequence + 1
        self._previous, self.size, self._happened = previous, expected, str(rows[-1][-1])
        self._grow(leaves)

    def _skip(self, leaves: list[bytes], expected: int, sequence: int, previous: Any) -> None:
        """A single missing leaf is known from the row after it; more than one hides the tree."""
        if sequence == expected + 1:
            leaves.append(_hash_bytes(previous))
        else:
            leaves.append(b"")

    def _grow(self, leaves: list[bytes]) -> None:
        if b"" in leaves:
            self._tree = None
        elif self._tree is not None:
            self._tree.extend(leaves)

    def _check_missing_tail(self, stop: int) -> Iterator[Finding]:
        if self.size < stop:
            yield Finding("missing", self.size, _range(self.size, stop), "nothing")
            self.size, self._tree, self._previous = stop, None, None

    def _check_checkpoint(self, stored: StoredHead) -> Iterator[Finding]:
        if stored.first_sequence != self._signed or stored.tree_size <= self._signed:
            yield Finding(
                "checkpoint.missing", self._signed, f"a checkpoint from {self._signed} on",
                f"one of {as_text(stored.first_sequence)} to {stored.tree_size}",
            )  # fmt: skip
        self._signed = stored.tree_size
        try:
            head = parse_head(stored, self.key.name)
        except IntegrityError:
            yield Finding("checkpoint.unreadable", stored.tree_size, "a base64 root of 32 bytes", as_text(stored.root))
        else:
            yield from self._check_head(head, stored)
        yield from self._check_clock(stored)

    def _check_head(self, head: Checkpoint, stored: StoredHead) -> Iterator[Finding]:
        if head.is_signed_by(self.key, stored.signature):
            yield from self._check_root(head, stored.frontier)
        else:
            got = as_text(stored.signature)
            yield Finding("checkpoint.signature", head.size, f"a signature by {self.key}", got)

    def _check_clock(self, stored: StoredHead) -> Iterator[Finding]:
        """Nobody signs ``sealed_at``, and events may be sealed late: only both together say that a clock went back."""
        before, now = self._times, (str(stored.sealed_at), self._happened)
        if now[0] < before[0] and now[1] < before[1]:
            yield Finding("clock", stored.tree_size, f"no earlier than {before[0]}", now[0], warning=True)
        self._times = now
        if (anchored := self._attested) is not None and is_long_before(max(now), anchored.since):
            then = f"when {anchored.where} had the {anchored.checkpoint.size} events before"
            expected = f"no earlier than {anchored.since}, {then}"
            yield Finding("clock", stored.tree_size, expected, now[0], where=anchored.where)
            self._reached = None  # once is enough
        self._attested = self._reached  # a checkpoint may have been kept long after it was sealed

    def _check_root(self, head: Checkpoint, frontier: bytes | None) -> Iterator[Finding]:
        """Compare the recomputed tree, and go on from the signed one where ours is lost."""
        got = None if self._tree is None else self._tree.root()
        kept = _as_frontier(head, frontier)
        if got is not None and got != head.root:
            yield Finding("checkpoint.root", head.size, head.root.hex(), got.hex())
        if frontier is not None and kept is None:
            yield Finding("checkpoint.frontier", head.size, head.root.hex(), "a frontier of another tree")
        if got != head.root:
            self._tree = kept

    def _check_known(self, size: int) -> Iterator[Finding]:
        for known in self._by_size.get(size, ()):
            expected, where = known.checkpoint.root.hex(), known.where
            if self._tree is None:
                got = "nothing to compare: events before it do not fit"
                yield Finding("known", size, expected, got, where=where)
            elif self._tree.root() != known.checkpoint.root:
                yield Finding("known", size, expected, self._tree.root().hex(), where=where)
            elif known.since and (self._reached is None or known.since > self._reached.since):
                self._reached = known

    def _check_end(self) -> Iterator[Finding]:
        if self.size == 0:
            yield Finding("empty", None, "a log.created event", "an empty trail")
        if self.size > self._signed:
            yield Finding("unsigned", self._signed, f"a checkpoint of {self.size} events", f"one of {self._signed}")
        for size in self._sizes[bisect_right(self._sizes, self.size) :]:
            for known in self._by_size[size]:
                expected = f"the {size} events of a known checkpoint"
                yield Finding("truncated", self.size, expected, str(self.size), where=known.where)


def _since_larger(known: Iterable[Known]) -> Iterator[Known]:
    """Each since when its anchor had it or a larger one, which holds it: it may come late, from a copy that lags."""
    earliest: dict[str, str] = {}
    for one in sorted(known, key=lambda one: (-one.checkpoint.size, one.since)):
        if one.since:
            since = earliest[one.where] = min(one.since, earliest.get(one.where, one.since))
            yield replace(one, since=since)
        else:
            yield one


def hash_rows(rows: Iterable[Sequence[Any]], log: str) -> Iterator[Hashed]:
    """The hot loop: rebuild each row's record, and hash it. A chain may be hashed in any number of parts."""
    for row in rows:
        digest, why = b"", ""
        try:
            digest = sha256(b"\x00" + encode_record(row[:_WIDTH], log)).digest()
        except _UNENCODABLE as error:
            why = type(error).__name__
        yield row[_SEQUENCE], row[_PREVIOUS], row[_WIDTH], digest, why, row[_TIMESTAMP]


class _RowReader:
    """Takes rows below a sequence, a chunk at a time, and leaves the first one that is not."""

    def __init__(self, rows: Iterable[Hashed]) -> None:
        self._rows = iter(rows)
        self._next: Hashed | None = next(self._rows, None)

    def take(self, stop: int | None) -> list[Hashed]:
        chunk: list[Hashed] = []
        row, rows = self._next, self._rows
        limit = float("inf") if stop is None else stop
        while row is not None and row[0] < limit and len(chunk) < CHUNK:
            chunk.append(row)
            row = next(rows, None)
        self._next = row
        return chunk


def is_long_before(time: str, since: str) -> bool:
    """Whether it is earlier by more than two clocks that are set may differ. What is no time is no answer."""
    try:
        return parse_timestamp(since) - parse_timestamp(time) > CLOCKS_DIFFER
    except ValueError:
        return False


def parse_head(stored: StoredHead, origin: str) -> Checkpoint:
    """The stored checkpoint as one. Raises IntegrityError when it is none, whatever somebody wrote there."""
    return Checkpoint.parse(f"{origin}\n{stored.tree_size}\n{stored.root}\n")


def as_text(value: object) -> str:
    """What a column holds, which may be anything, as a finding shows it."""
    return (value if isinstance(value, str) else repr(value))[:SHOWN]


def _hash_bytes(text: Any) -> bytes:
    """The 32 bytes of a hex hash; nothing where it is none."""
    try:
        digest = bytes.fromhex(text)
    except _UNENCODABLE:
        return b""
    return digest if len(digest) == sha256().digest_size and digest.hex() == text else b""


def _as_frontier(head: Checkpoint, frontier: bytes | None) -> Frontier | None:
    """The kept frontier, if it is the signed tree's."""
    try:
        kept = Frontier.from_bytes(head.size, frontier or b"")
        return kept if kept.root() == head.root else None
    except (IntegrityError, TypeError):
        return None


def _range(start: int, stop: int) -> str:
    return f"event {start}" if stop == start + 1 else f"events {start} to {stop - 1}"
