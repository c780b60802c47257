"""``audit archive``: months go out whole, and are gone from the trail only when all that proofs need is committed.

What a crash leaves: before the statement, an object that no statement names and that the next try writes again, byte
for byte; after it, on SQLite, events that are still there although they are archived, which the next try removes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audit_core.archives.objects import digest_of, read_object, write_object
from audit_core.archives.places import ArchivePlace
from audit_core.chain import AuditChain
from audit_core.errors import BusyError, ConfigurationError, IntegrityError
from audit_core.event import AuditEvent
from audit_core.integrity.retention import Archive, Hold, Tally
from audit_core.integrity.statement import ARCHIVED
from audit_core.retention.holds import held_in
from audit_core.retention.months import Months, left_of, open_months, stays
from audit_core.retention.policies import Retention, Stays
from audit_core.rows import Row
from audit_core.stores import Left

TRIES = 3  # to write a month into which late events come meanwhile


@dataclass(frozen=True, slots=True)
class Held:
    """A month that stays because something in it must be kept."""

    month: str
    hold: Hold


class _Said(NamedTuple):
    """What decides whether a month goes: it may change while that is written, which takes its time."""

    holds: list[Hold]
    archives: list[Archive]  # of this month


@dataclass(slots=True)
class Archiver:
    """Moves the months of one trail to one place. ``make_event`` says who does it, and when.

    What the ``retention`` keeps at hand stays.
    """

    chain: AuditChain
    place: ArchivePlace
    make_event: Callable[[str], AuditEvent]
    retention: Retention | None = None

    def run(self, before: str) -> Iterator[Archive | Held | Stays]:
        """Archive every month before this one; each as it is done. May be run again at any time.

        Raises ConfigurationError for a store that is not archived, for who may not, and for a trail that has not
        begun; IntegrityError for a month that was tampered with; StoreUnavailableError.
        """
        months = open_months(self.chain.store)
        if (log := self.chain.origin) is None:
            raise ConfigurationError("The trail has not begun: there is nothing to archive.")
        months.prepare(before)
        months.finish()
        for month in months.until(before):
            if (found := self._archive(months, month, log)) is not None:
                yield found

    def _archive(self, months: Months, month: str, log: str) -> Archive | Held | Stays | None:
        if self.retention and (kept := self.retention.keeps_at_hand(month, lambda: months.rows(month), log)):
            return kept
        with tempfile.TemporaryDirectory(prefix="audit-archive-") as folder:
            for number in range(TRIES):
                said = self._said_of(month)
                if (hold := held_in(self.chain.store, month, said.holds)) is not None:
                    return Held(month, hold)
                draft = Path(folder) / str(number)
                if (written := _write(months, month, log, draft)) is None:
                    return None
                self._put(written, log, draft, Path(folder) / f"{number}-back")
                archive = self._move(months, written, log, said)
                months.finish()
                if archive is not None:
                    return archive
        raise BusyError(f"Something of {month} comes in all the time: run it again later.")

    def _said_of(self, month: str) -> _Said:
        if (ring := self.chain.keyring) is None:
            return _Said([], [])
        return _Said([*ring.holds.values()], [one for one in ring.archives.values() if one.month == month])

    def _put(self, written: Archive, log: str, draft: Path, back: Path) -> None:
        """Write it, and believe only what is read back."""
        self.place.put(written.object, draft)
        back.mkdir()
        kept = self.place.fetch(written.object, back)
        if kept is None or digest_of(kept) != (written.sha256, written.size) or not _holds(kept, written, log):
            raise IntegrityError(
                f"{self.place.url} gives back another {written.object} than was written: nothing is removed."
            )

    def _move(self, months: Months, written: Archive, log: str, said: _Said) -> Archive | None:
        """State it, and remove the events; None where the month, or what is said of it, is not any more what it was."""
        store = self.chain.store
        with store.transaction(patient=True) as connection:
            if self._said_of(written.month) != said:
                return None
            tally = _tally(months.going(written.month, log, connection))
            if not tally.fits(written) or (head := store.head(connection)) is None:
                return None
            archive = written._replace(sequence=head.tree_size, place=self.place.url)
            self.chain.state(ARCHIVED, archive.says, self.make_event(ARCHIVED), connection)
            months.leave(archive.month, archive.sequence, log, connection)
            months.drop(archive.month, log, connection)
        return archive


def _write(months: Months, month: str, log: str, path: Path) -> Archive | None:
    """An object of the month's events, and what its statement will say; None where there is nothing to archive."""
    tally = Tally()

    def rows() -> Iterator[Row]:
        for row in months.rows(month):
            if not stays(row, log):
                tally.add(left_of(row))
                yield row

    write_object(rows(), log, month, path)
    if not tally.events:
        return None
    digest, size = digest_of(path)
    name = f"{month}-{tally.first:020d}-{digest[:16]}.jsonl.gz"
    return Archive(-1, month, tally.events, tally.first, tally.last, tally.hashes, name, digest, size, "")


def _holds(path: Path, written: Archive, log: str) -> bool:
    return _tally(map(left_of, read_object(path, log))).fits(written)


def _tally(entries: Iterable[Left]) -> Tally:
    tally = Tally()
    for entry in entries:
        tally.add(entry)
    return tally
