"""What the trail holds about one person, as that person may see it (GDPR Art. 15).

Art. 15(4): the copy must not adversely affect others. So what is shown is listed here, and all the rest is withheld:
what another one sent, where it came from, in whose name, and what was changed of somebody else's.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from audit_core.event import AuditEvent
from audit_core.history import without_repeats
from audit_core.query import EventQuery, place_of
from audit_core.recorded_ids import RecordedIds
from audit_core.reports.rows import SubjectRow

READ = "trail.read"  # the event of whoever reads the trail; its details say about whom
ABOUT, BY, BOTH = "about", "by", "both"
UNFOUND = (
    "The trail finds a person by the names that are given here. Where an event has the person by another name, in a "
    "list of many, in a free text or not at all (a log-in that failed, say), it is not in this report."
)
OUTSIDE = (
    "What happened outside of the application that keeps the trail is not in it: on paper, in backups and exported "
    "copies, or directly in the database."
)
GONE = "What was removed from the trail after its time, or erased from it, is not in it any more."
WITHHELD = 'What "withheld" names is not shown: it is or may be about other people (GDPR Art. 15(4)).'


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One person, by all the names that the trail has for them, and what of others may be shown."""

    actors: Collection[str]
    resources: Collection[RecordedIds]
    tenant: str | None = None
    open_types: Collection[str] = ()  # of resources in which there is nothing of others
    open_details: Collection[str] = ()  # names of details in which there is nothing of others
    hide_names: bool = False
    found: Counter[str] = field(default_factory=Counter)  # how many events have which name

    @property
    def names(self) -> list[str]:
        """For a reader."""
        return [*map(_actor_name, self.actors), *(one.name for one in self.resources)]

    def queries(self, since: datetime | None, until: datetime | None) -> tuple[EventQuery, ...]:
        """What to read, each by time; one event may be in several."""
        asked: list[dict[str, Any]] = [one.asked for one in self.resources]
        for actor in self.actors:
            asked += [{"actor": actor}, {"on_behalf_of": actor}]
        if self.resources:
            asked.append({"action": READ})
        return tuple(
            EventQuery(since=since, until=until, newest_first=False, tenant=self.tenant, **one) for one in asked
        )

    def limits(self) -> list[str]:
        """What the report cannot know; once it is read, also which of the names no event has."""
        unknown = [name for name in self.names if not self.found[name]]
        missing = [f"No event of the interval has the name {name}: it may be misspelt." for name in unknown]
        return [*missing, UNFOUND, OUTSIDE, GONE, WITHHELD]

    def concerns(self, event: AuditEvent) -> bool:
        """Whether it is about the person or by them; a reading of the trail is, where it was about them."""
        mine, theirs = self._acting_names(event), self._resource_names(event)
        self.found.update(mine if event.action == READ else [*mine, *theirs])  # a reading shows only who asked
        return bool(mine or theirs)

    def rows(self, events: Iterable[AuditEvent]) -> Iterator[SubjectRow]:
        """One of each event; memory grows with the number of people whose names are hidden."""
        numbers: dict[str, int] = {}
        for event in events:
            yield self._row(event, numbers)

    def _acting_names(self, event: AuditEvent) -> set[str]:
        return {_actor_name(one) for one in (event.actor_id, event.on_behalf_of) if one in self.actors and one}

    def _resource_names(self, event: AuditEvent) -> set[str]:
        """Who reads a report about all of a kind reads about each of them."""
        for one in self.resources:
            if event.resource_type == one.resource_type and event.resource_id in one.any_of:
                return {one.name}
        if event.action != READ:
            return set()
        several = event.details.get("resources")
        told = [event.details.get("resource"), *(several if isinstance(several, list) else ())]
        read = {one for one in told if isinstance(one, str)}
        return {
            one.name
            for one in self.resources
            if one.resource_type in read or any(f"{one.resource_type}:{name}" in read for name in one.any_of)
        }

    def _row(self, event: AuditEvent, numbers: dict[str, int]) -> SubjectRow:
        by, about = bool(self._acting_names(event)), bool(self._resource_names(event))
        is_self = event.actor_id in self.actors
        is_open = about or event.resource_type in self.open_types
        changes = event.details.get("changes")
        shown = changes if is_open and isinstance(changes, dict) else {}
        details = {name: value for name, value in event.details.items() if name in self.open_details}
        rest = event.details.keys() - details.keys() - ({"changes"} if shown else set())
        hidden = {
            "name": self.hide_names and not is_self and event.actor_id is not None,
            "on behalf of": event.on_behalf_of is not None and event.on_behalf_of not in self.actors,
            "resource id": event.resource_id is not None and not is_open,
            "address and browser": bool(event.ip_address or event.user_agent) and not is_self,
            "details": bool(rest),
        }
        return SubjectRow(
            timestamp=event.timestamp,
            relation=BOTH if by and about else BY if by else ABOUT,
            who=_numbered(event.actor_id, numbers) if hidden["name"] else event.actor_id,
            who_is=event.actor_type,
            is_self=is_self,
            in_their_name=by and not is_self,
            action=event.action,
            resource_type=event.resource_type,
            resource_id=event.resource_id if is_open else None,
            outcome=event.outcome,
            ip_address=event.ip_address if is_self else None,
            user_agent=event.user_agent if is_self else None,
            changes=shown,
            details=details,
            withheld=", ".join(name for name, is_hidden in hidden.items() if is_hidden),
            sequence=event.sequence,
            event_id=event.event_id,
        )  # fmt: skip


def by_time(readings: Iterable[Iterator[AuditEvent]]) -> Iterator[AuditEvent]:
    """The events of several queries as one stream, each once."""
    return without_repeats(heapq.merge(*readings, key=place_of))


def _actor_name(actor: str) -> str:
    return f"actor {actor}"


def _numbered(actor: str | None, numbers: dict[str, int]) -> str:
    """Whoever it is stays one person, whose name is not told."""
    return f"person {numbers.setdefault(str(actor), len(numbers) + 1)}"
