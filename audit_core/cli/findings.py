"""The findings of one verification as a reader wants them: what belongs together in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from audit_core.cli.moved import Moves, Run, find_exchanged, find_moves, joined
from audit_core.cli.schema_words import NOTHING, group_schema, is_missing
from audit_core.cli.words import as_sentence, count_after, count_of, describe, events_at, missing_range, named, removed
from audit_core.errors import AuditError
from audit_core.integrity.verify import Finding
from audit_core.trail import AuditTrail

SHOWN = 100  # findings of one kind; --json has all
_TABLE = re.compile(r"table ([\w.\"]+)")


@dataclass(slots=True)
class Grouped:
    """What belongs together, and which findings it leaves nothing to say of."""

    exchanged: list[tuple[int, int]] = field(default_factory=list)
    moves: Moves = field(default_factory=Moves)
    unsigned: list[Finding] = field(default_factory=list)  # checkpoints that another key signed, or none
    checkpoints: int = 0  # that there are; only counted where one is unsigned
    signed: float = inf  # events that the last checkpoint covers, where all after it are none that were sealed
    others: list[Finding] = field(default_factory=list)

    @property
    def signed_anew(self) -> bool:
        """Whether not one checkpoint is signed with the key."""
        return 1 < self.checkpoints <= len(self.unsigned)


def group(findings: Sequence[Finding], trail: AuditTrail) -> Grouped:
    """Neither their number nor the verdict changes by it."""
    changed, unlinked = places_of(findings, "edited"), places_of(findings, "unlinked")
    exchanged = find_exchanged(changed, trail)
    pairs = {place for pair in exchanged for place in pair}
    rest = [place for place in changed if place not in pairs]
    signed = next(iter(places_of(findings, "unsigned")), inf)
    moves = find_moves(rest, unlinked, _missing(findings), signed, trail)
    grouped = Grouped(exchanged, moves, signed=signed if _is_put_in_at_the_end(findings, changed) else inf)
    places = pairs | moves.places
    explained = (places - moves.changed) | moves.unread
    damaged = min([*changed, *unlinked, *(first for first, _ in _missing(findings))], default=inf)
    hidden, kinds = _tables_hide(findings), {finding.kind for finding in findings}
    for finding in findings:
        if finding.kind == "checkpoint.signature":
            grouped.unsigned.append(finding)
        elif not (
            finding.kind == "missing"
            or _is_of_places(finding, explained, places)
            or (finding.kind == "unsigned" and moves.reaches(finding.sequence or 0))
            or (finding.kind == "checkpoint.root" and (finding.sequence or 0) > damaged)
            or _is_said_by_another(finding, kinds, hidden)
        ):
            grouped.others.append(finding)
    grouped.checkpoints = _count_checkpoints(trail) if grouped.unsigned else 0
    return grouped


def places_of(findings: Iterable[Finding], kind: str) -> list[int]:
    """Where findings of this kind are, each place once."""
    return list(dict.fromkeys(one.sequence for one in findings if one.kind == kind and one.sequence is not None))


def _is_of_places(finding: Finding, explained: set[int], places: set[int]) -> bool:
    """Whether it only says once more that another event stands there, or before it."""
    place = finding.sequence
    if finding.kind == "edited":
        return place in explained
    return finding.kind == "unlinked" and place is not None and (place in places or place - 1 in places)


def sentences(grouped: Grouped, trail: AuditTrail) -> Iterator[str]:
    """All that was found, in as few sentences as tell it."""
    moves = grouped.moves
    if grouped.unsigned:
        yield _not_signed(grouped, trail)
    yield from (f"Events {a} and {b} were exchanged: each stands in the other's place." for a, b in grouped.exchanged)
    yield from _capped("edited", [as_sentence(of_run(run)) for run in moves.runs])
    if moves.unread:
        yield f"{count_of(len(moves.unread))} more after these are not as sealed: none was looked for elsewhere."
    yield from _capped("missing", [removed(first, last) for first, last in moves.missing])
    lines, others = group_schema(grouped.others)
    yield from lines
    seen: Counter[str] = Counter()
    for finding in others:
        seen[finding.kind] += 1
        if seen[finding.kind] <= SHOWN:
            yield describe(_at_the_end(finding, grouped.signed), trail)[0]
    yield from (_and_more(kind, count) for kind, count in seen.items() if count > SHOWN)


def _is_put_in_at_the_end(findings: Sequence[Finding], changed: Sequence[int]) -> bool:
    """Whether there are events after the last checkpoint, and each of them is one that does not fit its hash."""
    unsigned = next((finding for finding in findings if finding.kind == "unsigned"), None)
    if unsigned is None or not unsigned.sequence:
        return False
    return sum(place >= unsigned.sequence for place in changed) == count_after(unsigned)


def _at_the_end(finding: Finding, signed: float) -> Finding:
    """Nobody has signed for an event after the last checkpoint: it need never have been sealed."""
    is_unsigned = finding.kind == "edited" and finding.sequence is not None and finding.sequence >= signed
    return replace(finding, kind="edited.unsigned") if is_unsigned else finding


def of_run(run: Run) -> str:
    """What was moved, and why; a clause."""
    count, by = run.last - run.first + 1, abs(run.by)
    moved = f"{'was' if count == 1 else 'were'} moved {'up' if run.by > 0 else 'down'} by {'one' if by == 1 else by}"
    before = run.removed or run.put_in
    if before is None:
        return f"{events_at(run.first, run.last)} {moved}"
    first, last = before
    one = first == last
    what = events_at(first, last) if run.removed else count_of(last - first + 1)
    happened = "removed" if run.removed else f"put in at {named(first, last)}"
    after = f"the {'one' if count == 1 else f'{count:,}'} after {'it' if one else 'them'}"
    return f"{what} {'was' if one else 'were'} {happened}, and {after} {moved}"


def _capped(kind: str, lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], _and_more(kind, len(lines))]


def _and_more(kind: str, count: int) -> str:
    return f"And {count - SHOWN:,} more of the kind {kind!r}; --json has them all."


def _missing(findings: Iterable[Finding]) -> list[tuple[int, int]]:
    """Each checkpoint looks at its own events: what is missing below several is one gap all the same."""
    return joined(missing_range(finding) for finding in findings if finding.kind == "missing")


def _not_signed(grouped: Grouped, trail: AuditTrail) -> str:
    """26 kB of signatures say no more than this does."""
    first, count, there = grouped.unsigned[0], len(grouped.unsigned), grouped.checkpoints
    if count == 1:
        return describe(first, trail)[0]
    key = first.expected.removeprefix("a signature by ")
    if grouped.signed_anew:
        return f"None of the {there:,} checkpoints is signed with the key {key}: all were signed anew with another key."
    sizes = f"the first of them that of {first.sequence:,} events"
    return f"{count:,} of {there:,} checkpoints are not signed with the key {key}, {sizes}."


def _count_checkpoints(trail: AuditTrail) -> int:
    try:
        return sum(1 for _ in trail.store.checkpoints())
    except AuditError:
        return 0


def _tables_hide(findings: Iterable[Finding]) -> list[re.Pattern[str]]:
    """With a table all that stood on it is gone."""
    gone = [match[1] for finding in findings if is_missing(finding) if (match := _TABLE.match(finding.expected))]
    return [re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)") for name in gone]


def _is_said_by_another(finding: Finding, kinds: set[str], gone: Iterable[re.Pattern[str]]) -> bool:
    if is_missing(finding) and not _TABLE.match(finding.expected):
        return any(name.search(finding.expected) for name in gone)
    if finding.kind in {"origin", "key"} and finding.got == NOTHING:  # where the first event is not, or is no record
        return bool(kinds - {"origin", "key"})
    return finding.kind == "key" and "origin" in kinds
