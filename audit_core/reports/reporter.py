"""AuditReporter: what an auditor asks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.errors import IntegrityError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.process.account import PREFIX
from audit_core.query import EQUALS, EventQuery
from audit_core.reports.failures import group_failures, is_failed_access
from audit_core.reports.reads import missing_reads
from audit_core.reports.report import Coverage, Question, R, Report
from audit_core.reports.rows import EventRow, FailureRow
from audit_core.rows import from_row
from audit_core.trail import AuditTrail

HIPAA_AUDIT_CONTROLS = "HIPAA 164.312(b)"
HIPAA_ACTIVITY_REVIEW = "HIPAA 164.308(a)(1)(ii)(D)"
_TEXTS = tuple(f.name for f in fields(AuditEvent) if f.name not in {"timestamp", "details", "sequence", "salts"})
_FAILED = (Outcome.DENIED.value, Outcome.FAILURE.value)
_WITH_PRIVILEGES = (ActorType.ADMIN.value, ActorType.SERVICE.value, ActorType.SYSTEM.value)


class AuditReporter:
    """Reports from one trail, oldest event first unless they say otherwise, in constant memory.

    ``start`` is included and ``end`` is not; None leaves the interval open, and a time without a zone is UTC. That
    a report is read is recorded before its first row. Reading raises IntegrityError where a row is no event at all,
    ConfigurationError and StoreUnavailableError where there is no trail, or none that can be reached.
    """

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def access_report(
        self,
        resource_type: str,
        resource_id: object = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Report[EventRow]:
        """Who looked at or changed this resource; without an id, any resource of the type."""
        query = _query(start, end, resource_type=resource_type, resource_id=resource_id)
        name = resource_type if resource_id is None else f"{resource_type}:{query.resource_id}"
        question = Question(
            name="access",
            title=f"Who looked at or changed {name}",
            controls=("PCI DSS 4.0.1 10.2.1.1", HIPAA_AUDIT_CONTROLS, HIPAA_ACTIVITY_REVIEW),
            row_type=EventRow,
            make_rows=_as_rows,
            queries=(query,),
            asked={"resource": name},
        )
        return self._report(question)

    def privileged_action_report(self, start: datetime | None = None, end: datetime | None = None) -> Report[EventRow]:
        """All actions of administrators, and what people did through service and system accounts."""
        question = Question(
            name="privileged",
            title="All actions of administrators, and of people through service and system accounts",
            controls=("PCI DSS 4.0.1 10.2.1.2", HIPAA_AUDIT_CONTROLS),
            row_type=EventRow,
            make_rows=_as_rows,
            queries=(_query(start, end, actor_types=_WITH_PRIVILEGES),),
            keep=_is_privileged,
        )
        return self._report(question)

    def failed_access_report(
        self, start: datetime | None = None, end: datetime | None = None, min_failures: int = 5
    ) -> Report[FailureRow]:
        """Who was refused, or failed, ``min_failures`` times or more; most failures first.

        Memory grows with the number of actors, accounts and addresses that failed, not with that of their events.
        """
        question = Question(
            name="failures",
            title=f"{min_failures} or more failed or refused requests and log-ins, by actor, account and address",
            controls=("PCI DSS 4.0.1 10.2.1.4", HIPAA_AUDIT_CONTROLS),
            row_type=FailureRow,
            make_rows=partial(group_failures, min_failures=min_failures),
            queries=tuple(_query(start, end, outcome=outcome) for outcome in _FAILED),
            keep=is_failed_access,
            asked={"min_failures": min_failures},
        )
        return self._report(question)

    def newest_events_report(self, query: EventQuery, limit: int) -> Report[EventRow]:
        """The newest events that match, newest first, and no more than ``limit``. This reading is not among them."""
        asked = {name: value for name in EQUALS if (value := getattr(query, name)) is not None}
        question = Question(
            name="events",
            title=f"The newest events, at most {limit:,}",
            controls=(),
            row_type=EventRow,
            make_rows=lambda events: islice(_as_rows(events), min(limit, sys.maxsize)),
            queries=(replace(query, newest_first=True),),
            asked={**asked, "limit": limit},
        )
        return self._report(question)

    def _report(self, question: Question[R]) -> Report[R]:
        sealed = self._trail.store.extent().events  # where there is no trail, nothing is recorded either
        query = question.queries[0]
        start, end, kind = query.since, query.until, query.resource_type
        interval = {"since": start and format_timestamp(start), "until": end and format_timestamp(end)}
        events = chain.from_iterable(map(self._read, question.queries))
        unknown = None if kind is None or any(self._read(EventQuery(resource_type=kind))) else kind
        if query.newest_first:
            events = _begun(events)
        noted = self._trail.note_reading("trail.read", {"report": question.name, **question.asked, **interval})
        coverage = replace(self._coverage(start, end, sealed, noted=noted), unknown=unknown)
        if kind is not None and question.controls:
            started = self._read(EventQuery(action="trail.started", until=end))
            coverage = replace(coverage, reads=missing_reads(kind, started, start))
        return Report(question, coverage, events)

    def _coverage(self, start: datetime | None, end: datetime | None, sealed: int, *, noted: bool) -> Coverage:
        gaps = [lost for gap in self._read(EventQuery(action="trail.gap")) if (lost := _lost(gap, start, end))]
        return Coverage(
            start=start,
            end=end,
            begins=self._begin(),
            sealed=sealed,
            waiting=sum(1 for _ in self._trail.waiting()),
            gaps=len(gaps),
            lost=sum(gaps),
            noted=noted,
        )

    def _begin(self) -> datetime | None:
        try:
            row = self._trail.store.row(0)
            return from_row(row).timestamp if row else None
        except (ValueError, TypeError):
            return None

    def _read(self, query: EventQuery) -> Iterator[AuditEvent]:
        try:
            yield from map(readable, self._trail.select(query))
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"A row of the trail is no event ({type(error).__name__}): run `audit verify`, which names it."
            ) from error


def readable(event: AuditEvent) -> AuditEvent:
    """The event with text where somebody put something else: whether it was changed is for verification to say."""
    strange: dict[str, Any] = {
        name: repr(value) for name in _TEXTS if not isinstance(value := getattr(event, name), str | None)
    }
    return replace(event, **strange) if strange else event


def _begun(events: Iterator[AuditEvent]) -> chain[AuditEvent]:
    """The same events; what is recorded from now on is newer than the first of them, and is not read."""
    first = list(islice(events, 1))
    return chain(first, events)


def _as_rows(events: Iterator[AuditEvent]) -> Iterator[EventRow]:
    return map(EventRow.of, events)


def _is_privileged(event: AuditEvent) -> bool:
    """An administrator, or somebody who uses another account interactively (PCI DSS 10.2.1.2).

    Whether a command was typed or started by a timer nobody can tell: all that had an account of the system count.
    """
    if event.actor_type == ActorType.ADMIN or event.on_behalf_of or event.session_id:
        return True
    return (event.actor_id or "").startswith(PREFIX)


def _lost(gap: AuditEvent, start: datetime | None, end: datetime | None) -> int:
    """How many events this gap lost, if it touches the interval."""
    details, stamp = gap.details, format_timestamp(gap.timestamp)
    since, until = str(details.get("since", stamp)), str(details.get("until", stamp))
    outside = (end is not None and since >= format_timestamp(end)) or (
        start is not None and until < format_timestamp(start)
    )
    lost = details.get("lost")
    return 0 if outside or not isinstance(lost, int) else lost


def _query(start: datetime | None, end: datetime | None, **wanted: Any) -> EventQuery:
    return EventQuery(since=_utc(start), until=_utc(end), newest_first=False, **wanted)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
