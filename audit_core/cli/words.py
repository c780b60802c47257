"""Findings, results and errors in words."""

from __future__ import annotations

import re

from audit_core.chain.verification import Verification
from audit_core.cli.schema_words import describe_schema
from audit_core.errors import AuditError
from audit_core.integrity.verify import Finding, Result
from audit_core.rows import STORED_COLUMNS, Row
from audit_core.trail import AuditTrail
from audit_core.urls import without_password

_AT = {name: place for place, name in enumerate(STORED_COLUMNS)}
_WORDS = {
    "edited": "{place} was changed after it was sealed{strange}.",
    "edited.unsigned": "{place} stands after the last checkpoint, and is not what its hash says{strange}: it was put "
    "in at the end, or changed after its checkpoint was removed.",
    "missing": "{removed}",
    "unlinked": "{place} does not follow the event before it: it was put here, or its neighbour was replaced.",
    "duplicate": "{place} is there twice: {got}.",
    "checkpoint.missing": "The signed checkpoints have a hole at {sequence} events: expected {expected}, got {got}.",
    "checkpoint.unreadable": "The checkpoint of {sequence} events cannot be read: expected {expected}, got {got}.",
    "checkpoint.signature": "The checkpoint of {sequence} events is not signed with the key: expected {expected}.",
    "checkpoint.root": "The checkpoint of {sequence} events was signed over other events than these.",
    "checkpoint.frontier": "The tree kept with the checkpoint of {sequence} events is another one.",
    "clock": "The clock was turned back before the checkpoint of {sequence} events: expected {expected}, got {got}.",
    "clock.anchor": "The clock was turned back before the checkpoint of {sequence} events, or that of {where} is "
    "wrong: expected {expected}, got {got}.",
    "known": "The checkpoint of {sequence} events {kept} does not fit: it was taken of other events than these.",
    "truncated": "The trail is cut off at {sequence} events: expected {expected} {kept}, got {got}.",
    "object": "The object of the events from {sequence} on: expected {expected}, got {got}. What was locked first is "
    "what is read.",
    "object.strange": "In the bucket lies what is none of the trail's objects: expected {expected}, got {got}.",
    "silent": "The trail was stopped, or does not reach its anchors: expected {expected}, got {got}.",
    "anchor.undated": "Whether the trail was stopped could not be verified: expected {expected}, got {got}.",
    "anchor.unreachable": "{where} could not be asked: {got}",
    "anchor.unreadable": "{where} holds what is no checkpoint of this trail: {got}.",
    "anchor.left": "{where} stays with the events that a restored backup lacks, and refuses this trail for ever: name "
    "another one.",
    "statement": "Event {sequence} speaks for the trail without its key: expected {expected}, got {got}. Nothing "
    "follows from it; whoever may record events can write such a one.",
    "key.lost": "From event {sequence} on the trail is signed with a key that the one before did not name: expected "
    "{expected}, got {got}. Its operator says so after losing the key (`audit key rotate --lost`), and so would "
    "whoever wrote to the database without it: ask the operator, and pin the new key if it is theirs.",
    "key.revoked": "Nobody vouches for some events from {sequence} on: expected {expected}, got {got}. Whoever had "
    "that key could have written them anew.",
    "restored": "A backup was put back before event {sequence}: expected {expected}, got {got}.",
    "archive": "What was archived from event {sequence} on is not whole: expected {expected}, got {got}.",
    "archive.unsigned": "{place} is not in the trail, and no signed statement says that it was archived: expected "
    "{expected}, got {got}. Whoever removed it had not the trail's key.",
    "archive.changed": "What is left of archived events from {sequence} on was changed: expected {expected}, got "
    "{got}.",
    "private.missing": "A value that event {sequence} was sealed with is gone: expected {expected}.",
    "private.changed": "A value that event {sequence} was sealed with was changed: expected {expected}.",
    "private.stray": "A value beside event {sequence} is none of its own: expected {expected}, got {got}.",
    "private.returned": "An erased value is there again: expected {expected} at event {sequence}. A backup brings it "
    "back, and so does whoever kept a copy: erase it again.",
    "private.unreadable": "Event {sequence} was sealed with commitments that are none of ours.",
    "unsigned": "{unsigned}",
    "empty": "There is nothing to verify: expected {expected}, got {got}.",
    "origin": "The trail is not the one that the key belongs to, or you gave the key of another trail: expected origin "
    "{expected}, got {got}.",
    "misplaced": "{place} is in no chain: expected {expected}, got {got}.",
    "key": "The first event names another key: expected {expected}, got {got}.",
}
_SIGNED_ANEW = (
    "The checkpoint of {sequence} events {kept} does not fit: the trail was signed anew with another "
    "key since, and is now {got}."
)
_NOT_COMPARED = (
    "The checkpoint of {sequence} events {kept} says nothing more: events that it covers were changed or removed."
)
_LIMITS = {  # kinds of warnings, and what the verdict does not say
    "restored": "Events were lost with a backup that was put back: the trail says which, and has nothing of them.",
    "key.revoked": "Events that a stolen key has sealed are only as good as the word of whoever had it.",
    "key.lost": "A key was lost, and the one that replaced it says so alone.",
}
_STYLES = {Result.OK: "bold green", Result.FAILED: "bold red", Result.UNANCHORED: "bold yellow"}
_BEGINS_WITH_A_CAPITAL = re.compile("[A-Z][a-z]* ")  # a word, and not PostgreSQL
_BEGINS_WITH_A_WORD = re.compile("[a-z]+ ")  # and not with the name of a file


def sentence(error: BaseException) -> str:
    """What went wrong, and what to do, in one line without passwords."""
    if isinstance(error, AuditError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        text = f"{name}{error.strerror}: check the path, and whether this user may use it."
    elif isinstance(error, LookupError) and error.args:
        text = str(error.args[0])
    else:
        text = f"{type(error).__name__}: {error}"
    return without_password(text[:1].upper() + text[1:] if _BEGINS_WITH_A_WORD.match(text) else text)


def describe(finding: Finding, trail: AuditTrail) -> tuple[str, str | None]:
    """One finding in words, and the id of the event that it is about, as the store has it now."""
    row = _row(trail, finding)
    event_id = None if row is None else str(row[_AT["event_id"]])
    place = "The database" if finding.sequence is None else f"Event {finding.sequence}"
    if row is not None:
        now = "now: " if finding.kind.startswith("edited") else ""  # what it says of itself may be what was changed
        actor = row[_AT["actor_id"]] or row[_AT["actor_type"]]
        place += f" ({now}{row[_AT['action']]}, {row[_AT['timestamp']]}, by {actor}, id {event_id})"
    if finding.kind == "schema":
        return describe_schema(finding, place), event_id
    return _words(finding).format(
        kind=finding.kind,
        place=place,
        sequence=finding.sequence,
        expected=finding.expected,
        got=finding.got,
        strange=", and is no event any more" if finding.got.startswith("a row that is no record") else "",
        removed=removed(*missing_range(finding)),
        unsigned=_not_covered(finding),
        kept=f"that {finding.where} keeps" if finding.where else "that was kept elsewhere",
        where=f"{finding.where[:1].upper()}{finding.where[1:]}" if finding.kind != "clock" else finding.where,
    ), event_id


def _words(finding: Finding) -> str:
    if finding.kind == "object" and finding.sequence is None:
        return _WORDS["object.strange"]
    if finding.kind == "clock" and finding.where:
        return _WORDS["clock.anchor"]
    if finding.kind == "known" and is_not_compared(finding):
        return _NOT_COMPARED
    if finding.kind == "known" and is_signed_anew(finding):
        return _SIGNED_ANEW
    return _WORDS.get(finding.kind, "{kind} at {sequence}: expected {expected}, got {got}.")


def is_not_compared(finding: Finding) -> bool:
    """Whether a kept checkpoint says nothing, as its events are not there."""
    return finding.got.startswith("nothing to compare")


def is_signed_anew(finding: Finding) -> bool:
    """Whether a kept checkpoint is signed with another key than the trail."""
    return finding.got.startswith("one signed by")


def missing_range(finding: Finding) -> tuple[int, int]:
    """The first and the last event that a finding of the kind ``missing`` is about."""
    first = finding.sequence or 0
    numbers = re.findall(r"\d+", finding.expected) if finding.kind == "missing" else []
    return first, int(numbers[-1]) if numbers else first


def removed(first: int, last: int) -> str:
    """That these events are not there."""
    is_missing = "is missing: it was" if first == last else "are missing: they were"
    return as_sentence(f"{events_at(first, last)} {is_missing} removed")


def after_the_last(finding: Finding) -> str:
    """What a finding of the kind ``unsigned`` comes to; a clause."""
    if not finding.sequence:
        return "checkpoints removed"
    count = count_after(finding)
    return f"the last {'event stands' if count == 1 else f'{count_of(count)} stand'} after the last checkpoint"


def count_after(finding: Finding) -> int:
    """How many events a finding of the kind ``unsigned`` is about."""
    return int(re.findall(r"\d+", finding.expected)[-1]) - (finding.sequence or 0)


def _not_covered(finding: Finding) -> str:
    if finding.kind != "unsigned":
        return ""
    if not finding.sequence:
        return "There is no signed checkpoint, and so none that covers any event: they were removed."
    why = "a later checkpoint was removed, or events were put in at the end"
    return as_sentence(f"{after_the_last(finding)}, that of {count_of(finding.sequence)}: {why}")


def events_at(first: int, last: int) -> str:
    """These events, by their sequence."""
    return f"{'event' if first == last else 'events'} {named(first, last)}"


def named(first: int, last: int) -> str:
    """A range of sequences, in words."""
    return str(first) if first == last else f"{first} {'and' if first + 1 == last else 'to'} {last}"


def count_of(count: int, thing: str = "event") -> str:
    """So many of them."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def as_clause(text: str) -> str:
    """A sentence that stands behind a colon; a name keeps its capital."""
    return text[:1].lower() + text[1:] if _BEGINS_WITH_A_CAPITAL.match(text) else text


def as_sentence(clause: str) -> str:
    """With a capital and a full stop."""
    return f"{clause[:1].upper()}{clause[1:]}."


def verdict(found: Verification) -> tuple[str, str]:
    """The result in a sentence, and its style."""
    events, some = count_of(found.size), _by_hash(found)
    if found.result is Result.OK:
        text = f"OK: {events} as sealed,{some} of which a checkpoint kept elsewhere vouches for {found.anchored:,}."
    elif found.result is Result.UNANCHORED:
        text = f"UNANCHORED: {events},{some} a consistent chain, but nothing outside the database vouches for it."
    else:
        text = "FAILED."  # how many findings JSON has says nothing: one change may be found in many places
    return text, _STYLES[found.result]


def _by_hash(found: Verification) -> str:
    """What an OK does not say of archived events that nobody has read."""
    return f" {sum(one.events for one in found.unread):,} of them by their hashes alone," if found.unread else ""


def about(found: Verification) -> list[str]:
    """Which trail that was, and which keys it has had."""
    if not found.keys:
        return []
    present = found.keys[-1]
    if found.result is Result.FAILED:  # it may be neither
        return [f"It was checked as the trail {present.name}, with the key {present}."]
    if not (earlier := len(found.keys) - 1):
        return [f"The trail is {present.name}, and its key {present}."]
    times = "once" if earlier == 1 else f"{earlier} times"
    by = f"by event {found.replaced_at:,}{' last' if earlier > 1 else ''}"
    return [f"The trail is {present.name}. Its key was replaced {times}, {by}, and now is {present}."]


def limits(found: Verification, waiting: int) -> list[str]:
    """What the verdict does not cover."""
    lines = []
    if found.result is Result.UNANCHORED:
        lines.append(
            "Whoever holds the database could have cut off its end, and with the signing key rewritten it all. Keep "
            "what `audit checkpoint` prints where they cannot change it, and give it with --checkpoint; or name an "
            "--anchor that keeps it."
        )
    if found.result is Result.OK and found.anchored < found.size:
        count = found.size - found.anchored
        last = "The last event came" if count == 1 else f"The last {count_of(count)} came"
        lines.append(
            f"{last} after that checkpoint: only the signing key vouches for {'it' if count == 1 else 'them'}, and "
            "more that were cut off would not be missed."
        )
    lines += dict.fromkeys(text for warning in found.warnings if (text := _LIMITS.get(warning.kind)))
    lines += [
        f"Of {one.month}, which is archived, the hashes of {count_of(one.events)} ({named(one.first, one.last)}) were "
        f"compared, and no record was read: {one.why.rstrip('.')}."
        for one in found.unread
    ]
    if found.erasures:
        lines.append(
            f"Personal values were erased by {count_of(found.erasures, 'statement')} of the trail: what they were "
            "nobody can say any more."
        )
    if found.start:
        lines.append(
            f"The {found.start:,} events that were verified before were not looked at again, nor was it whether an id "
            "stands twice: --full does."
        )
    if not found.pinned and found.origin:
        lines.append("The verifier key was taken from the trail itself: give the one that you were handed with --key.")
    if waiting:
        lines.append(f"{waiting:,} more waited to be sealed: nothing protects those yet but the database.")
    return [*lines, "What was never recorded cannot be found missing."]


def _row(trail: AuditTrail, finding: Finding) -> Row | None:
    """The row that a finding names. It may be anything: it is what was tampered with."""
    if finding.sequence is None or finding.kind not in {"edited", "edited.unsigned", "unlinked", "duplicate", "schema"}:
        return None
    try:
        return trail.store.row(finding.sequence)
    except AuditError:
        return None
