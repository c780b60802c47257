"""Failed and refused access, counted by whom it came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from audit_core.event import ActorType, AuditEvent, Outcome
from audit_core.private import NOT_THERE
from audit_core.reports.rows import FailureRow

NEIGHBOURS = 64  # events of a group among which those of one request are looked for
_ACCOUNT = ("account", "username")  # what a log-in that failed calls the account it tried


@dataclass(slots=True)
class _Group:
    first: datetime
    last: datetime
    last_action: str = ""
    last_sequence: int | None = None
    last_event_id: str = ""
    denied: int = 0
    failed: int = 0
    requests: deque[str] = field(default_factory=partial(deque, maxlen=NEIGHBOURS))


def is_failed_access(event: AuditEvent) -> bool:
    """Whether somebody tried something: not the trail's own troubles, and not a response that broke off later."""
    is_the_trails_own = event.actor_type == ActorType.SYSTEM and event.actor_id is None
    return not is_the_trails_own and event.action != "response.broken"


def group_failures(events: Iterator[AuditEvent], min_failures: int) -> Iterator[FailureRow]:
    """The groups with ``min_failures`` or more, most failures first."""
    groups: dict[tuple[str, str], _Group] = {}
    for event in events:
        for key in _keys(event):
            if (group := groups.get(key)) is None:
                group = groups[key] = _Group(event.timestamp, event.timestamp)
            if not _is_counted(group, event):
                _count(group, event)
    repeated = ((key, group) for key, group in groups.items() if group.denied + group.failed >= min_failures)
    for (by, who), group in sorted(repeated, key=lambda pair: (-pair[1].denied - pair[1].failed, pair[0])):
        yield FailureRow(
            by=by,
            who=who,
            failures=group.denied + group.failed,
            denied=group.denied,
            failed=group.failed,
            first=group.first,
            last=group.last,
            last_action=group.last_action,
            last_sequence=group.last_sequence,
            last_event_id=group.last_event_id,
        )


def _keys(event: AuditEvent) -> Iterator[tuple[str, str]]:
    """An account is what somebody claimed who could not show that he is the actor."""
    if event.actor_id is not None:
        yield "actor", event.actor_id
    elif account := next((value for name in _ACCOUNT if (value := event.details.get(name))), None):
        yield "account", str(account)
    if event.ip_address is not None and event.ip_address not in NOT_THERE:
        yield "address", event.ip_address


def _is_counted(group: _Group, event: AuditEvent) -> bool:
    """A log-in that failed may leave two events, its own and its request's: one failure all the same."""
    if event.request_id is None:
        return False
    if event.request_id in group.requests:
        return True
    group.requests.append(event.request_id)
    return False


def _count(group: _Group, event: AuditEvent) -> None:
    if event.outcome == Outcome.DENIED:
        group.denied += 1
    else:
        group.failed += 1
    group.first = min(group.first, event.timestamp)
    if event.timestamp >= group.last:
        group.last, group.last_action = event.timestamp, event.action
        group.last_sequence, group.last_event_id = event.sequence, event.event_id
