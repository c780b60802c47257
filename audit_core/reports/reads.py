"""Whether reads of a resource were audited at all: what each process that serves requests says when it starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from audit_core.canonical import format_timestamp
from audit_core.event import AuditEvent
from audit_core.policy import is_about


def missing_reads(resource_type: str, started: Iterable[AuditEvent], start: datetime | None) -> tuple[str, ...]:
    """Why reads of ``resource_type`` may be missing; ``started`` are the events ``trail.started``, newest first."""
    count, without, last = 0, 0, ""
    routes: dict[str, None] = {}
    skipped: dict[str, None] = {}
    for event in _that_count(started, start):
        count += 1
        skipped |= dict.fromkeys(path for path in _texts(event, "skip") if is_about(path, resource_type))
        if resource_type not in _texts(event, "reads"):
            without, last = without + 1, last or format_timestamp(event.timestamp)
            routes |= dict.fromkeys(_routes(event, resource_type))
    never = [f"requests to {', '.join(skipped)} were not audited"] if skipped else []
    if not count:
        return (f"whether reads of {resource_type!r} were audited is not known", *never)
    if not without:
        return tuple(never)
    if without < count:
        some = f"{without:,} of {count:,} processes that started, the last at {last}"
        return (f"reads of {resource_type!r} were not audited by {some}", *never)
    if routes:
        only = f"only at {', '.join(routes)}, and at routes that are marked one by one"
        return (f"reads of {resource_type!r} were audited {only}", *never)
    return (f"reads of {resource_type!r} were not audited, except at routes that are marked one by one", *never)


def _that_count(started: Iterable[AuditEvent], start: datetime | None) -> Iterator[AuditEvent]:
    """Those of the interval that say it, and the newest from before it."""
    for event in started:
        if isinstance(event.details.get("reads"), list):
            yield event
            if start is not None and event.timestamp < start:
                return


def _routes(event: AuditEvent, resource_type: str) -> Iterator[str]:
    """The routes of this resource whose reads leave an event."""
    yield from (route for route in _texts(event, "reads") if is_about(route, resource_type))
    rules = event.details.get("rules")
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict) and _is_about(rule, resource_type) and _is_of_reads(rule):
            yield str(rule.get("route"))


def _is_about(rule: dict[str, Any], resource_type: str) -> bool:
    named = rule.get("resource")
    if isinstance(named, str):
        return named.partition(":")[0] == resource_type
    return is_about(str(rule.get("route")), resource_type)


def _is_of_reads(rule: dict[str, Any]) -> bool:
    methods = rule.get("methods")
    return not methods or (isinstance(methods, list) and "GET" in methods)


def _texts(event: AuditEvent, name: str) -> list[str]:
    """What a start says, as far as it is that: whether it was changed is for verification to say."""
    said = event.details.get(name)
    return [text for text in said if isinstance(text, str)] if isinstance(said, list) else []
