"""AuditReporter: what an auditor asks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.chain.purged import archived_in, purged_in, restored_in
from audit_core.compose import Resource, split_resource
from audit_core.errors import IntegrityError, StoreUnavailableError
from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.normalise import FIELD_LIMITS, clean_text
from audit_core.process.account import PREFIX
from audit_core.query import EQUALS, EventQuery
from audit_core.recorded_ids import LACKS_KEY, UNNAMED, RecordedIds
from audit_core.redaction import REDACTED
from audit_core.reports.failures import group_failures, is_failed_access
from audit_core.reports.reads import missing_reads
from audit_core.reports.report import Coverage, Question, R, Report
from audit_core.reports.rows import EventRow, FailureRow, SubjectRow
from audit_core.reports.subject import Subject, by_time
from audit_core.rows import from_row
from audit_core.stores import AuditStore
from audit_core.trail import AuditTrail
from audit_core.trails import AuditTrails

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

    def __init__(self, trail: AuditTrail | AuditTrails) -> None:
        """Of several chains a report has the events of all, and each chain has an event of its being read."""
        self._trail = trail
        self._named = {"": trail} if isinstance(trail, AuditTrail) else trail.chains
        self._trails = list(self._named.values())

    def access_report(
        self,
        resource_type: str,
        resource_id: object = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Report[EventRow]:
        """Who looked at or changed this resource; without an id, any resource of the type."""
        ids = () if resource_id is None else (self._ids(resource_type, resource_id),)
        query = _query(start, end, **(ids[0].asked if ids else {"resource_type": resource_type}))
        name = ids[0].name if ids else resource_type
        question = Question(
            name="access",
            title=f"Who looked at or changed {name}",
            controls=("PCI DSS 4.0.1 10.2.1.1", HIPAA_AUDIT_CONTROLS, HIPAA_ACTIVITY_REVIEW),
            row_type=EventRow,
            make_rows=_as_rows,
            queries=(query,),
            ids=ids,
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

    def subject_report(
        self,
        *,
        actors: Iterable[object] = (),
        resources: Iterable[Resource] = (),
        start: datetime | None = None,
        end: datetime | None = None,
        tenant: str | None = None,
        open_types: Collection[str] = (),
        open_details: Collection[str] = (),
        hide_names: bool = False,
    ) -> Report[SubjectRow]:
        """Everything about one person (GDPR Art. 15): who looked at or changed what is theirs, and what they did.

        ``actors`` are the person's ids, as whoever acts and as whom somebody acted for; ``resources`` what is about
        nobody but them, ``("patient", "7")`` or ``"patient:7"``. In a trail of several tenants ids may repeat: give
        the ``tenant``. What is or may be of others is withheld, except resources of ``open_types`` and details with
        these names; ``hide_names`` numbers those who looked. Raises ValueError where nobody is named, or a resource
        has no id.
        """
        subject = Subject(
            actors=tuple(dict.fromkeys(clean_text(actor, FIELD_LIMITS["actor_id"]) for actor in _several(actors))),
            resources=tuple(dict.fromkeys(self._one_resource(resource) for resource in _several(resources))),
            tenant=tenant, open_types=_several(open_types), open_details=_several(open_details), hide_names=hide_names,
        )  # fmt: skip
        if not subject.names:
            raise ValueError("Who is it? Give an id of the person's as an actor, or a resource that is about them.")
        question = Question(
            name="subject",
            title=f"What the audit trail holds about {', '.join(subject.names)}",
            controls=("GDPR Art. 15",),
            row_type=SubjectRow,
            make_rows=subject.rows,
            queries=subject.queries(_utc(start), _utc(end)),
            ids=tuple(subject.resources),
            join=by_time,
            keep=subject.concerns,
            limits=subject.limits,
            asked={
                "actors": list(subject.actors),
                "resources": [one.name for one in subject.resources],
                "tenant": tenant,
            },
        )
        return self._report(question)

    def newest_events_report(self, query: EventQuery, limit: int) -> Report[EventRow]:
        """The newest events that match, newest first, and no more than ``limit``. This reading is not among them."""
        asked = {name: value for name in EQUALS if (value := getattr(query, name)) is not None}
        ids: tuple[RecordedIds, ...] = ()
        if query.resource_type is not None and query.resource_id is not None:
            ids = (self._ids(query.resource_type, query.resource_id),)
            query = replace(query, **{"resource_id": None, **ids[0].asked})
            asked["resource_id"] = ids[0].shown
        question = Question(
            name="events",
            title=f"The newest events, at most {limit:,}",
            controls=(),
            row_type=EventRow,
            make_rows=lambda events: islice(_as_rows(events), min(limit, sys.maxsize)),
            queries=(replace(query, newest_first=True),),
            ids=ids,
            asked={**asked, "limit": limit},
        )
        return self._report(question)

    def _report(self, question: Question[R]) -> Report[R]:
        sealed = sum(
            trail.store.extent().events for trail in self._trails
        )  # where there is no trail, nothing is recorded either
        query = question.queries[0]
        start, end = query.since, query.until
        kinds = list(dict.fromkeys(one.resource_type for one in question.queries if one.resource_type is not None))
        interval = {"since": start and format_timestamp(start), "until": end and format_timestamp(end)}
        events = question.join(map(self._read, question.queries))
        unknown = next((kind for kind in kinds if not self._may_have(EventQuery(resource_type=kind))), None)
        if query.newest_first:
            events = _begun(events)
        reading = {"report": question.name, **question.asked, **interval}
        each = [trail.note_reading("trail.read", reading) for trail in self._trails]
        why = next(filter(None, each), None)
        unnamed = tuple(self._unnamed(question.ids, query))
        coverage = replace(self._coverage(start, end, sealed, why), unknown=unknown, unnamed=unnamed)
        if question.controls:
            coverage = replace(coverage, reads=tuple(chain.from_iterable(self._missing(kinds, start, end))))
        return Report(question, coverage, events)

    def _unnamed(self, ids: Iterable[RecordedIds], query: EventQuery) -> Iterator[str]:
        for kind in dict.fromkeys(one.resource_type for one in ids if one.lacks_key):
            yield LACKS_KEY.format(kind)
        for kind in dict.fromkeys(one.resource_type for one in ids if one.is_secret):
            asked = EventQuery(resource_type=kind, resource_id=REDACTED, since=query.since, until=query.until)
            if any(True for _ in self._read(asked)):
                yield UNNAMED.format(kind)

    def _missing(self, kinds: Iterable[str], start: datetime | None, end: datetime | None) -> Iterator[tuple[str, ...]]:
        for kind in kinds:
            started = self._started(start, end)
            yield missing_reads(kind, started, start)

    def _started(self, start: datetime | None, end: datetime | None) -> Iterator[AuditEvent]:
        """Newest first; those of the interval, and of those before it what can be had without asking for more."""
        yield from self._read(EventQuery(action="trail.started", since=start, until=end))
        if start is not None:
            with suppress(StoreUnavailableError, IntegrityError):  # of an archive: then nobody has said it
                yield from self._read(EventQuery(action="trail.started", until=min(start, end or start)))

    def _may_have(self, query: EventQuery) -> bool:
        """Whether there is an event, or one may lie in an archive that is not at hand."""
        try:
            return any(True for _ in self._read(query))
        except (StoreUnavailableError, IntegrityError):
            return True

    def _coverage(self, start: datetime | None, end: datetime | None, sealed: int, not_noted: str | None) -> Coverage:
        asked = EventQuery(since=start, until=end)
        told = self._read(EventQuery(action="trail.gap", since=start))  # each when it is over, or later
        gaps = [lost for gap in told if (lost := _lost(gap, start, end)) != 0]
        return Coverage(
            start=start,
            end=end,
            begins=self._begin(),
            sealed=sealed,
            waiting=sum(1 for trail in self._trails for _ in trail.waiting()),
            gaps=len(gaps),
            lost=sum(lost or 0 for lost in gaps),
            uncounted=gaps.count(None),
            restored=tuple(self._of_each(restored_in, asked)),
            purged=tuple(self._of_each(purged_in, asked)),
            archived=tuple(sorted({month for trail in self._trails for month in archived_in(trail.store, asked)})),
            not_noted=not_noted,
        )

    def _of_each(self, gone: Callable[[AuditStore, EventQuery], Iterable[object]], asked: EventQuery) -> Iterator[str]:
        """What is not there any more, and of several chains in which one."""
        for name, trail in self._named.items():
            yield from (f"{name}: {one}" if name else str(one) for one in gone(trail.store, asked))

    def _begin(self) -> datetime | None:
        """Of several chains the one that is longest there: the others had nothing before they began."""
        try:
            rows = [trail.store.row(0) for trail in self._trails]
            return min((from_row(row).timestamp for row in rows if row), default=None)
        except (ValueError, TypeError):
            return None

    def _ids(self, kind: str, identifier: object) -> RecordedIds:
        """Those that it may have in any of the chains, shown as none of them minds."""
        each = [trail.recorded_ids(kind, identifier) for trail in self._trails]
        shown = next((one for one in each if one.shown not in each[0].any_of[:1]), each[0])
        any_of = dict.fromkeys(chain.from_iterable(one.any_of for one in each))
        return shown._replace(any_of=tuple(any_of), lacks_key=any(one.lacks_key for one in each))

    def _one_resource(self, resource: Resource) -> RecordedIds:
        """All of a type would be about everybody."""
        kind, name = split_resource(resource)
        if not kind or not kind.strip() or name is None:
            raise ValueError(f"{resource!r} is no resource that is about one person: give its type and id, patient:7.")
        return self._ids(kind, name)

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


def _several(named: Iterable[Any]) -> tuple[Any, ...]:
    """One text is one name: its letters may be those of others."""
    return (named,) if isinstance(named, str) else tuple(named)


def _as_rows(events: Iterator[AuditEvent]) -> Iterator[EventRow]:
    return map(EventRow.of, events)


def _is_privileged(event: AuditEvent) -> bool:
    """An administrator, or somebody who uses another account interactively (PCI DSS 10.2.1.2).

    Whether a command was typed or started by a timer nobody can tell: all that had an account of the system count.
    """
    if event.actor_type == ActorType.ADMIN or event.on_behalf_of or event.session_id:
        return True
    return (event.actor_id or "").startswith(PREFIX)


def _lost(gap: AuditEvent, start: datetime | None, end: datetime | None) -> int | None:
    """How many events this gap lost, if it touches the interval; None where nobody knows."""
    details, stamp = gap.details, format_timestamp(gap.timestamp)
    since, until = str(details.get("since", stamp)), str(details.get("until", stamp))
    outside = (end is not None and since >= format_timestamp(end)) or (
        start is not None and until < format_timestamp(start)
    )
    lost = details.get("lost")
    return 0 if outside else lost if isinstance(lost, int) else None


def _query(start: datetime | None, end: datetime | None, **wanted: Any) -> EventQuery:
    return EventQuery(since=_utc(start), until=_utc(end), newest_first=False, **wanted)


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
