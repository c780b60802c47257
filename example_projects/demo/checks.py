"""The trail against the ledger: what the clients know must be in it, once, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TypeVar

from audit_core import AuditEvent
from audit_core.reports import EventRow
from example_projects.demo.client import Answer, Ledger
from example_projects.demo.show import Show

CHANGES = {"create", "update", "delete"}
CLINICAL = {"patient", "note"}
Read = TypeVar("Read", AuditEvent, EventRow)
NAMED = 3  # examples that a failed check gives


def compare(show: Show, ledger: Ledger, events: Sequence[AuditEvent]) -> None:
    """Every comparison that can be made."""
    show.check("every request was answered as it must", not ledger.unexpected, some(ledger.unexpected))
    everything_happened(show, ledger)
    one_event_per_request(show, ledger, events)
    events_say_what_was_answered(show, ledger, events)
    one_event_per_change(show, ledger, events)
    nothing_of_what_was_undone(show, ledger, events)
    no_secrets(show, ledger, events)
    waiting = [event for event in events if not event.sealed]
    show.check("everything is sealed", not waiting, some(waiting))


def everything_happened(show: Show, ledger: Ledger) -> None:
    """A day on which something never happened shows nothing."""
    done = Counter((answer.action, answer.status) for answer in ledger.answers)
    wanted = {
        "a log-in": ("POST /login", 200),
        "a failed log-in": ("POST /login", 401),
        "a patient created": ("POST /patients", 201),
        "a patient read": ("GET /patients/{patient_id}", 200),
        "a patient changed": ("PATCH /patients/{patient_id}", 200),
        "a patient deleted": ("DELETE /patients/{patient_id}", 200),
        "a note": ("POST /patients/{patient_id}/notes", 201),
        "a transaction rolled back": ("patient.merge", 409),
        "a request refused": ("DELETE /patients/{patient_id}", 403),
        "a request that raised": ("POST /patients/{patient_id}/letter", 500),
    }
    missing = [name for name, key in wanted.items() if not done[key]]
    if not any(answer.hostile for answer in ledger.answers) or not ledger.turned_away:
        missing.append("hostile headers")
    show.check("everything happened that makes up a day", not missing, ", ".join(missing))


def one_event_per_request(show: Show, ledger: Ledger, events: Sequence[AuditEvent]) -> None:
    """By the id that came back with the answer. FastAPI's answer to an exception has none: by what it was, then."""
    given = {answer.request_id for answer in ledger.answers}
    wanted = Counter(answer.request_id or str(claim(answer)) for answer in ledger.answers if answer.is_audited)
    recorded = filter(is_of_request, events)
    found = Counter(str(event.request_id if event.request_id in given else told(event)) for event in recorded)
    show.check(
        f"each of the {wanted.total()} audited requests has exactly one event, and no other has any",
        wanted == found,
        f"without: {some(wanted - found)}; too many: {some(found - wanted)}",
    )


def events_say_what_was_answered(show: Show, ledger: Ledger, events: Sequence[AuditEvent]) -> None:
    """Who, what, to whom, from where, and how it ended."""
    by_id = {event.request_id: event for event in events if is_of_request(event)}
    pairs = [(claim(answer), by_id.get(answer.request_id)) for answer in ledger.answers]
    wrong = [f"{wanted} is {told(event)}" for wanted, event in pairs if event and told(event) != wanted]
    show.check("each says who asked, from where, for which patient, and how it ended", not wrong, some(wrong))


def one_event_per_change(show: Show, ledger: Ledger, events: Sequence[AuditEvent]) -> None:
    found = Counter((e.action, str(e.resource_type), str(e.resource_id)) for e in clinical_changes(events))
    wanted = ledger.changes
    show.check(
        f"each of the {wanted.total()} committed changes has exactly one event, and nothing else has any",
        wanted == found,
        f"without: {some(wanted - found)}; too many: {some(found - wanted)}",
    )


def nothing_of_what_was_undone(show: Show, ledger: Ledger, events: Sequence[AuditEvent]) -> None:
    undone = {answer.request_id for answer in ledger.answers if answer.status >= 400}
    found = [event for event in clinical_changes(events) if event.request_id in undone]
    attempts = sum(answer.status in {409, 500} for answer in ledger.answers)
    show.check(f"what was rolled back {attempts} times left no change", not found, some(found))


def no_secrets(show: Show, ledger: Ledger, events: Iterable[AuditEvent]) -> None:
    text = "\n".join(map(repr, events))
    found = sum(secret in text for secret in ledger.secrets)
    show.check(
        f"none of {len(ledger.secrets)} passwords, tokens and social-security numbers is in the trail",
        not found,
        f"{found} are",
    )


def is_of_request(event: AuditEvent | EventRow) -> bool:
    return "status" in event.details and "method" in event.details


def clinical_changes(events: Iterable[Read]) -> list[Read]:
    """Of patients and notes; accounts and sessions are the framework's own business."""
    return [event for event in events if event.action in CHANGES and event.resource_type in CLINICAL]


def some(things: Collection[object]) -> str:
    shown = "; ".join(map(str, list(things)[:NAMED]))
    return f"{shown} and {len(things) - NAMED} more" if len(things) > NAMED else shown or "none"


def claim(answer: Answer) -> tuple[object, ...]:
    return answer.actor, answer.action, answer.patient, answer.outcome, answer.status, answer.address


def told(event: AuditEvent) -> tuple[object, ...]:
    return (
        event.actor_id, event.action, event.resource_id, event.outcome, event.details["status"], event.ip_address
    )  # fmt: skip
