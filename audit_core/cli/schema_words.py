"""What is wrong with tables, indexes and triggers, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from audit_core.integrity.verify import Finding

NOTHING = "nothing"
_NOT_AS_MADE = "the tables, indexes and triggers are not as `audit init` makes them"
_TRIGGER = re.compile(r"trigger (\S+) on ([^\s:]+)")
_TABLE = re.compile(r"table (\S+)")


def describe_schema(finding: Finding, place: str) -> str:
    """One finding of the kind ``schema``."""
    if finding.sequence is not None:
        return f"{place}: {_NOT_AS_MADE}: expected {finding.expected}, got {finding.got}."
    if is_missing(finding):
        return f"The database: {_NOT_AS_MADE}: {finding.expected} is missing."
    if _is_added(finding):
        return f"The database: {_NOT_AS_MADE}: {finding.got} is none of them."
    return f"The database: {_NOT_AS_MADE}: expected {finding.expected}, got {finding.got}."


def group_schema(findings: Sequence[Finding]) -> tuple[list[str], list[Finding]]:
    """Sentences of several findings each, and the findings that are told one by one."""
    grouped = list(_strange_tables(findings))
    told = {id(finding) for _, of_table in grouped for finding in of_table}
    lines = [line for line, _ in grouped]
    gone = {name: one for one in findings if is_missing(one) and (name := _trigger(one.expected))}
    there = {name: one for one in findings if _is_added(one) and id(one) not in told and (name := _trigger(one.got))}
    changed = gone.keys() & there.keys()
    for names, what in (
        ([name for name in gone if name not in changed], "missing"),
        ([name for name in gone if name in changed], "switched off or changed"),
    ):
        if len(names) > 1:
            lines.append(f"{len(names)} triggers that refuse changes are {what}: {', '.join(names)}.")
            told.update(id(of[name]) for of in (gone, there) for name in names if name in of)
    return lines, [finding for finding in findings if id(finding) not in told]


def is_missing(finding: Finding) -> bool:
    """Whether it says that something is not there."""
    return finding.kind == "schema" and finding.got.startswith(NOTHING)


def _is_added(finding: Finding) -> bool:
    return finding.kind == "schema" and finding.expected.startswith(NOTHING)


def _trigger(text: str) -> str:
    match = _TRIGGER.match(text)
    return f"{match[1]} on {match[2]}" if match else ""


def _strange_tables(findings: Iterable[Finding]) -> Iterator[tuple[str, list[Finding]]]:
    """A table that is none of ours has columns, indexes and triggers, which are none either."""
    added = [finding for finding in findings if _is_added(finding)]
    for name in [match[1] for finding in added if (match := _TABLE.match(finding.got))]:
        mentions = re.compile(rf"(?<![\w.]){re.escape(name)}(?!\w)")
        hint = " (a month that was renamed?)" if "audit_events" in name else ""
        yield f"The table {name} is none of ours{hint}.", [one for one in added if mentions.search(one.got)]
