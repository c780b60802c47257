"""Archived events in their places of the chain: with their records where those are at hand, else by their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from audit_core.archives.shelf import Shelf
from audit_core.errors import AuditError, IntegrityError, StoreUnavailableError
from audit_core.integrity.hashed import Hashed, Unknown, hash_rows
from audit_core.integrity.keyring import Keyring
from audit_core.integrity.retention import Archive, Tally
from audit_core.integrity.verify import Finding
from audit_core.stores import AuditStore, Left


class Unread(NamedTuple):
    """Archived events of which only the hashes were compared."""

    month: str
    events: int
    first: int
    last: int
    why: str


class ArchivedEvents:
    """Those of one verification. ``claimed`` is what an index tells of archives; only statements that are met count."""

    def __init__(self, store: AuditStore, shelf: Shelf, claimed: Keyring, start: int) -> None:
        self._store, self._shelf, self._start = store, shelf, start
        self._claimed: Mapping[int, Archive] = claimed.archives
        self._is_purged = claimed.is_purged
        self._log = claimed.origin
        self._tallies: dict[int, Tally] = {}
        self._readers: dict[int, Iterator[Hashed]] = {}
        self._unread: dict[int, str] = {}
        self.findings: list[Finding] = []

    def merge(self, live: Iterator[Hashed], stop: int) -> Iterator[Hashed]:
        """The rows of the store and what is archived of it, in order of sequence."""
        left = self._store.left(max(self._start, 0), stop)
        waiting = next(left, None)
        for row in live:
            while waiting is not None and type(row[0]) is int and waiting.sequence < row[0]:
                yield self._hashed(waiting)
                waiting = next(left, None)
            yield row
            if waiting is not None and waiting.sequence == row[0]:
                self._tally(waiting).add(waiting)
                if waiting.event_hash != row[2]:  # else its removal was interrupted: it is there, and archived
                    yield self._by_hash(waiting)
                waiting = next(left, None)
        while waiting is not None:
            yield self._hashed(waiting)
            waiting = next(left, None)

    def check(self, ring: Keyring) -> Iterator[Finding]:
        """That a signed statement says of all that is left by its hash alone that it was archived."""
        yield from self.findings
        for number, tally in self._tallies.items():
            archive = ring.archives.get(number)
            if archive is None:
                expected = f"a signed statement that {_events(tally)} were archived"
                yield Finding("archive.unsigned", tally.first, expected, "their hashes, and none")
            elif archive.first >= self._start and not tally.fits(archive):
                expected = f"{archive.events} events as they were when {archive.month} was archived"
                yield Finding("archive.changed", archive.first, expected, f"other hashes or ids, of {tally.events}")
        for number, archive in ring.archives.items():
            if number not in self._tallies and archive.first >= self._start:  # also where its events are still there
                expected = f"{archive.events} events as they were when {archive.month} was archived"
                yield Finding("archive.changed", archive.first, expected, "nothing of them")

    def unread(self) -> tuple[Unread, ...]:
        """What was not read, and why."""
        return tuple(
            Unread(self._claimed[number].month, tally.events, tally.first, tally.last, why)
            for number, why in self._unread.items()
            if (tally := self._tallies.get(number)) is not None and number in self._claimed
        )

    def _hashed(self, left: Left) -> Hashed:
        self._tally(left).add(left)
        if left.archive not in self._readers:
            self._readers[left.archive] = self._open(left.archive)
        try:
            for row in self._readers[left.archive]:
                if row[0] == left.sequence and row[2] == left.event_hash:
                    return row
                if row[0] >= left.sequence:
                    break
            if left.archive in self._claimed and left.archive not in self._unread:
                raise IntegrityError(f"event {left.sequence} is not in it")
        except AuditError as error:
            self._give_up(left.archive, error)
        return self._by_hash(left)

    def _open(self, number: int) -> Iterator[Hashed]:
        if self._is_purged(number):
            self._unread[number] = "it was purged"
        elif (archive := self._claimed.get(number)) is not None:
            try:
                return hash_rows(self._shelf.rows(archive, self._log), self._log)
            except AuditError as error:
                self._give_up(number, error)
        return iter(())

    def _give_up(self, number: int, error: AuditError) -> None:
        """A place that cannot be asked is no finding; an object that is gone, or another one, is."""
        self._readers[number] = iter(())
        archive = self._claimed[number]
        self._unread[number] = str(error)
        if not isinstance(error, StoreUnavailableError):
            self.findings.append(Finding("archive", archive.first, f"{archive.object} as it was archived", str(error)))
        elif self._shelf.is_given:
            raise error

    def _by_hash(self, left: Left) -> Hashed:
        try:
            digest = bytes.fromhex(left.event_hash)
        except (ValueError, TypeError):
            digest = b""
        private = "" if self._is_purged(left.archive) else None  # what lay beside it was removed with it
        return left.sequence, Unknown.LINK, left.event_hash, digest, "", "", None, private

    def _tally(self, left: Left) -> Tally:
        return self._tallies.setdefault(left.archive, Tally())


def _events(tally: Tally) -> str:
    return f"{tally.events} events, {tally.first} to {tally.last}"
