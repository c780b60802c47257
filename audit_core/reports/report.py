"""A report: rows as they are read, which controls they serve, and how complete they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import chain
from typing import Any, Generic, TypeVar

from audit_core.canonical import format_timestamp
from audit_core.event import AuditEvent
from audit_core.noting import not_recorded
from audit_core.query import EventQuery
from audit_core.recorded_ids import RecordedIds
from audit_core.reports.rows import EventRow, FailureRow, SubjectRow

EMPTY = "the trail is empty, and the first event begins it"
R = TypeVar("R", bound=EventRow | FailureRow | SubjectRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[R]):
    """What a report asks, and how the events that answer it become rows."""

    name: str
    title: str
    controls: tuple[str, ...]
    row_type: type[R]
    make_rows: Callable[[Iterator[AuditEvent]], Iterator[R]]
    queries: tuple[EventQuery, ...]  # all of one interval
    ids: tuple[RecordedIds, ...] = ()  # of the resources that it is about
    join: Callable[[Iterable[Iterator[AuditEvent]]], Iterator[AuditEvent]] = chain.from_iterable
    keep: Callable[[AuditEvent], bool] = lambda _: True
    limits: Callable[[], Sequence[str]] = tuple  # what it cannot know, once it is read
    asked: dict[str, Any] = field(default_factory=dict)  # for the event that says that it was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What the report could see when it began. ``start`` is included, ``end`` is not; None is open."""

    start: datetime | None
    end: datetime | None
    begins: datetime | None  # the trail's first event
    sealed: int  # events in the chain
    waiting: int  # committed and not sealed yet
    gaps: int  # gaps that touch the interval
    lost: int  # events that were lost in them, as far as that is known
    uncounted: int = 0  # of these gaps, those of which it is not
    restored: tuple[str, ...] = ()  # in a sentence each: what a backup that was put back lacks of the interval
    not_noted: str | None = None  # why this reading is not in the trail
    reads: tuple[str, ...] = ()  # why reads of the resource may be missing
    purged: tuple[str, ...] = ()  # in a sentence each: what was destroyed of the interval after its retention
    archived: tuple[str, ...] = ()  # months of the interval that were read from archives, as 2026-01
    unnamed: tuple[str, ...] = ()  # why events of the resource may have another id than those that were asked for
    unknown: str | None = None  # a resource type that was asked for, if no event is about any such resource

    @property
    def noted(self) -> bool:
        """Whether this reading is in the trail."""
        return self.not_noted is None

    @property
    def shortcomings(self) -> list[str]:
        """Why the rows may be fewer than what happened."""
        found = []
        if self.lost:
            gaps = _count(self.gaps - self.uncounted, "gap")
            found.append(f"{_count(self.lost, 'event')} of the interval were lost in {gaps}")
        if self.uncounted:
            found.append(f"how much was lost in {_count(self.uncounted, 'gap')} of the interval nobody knows")
        if self.sealed == 0:
            found.append("nothing is sealed yet" if self.waiting else EMPTY)
        elif self.begins is None:
            found.append("when the trail begins cannot be read")
        elif self.start is not None and self.start < self.begins:
            found.append(f"the trail begins only at {format_timestamp(self.begins)}")
        if self.unknown is not None:
            found.append(f"no event of this trail is about a resource of the type {self.unknown!r}")
        return [*found, *self.restored, *self.unnamed, *self.purged, *self.reads]

    def sentences(self) -> list[str]:
        """For a reader."""
        since = "the beginning" if self.start is None else format_timestamp(self.start)
        until = "now" if self.end is None else f"before {format_timestamp(self.end)}"
        lines = [
            f"Interval: from {since} to {until} (UTC).",
            f"Read from {_count(self.sealed, 'sealed event')}, and {self.waiting:,} that waited to be sealed.",
            "Whether the sealed ones are unchanged is for `audit verify` to say.",
        ]
        if self.archived:
            lines.append(f"Read from archives: {', '.join(self.archived)}.")
        lines += [f"Incomplete: {shortcoming}." for shortcoming in self.shortcomings]
        if self.not_noted and EMPTY not in self.shortcomings:
            lines.append(not_recorded(self.not_noted))
        return lines


@dataclass(frozen=True, slots=True)
class Statement:
    """What a report says about one control: evidenced, partly, or not evidenced, and with which figures."""

    control: str
    status: str
    figures: str

    def __str__(self) -> str:
        return f"{self.control}: {self.status} ({self.figures})"


class Report(Generic[R]):
    """Iterate once: rows are read while you do. ``statements`` are known after the last row."""

    def __init__(self, question: Question[R], coverage: Coverage, events: Iterator[AuditEvent]) -> None:
        self.name, self.title, self.controls = question.name, question.title, question.controls
        self.row_type, self.coverage = question.row_type, coverage
        self.columns = tuple(column.name for column in fields(question.row_type))
        self.events = 0  # read so far
        self.rows = 0  # given out so far
        self._limits = question.limits
        self._rows = question.make_rows(self._counted(filter(question.keep, events)))

    def __iter__(self) -> Iterator[R]:
        for row in self._rows:
            self.rows += 1
            yield row

    @property
    def statements(self) -> list[Statement]:
        """One for each control that the report serves. Whether a control is met is for the auditor to say."""
        short = self.coverage.shortcomings
        status = "partly" if self.events and short else "evidenced" if self.events else "not evidenced"
        figures = "; ".join([_count(self.events, "event") if self.events else "no such event in the interval", *short])
        return [Statement(control, status, figures) for control in self.controls]

    @property
    def limits(self) -> list[str]:
        """What such a report cannot know, in sentences; complete after the last row."""
        return list(self._limits())

    def _counted(self, events: Iterator[AuditEvent]) -> Iterator[AuditEvent]:
        for event in events:
            self.events += 1
            yield event


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
