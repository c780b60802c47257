"""What verification found, in one sentence for somebody who is no programmer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from audit_core.chain.verification import Verification
from audit_core.cli.findings import Grouped, of_run, places_of
from audit_core.cli.moved import joined
from audit_core.cli.words import after_the_last, count_of, is_not_compared, is_signed_anew, named
from audit_core.integrity.verify import Result

NAMED = 8  # places that the sentence names
_OTHERS = {  # kinds of findings, and what they mean
    "checkpoint.missing": "checkpoints removed",
    "checkpoint.unreadable": "checkpoints changed",
    "checkpoint.frontier": "checkpoints changed",
    "key.lost": "signed on with a key that the one before did not name",
    "archive": "archived events changed or removed",
    "archive.changed": "archived events changed or removed",
    "archive.unsigned": "events removed as if they had been archived",
    "clock": "events sealed under a clock that was turned back",
    "silent": "nothing shows that it is alive",
    "private.missing": "values beside the events removed",
    "private.changed": "values beside the events changed",
    "private.stray": "values put in beside events",
    "private.returned": "erased values put back",
    "object": "objects put in, written over, marked as deleted or without a lock",
    "misplaced": "rows put in that are in no chain",
    "empty": "everything removed",
    "schema": "tables, indexes or triggers changed or removed",
}
_FOLLOWING = {  # what follows from other findings, and is only said by itself
    "checkpoint.root": "checkpoints of other events",
    "key": "another key in the first event",
}


def summary(found: Verification, grouped: Grouped) -> str | None:
    """None where nothing was found. ``grouped`` are its findings."""
    if found.result is not Result.FAILED:
        return None
    kinds = {finding.kind for finding in found.findings}
    if said := _of_a_doubt(found, kinds) or _of_surroundings(found, kinds):
        return said
    parts = list(dict.fromkeys(_parts(found, grouped)))
    parts = parts or [*_of_kept(found), *(meaning for kind, meaning in _FOLLOWING.items() if kind in kinds)]
    return f"This trail is not what was recorded: {', '.join(parts)}." if parts else None


def _of_a_doubt(found: Verification, kinds: set[str]) -> str | None:
    """What may be the mistake or the lie of somebody else than who runs the trail."""
    if "origin" in kinds and kinds <= {"origin", "key"}:
        return "This trail and that key do not belong together: find out which of them is the wrong one."
    if kinds == {"key.lost"}:
        return (
            "This trail goes on under a key that yours does not lead to: ask its operator whether the old one was lost."
        )
    if kinds == {"known"} and all(
        one.where and is_signed_anew(one) for one in found.findings
    ):  # anybody may have written to an anchor
        anchors = ", ".join(dict.fromkeys(one.where for one in found.findings))
        return (
            "This trail was signed anew with another key since, or somebody has put what is none of its checkpoints "
            f"into {anchors}."
        )
    return None


def _of_surroundings(found: Verification, kinds: set[str]) -> str | None:
    if kinds == {"schema"} and found.origin:
        return "The events are what was recorded, but the tables, indexes or triggers around them were changed."
    if kinds == {"silent"}:
        return "Nothing shows that this trail is still alive: it was stopped, or does not reach its anchors."
    if kinds == {"clock"}:
        return "The events are what was signed, but not when: a clock was turned back, or that of the anchor is wrong."
    if kinds == {"object"}:
        return f"The events are what was recorded, but their bucket was tampered with: {_OTHERS['object']}."
    return None


def _of_kept(found: Verification) -> Iterator[str]:
    """What kept checkpoints say of a trail that is consistent in itself."""
    kept = [one for one in found.findings if one.kind == "known" and not is_not_compared(one)]
    if any(map(is_signed_anew, kept)):
        yield "it was signed anew with another key since"
    elif kept and all(one.kind != "checkpoint.root" for one in found.findings):
        size = min(one.sequence or 0 for one in kept)
        yield f"it was written anew with its own key since your checkpoint of {count_of(size)}"


def _parts(found: Verification, grouped: Grouped) -> Iterator[str]:
    places = partial(places_of, grouped.others)
    edited = places("edited")
    yield from _counted("changed", _as_ranges(place for place in edited if place < grouped.signed))
    unsealed = [place for place in edited if place >= grouped.signed]
    yield from _counted("put in at the end, or changed there,", _as_ranges(unsealed))
    if grouped.exchanged:
        pairs = [f"{a} and {b}" for a, b in grouped.exchanged]
        yield f"{count_of(2 * len(pairs))} exchanged ({_some(pairs)})"
    yield from (of_run(run) for run in grouped.moves.runs[:NAMED])
    if (runs := len(grouped.moves.runs)) > NAMED:
        yield f"events moved at {runs - NAMED:,} more places"
    if grouped.moves.unread:
        yield f"{count_of(len(grouped.moves.unread))} after these not as sealed"
    if found.size == 0 and grouped.moves.missing:
        yield _OTHERS["empty"]
    else:
        yield from _counted("removed", grouped.moves.missing)
    yield from _counted("put in or replaced", _as_ranges(p for p in places("unlinked") if p not in edited))
    yield from _counted("there twice", _as_ranges(p for p in places("duplicate") if p not in edited))
    kinds = {one.kind for one in grouped.others}
    if "truncated" in kinds:
        yield f"the end cut off after event {found.size - 1}" if found.size else _OTHERS["empty"]
    if not unsealed:
        yield from (after_the_last(one) for one in grouped.others if one.kind == "unsigned")
    if grouped.unsigned:
        yield "signed anew with another key" if grouped.signed_anew else "checkpoints changed"
    yield from (meaning for kind, meaning in _OTHERS.items() if kind in kinds)


def _as_ranges(places: Iterable[int]) -> list[tuple[int, int]]:
    return joined((place, place) for place in sorted(places))


def _counted(what: str, ranges: list[tuple[int, int]]) -> Iterator[str]:
    if ranges:
        count = sum(last - first + 1 for first, last in ranges)
        yield f"{count_of(count)} {what} ({_some(named(first, last) for first, last in ranges)})"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED:,} more places" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
