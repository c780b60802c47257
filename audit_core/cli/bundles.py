"""What checking a bundle comes to, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from audit_core.cli.words import count_of
from audit_core.evidence.checked import CheckedBundle, Verdict

RANGES_SHOWN = 3
NAMED = 8  # events that the last sentence names
_EVENT = re.compile(r"event (\d+)")
_MEANINGS = {  # where a fault is, and what it means
    "key": "somebody else than the holder of your key has signed it",
    "checkpoint.txt": "its checkpoint was changed, or signed by somebody else",
    "checkpoint": "the trail was written anew since your checkpoint",
    "keys.jsonl": "its keys are not those of the trail",
    "sample": "it is not the sample that was drawn",
    "evidence.html": "its page shows something else",
}
_STYLES = {Verdict.OK: "bold green", Verdict.FAILED: "bold red", Verdict.UNTRUSTED: "bold yellow"}


def verdict(found: CheckedBundle) -> tuple[str, str]:
    """The verdict in a sentence, and its style."""
    events = count_of(found.events)
    if found.verdict is Verdict.OK:
        text = f"OK: {events} of {found.origin}, as they were sealed, by the key that you gave."
    elif found.verdict is Verdict.FAILED:
        text = "FAILED: this bundle does not hold. What was changed, or is missing, stands above."
    elif found.is_before:
        text = (
            f"UNTRUSTED: {events} of {found.origin}, consistent, but signed before the key that you gave came to sign: "
            "have a new bundle made, or give the key that you were handed before."
        )
    else:
        text = (
            f"UNTRUSTED: {events} of {found.origin}, consistent, but you have not said which key you trust: give the "
            "one that you were handed with --key."
        )
    return text, _STYLES[found.verdict]


def summary(found: CheckedBundle) -> str | None:
    """What it comes to, for somebody who is no programmer; None where nothing is wrong."""
    if not found.faults:
        return None
    events = sorted({int(match[1]) for fault in found.faults if (match := _EVENT.fullmatch(fault.where))})
    others = list(dict.fromkeys(_meaning(fault.where) for fault in found.faults if not _EVENT.fullmatch(fault.where)))
    named = ", ".join(map(str, events[:NAMED])) + (" and more" if len(events) > NAMED else "")
    if events:  # by which all that shows them is another
        others = [meaning for meaning in others if meaning != _MEANINGS["evidence.html"]]
    parts = [f"{count_of(len(events))} not as the trail has signed them ({named})"] if events else []
    return f"This is not what was exported from the trail: {', '.join([*parts, *others])}."


def _meaning(where: str) -> str:
    return _MEANINGS.get(where, "its files were changed")


def said_of_ranges(found: CheckedBundle) -> Iterator[str]:
    """What is shown of completeness: sequences have no gaps, and nothing else can be counted."""
    if found.faults or not found.ranges:
        return
    if _is_whole(found):
        yield f"They are all events of the trail up to the checkpoint of {found.tree_size:,}: none was left out."
    elif len(found.ranges) <= RANGES_SHOWN:
        named = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in found.ranges)
        yield f"Shown is every event of the sequences {named}: none between them was left out."
    if "sample" in found.selection:
        yield (
            f"The sample was drawn again: {min(found.selection['sample'], found.tree_size):,} of "
            f"{count_of(found.tree_size)}, with the seed "
            f"{found.selection['seed']!r}."
        )


def limits(found: CheckedBundle) -> Iterator[str]:
    """What the verdict does not cover."""
    if found.faults:
        return
    yield from _of_selection(found)
    yield from _of_rewriting(found)
    if found.receipts:
        yield f"{count_of(found.receipts, 'time stamp')} not checked here: README.txt says how `openssl ts` does it."
    for name in found.strange:
        yield f"{name} is not the one that this version of audit-core writes: do not rely on it. This check did not."
    yield "What was never recorded cannot be found missing."


def _of_selection(found: CheckedBundle) -> Iterator[str]:
    asked = found.selection
    if found.purged:
        yield (
            f"Of {count_of(found.purged)} of what was asked for there is no record any more: signed events of it "
            "say which months were purged. That none of the others between their first and their last was left out in "
            "the place of a purged one is not shown."
        )
    if "sample" in asked:
        yield (
            "Whoever chose the seed could choose the events, if he knew them: choose it yourself, after the checkpoint "
            "of this size was made."
        )
    elif asked.keys() - {"since", "until"}:
        yield "That no further event matches what was asked for is not shown."
    elif asked and not _is_whole(found):
        yield (
            "Events stand in the order in which they were sealed: that none of this time was sealed before or after "
            "these is not shown."
        )


def _of_rewriting(found: CheckedBundle) -> Iterator[str]:
    if found.is_before:
        yield f"It is signed with an earlier key, {found.key}: whoever stole that could have made all of it."
    elif not found.trusted:
        yield f"The bundle says that the key is {found.key}. Anybody can make a bundle with a key of his own."
    if found.replaced:
        yield f"The key that you gave is an earlier one of this trail, which has named the present one: {found.key}."
    for number, key, since, reason in found.revoked:
        yield (
            f"Event {number:,} says that the key {key} may have been in other hands from {since} on ({reason}): what "
            "it signed is only as good as the word of whoever had it."
        )
    for number, lost, first, reason in found.restored:
        yield f"Event {number:,} says that a backup lacks {count_of(lost)} from sequence {first:,} on ({reason})."
    if not _is_whole(found):
        yield (
            f"That the trail tells of no {'other ' if found.revoked or found.restored else ''}stolen key or restored "
            "backup is not shown: whoever made the bundle can leave that out, unless it is of the whole trail."
        )
    for size, where, since in found.kept:
        when = f", since {since}" if since else ""
        yield f"It extends a checkpoint of {count_of(size)}, which {where or 'somebody'} has{when}, as the bundle says."
    for size in found.uncompared:
        yield f"The checkpoint that you gave, of {count_of(size)}, could not be compared: {_why(size, found)}."
    if found.vouched:
        yield f"The checkpoint that you gave vouches for the first {count_of(found.vouched)}."
    else:
        yield (
            "Whoever holds the signing key could have rewritten the trail before this checkpoint was made: compare one "
            "that you kept yourself (--checkpoint)."
        )


def _why(size: int, found: CheckedBundle) -> str:
    if size > found.tree_size:
        return "it is newer than the bundle, or the trail's end was cut off since; have a new bundle made with it"
    return "the bundle has no proof from it, so have it exported with --checkpoint"


def _is_whole(found: CheckedBundle) -> bool:
    return found.ranges == [(0, found.tree_size - 1)]


def as_json(found: CheckedBundle) -> dict[str, Any]:
    """All of it."""
    return {
        **asdict(found),
        "result": found.verdict.value,
        "verdict": verdict(found)[0],
        "summary": summary(found),
        "shown": list(said_of_ranges(found)),
        "limits": list(limits(found)),
    }
