"""The findings of one verification as a reader wants them: what belongs together in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from audit_core.canonical import RECORD_COLUMNS, encode_record
from audit_core.cli.words import describe, missing_range, removed
from audit_core.errors import AuditError
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.verify import Finding
from audit_core.rows import Row
from audit_core.trail import AuditTrail

SHOWN = 100  # findings of one kind; --json has all
COMPARED = 64  # changed events among which exchanged ones are looked for
_SEQUENCE = RECORD_COLUMNS.index("sequence")
_PREVIOUS = RECORD_COLUMNS.index("previous_hash")
_TABLE = re.compile(r"table ([\w.\"]+)")
_NOTHING = "nothing"


@dataclass(slots=True)
class Told:
    """What belongs together, and which findings it leaves nothing to say of."""

    exchanged: list[tuple[int, int]] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)  # first and last
    unsigned: list[Finding] = field(default_factory=list)  # checkpoints that another key signed, or none
    checkpoints: int = 0  # that there are; only counted where one is unsigned
    others: list[Finding] = field(default_factory=list)

    @property
    def signed_anew(self) -> bool:
        """Whether not one checkpoint is signed with the key."""
        return 1 < self.checkpoints <= len(self.unsigned)


def tell_together(findings: Sequence[Finding], trail: AuditTrail) -> Told:
    """Group the findings. Neither their number nor the verdict changes by it."""
    told = Told(exchanged=_find_exchanged(findings, trail))
    hidden = _tables_hide(findings)
    moved = {sequence for pair in told.exchanged for sequence in pair}
    after = moved | {sequence + 1 for sequence in moved}
    kinds = {finding.kind for finding in findings}
    for finding in findings:
        if finding.kind == "missing":
            _add_missing(told.missing, finding)
        elif finding.kind == "checkpoint.signature":
            told.unsigned.append(finding)
        elif (finding.kind == "edited" and finding.sequence in moved) or (
            finding.kind == "unlinked" and finding.sequence in after
        ):
            continue
        elif not _is_said_by_another(finding, kinds, hidden):
            told.others.append(finding)
    told.checkpoints = _count_checkpoints(trail) if told.unsigned else 0
    return told


def sentences(findings: Sequence[Finding], trail: AuditTrail) -> Iterator[str]:
    """All that was found, in as few sentences as tell it."""
    told = tell_together(findings, trail)
    if told.unsigned:
        yield _not_signed(told, trail)
    yield from (f"Events {a} and {b} were exchanged: each stands in the other's place." for a, b in told.exchanged)
    yield from _capped("missing", [removed(first, last) for first, last in told.missing])
    seen: Counter[str] = Counter()
    for finding in told.others:
        seen[finding.kind] += 1
        if seen[finding.kind] <= SHOWN:
            yield describe(finding, trail)[0]
    yield from (_and_more(kind, count) for kind, count in seen.items() if count > SHOWN)


def _capped(kind: str, lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[:SHOWN], _and_more(kind, len(lines))]


def _and_more(kind: str, count: int) -> str:
    return f"And {count - SHOWN:,} more of the kind {kind!r}; --json has them all."


def _add_missing(ranges: list[tuple[int, int]], finding: Finding) -> None:
    """Each checkpoint looks at its own events: what is missing below several is one gap all the same."""
    first, last = missing_range(finding)
    if ranges and ranges[-1][1] + 1 == first:
        first = ranges.pop()[0]
    ranges.append((first, last))


def _not_signed(told: Told, trail: AuditTrail) -> str:
    """26 kB of signatures say no more than this does."""
    first, count, there = told.unsigned[0], len(told.unsigned), told.checkpoints
    if count == 1:
        return describe(first, trail)[0]
    key = first.expected.removeprefix("a signature by ")
    if told.signed_anew:
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
    gone = [
        match[1]
        for finding in findings
        if finding.kind == "schema" and finding.got.startswith(_NOTHING)
        if (match := _TABLE.match(finding.expected))
    ]
    return [re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)") for name in gone]


def _is_said_by_another(finding: Finding, kinds: set[str], gone: Iterable[re.Pattern[str]]) -> bool:
    if finding.kind == "schema" and finding.got.startswith(_NOTHING) and not _TABLE.match(finding.expected):
        return any(name.search(finding.expected) for name in gone)
    if finding.kind in {"origin", "key"} and finding.got == _NOTHING:  # where the first event is not, or is no record
        return bool(kinds - {"origin", "key"})
    return finding.kind == "key" and "origin" in kinds


def _find_exchanged(findings: Iterable[Finding], trail: AuditTrail) -> list[tuple[int, int]]:
    """Pairs of events of which each stands in the other's place."""
    changed = [finding.sequence for finding in findings if finding.kind == "edited" and finding.sequence is not None]
    if not 2 <= len(changed) <= COMPARED:
        return []
    try:
        origin = str(trail.chain.origin)
        rows = {sequence: row for sequence in changed if (row := trail.store.row(sequence)) is not None}
    except AuditError:
        return []
    return [
        (a, b)
        for a, b in combinations(rows, 2)
        if _comes_from(rows[a], b, rows[b], origin) and _comes_from(rows[b], a, rows[a], origin)
    ]


def _comes_from(row: Row, sequence: int, there: Row, origin: str) -> bool:
    """Whether the row is the event that was sealed at ``sequence``, where ``there`` stands now.

    Its hashes may have been moved with it, or stayed where they were.
    """
    fields = list(row[:-1])
    fields[_SEQUENCE] = sequence
    return _hashes_to(fields, row[-1], origin) or _hashes_to(
        [*fields[:_PREVIOUS], there[_PREVIOUS], *fields[_PREVIOUS + 1 :]], there[-1], origin
    )


def _hashes_to(fields: Sequence[object], stored: object, origin: str) -> bool:
    try:
        return leaf_hash(encode_record(tuple(fields), origin)).hex() == stored
    except (TypeError, ValueError, OverflowError):
        return False
