"""How long events are kept: rules for all of them, and for those of an action, of a type of resource, or with a tag.

Months are archived and purged whole. So a month is kept as long as any event in it has to be: each event as long as the
longest rule says that is about it, and one that no rule is about for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from audit_core.canonical import RECORD_COLUMNS, decode
from audit_core.clean import TOO_MANY
from audit_core.errors import ConfigurationError
from audit_core.private import DETAILS, parse_commitments
from audit_core.query import EventQuery
from audit_core.retention.months import SEQUENCE, month_of, stays
from audit_core.rows import Row
from audit_core.stores import AuditStore

# Months, and how many of them at hand: 45 CFR 164.316(b)(2)(i), PCI DSS 4.0.1 10.5.1, 17 CFR 210.2-06.
POLICIES = {"hipaa": (72, 0), "pci": (12, 3), "sox": (84, 0)}
TAGS = "tags"  # the details that have an event's tags
_OWN = re.compile(r"([1-9]\d{0,3})([my])(?:/([1-9]\d{0,3})([my]))?")
_ABOUT = re.compile(r"(action|resource|tag):\s*(\S.*)", re.DOTALL)
_ACTION, _TYPE, _DETAILS, _PRIVATE = map(RECORD_COLUMNS.index, ("action", "resource_type", "details", "private"))


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How many months events are kept, and how many of them in the trail itself."""

    text: str  # as it was given: tag:cards=pci
    keep: int
    at_hand: int = 0
    kind: str = ""  # "" is about all events
    name: str = ""

    def is_about(self, row: Row) -> bool:
        """Whether it says how long this event is kept."""
        if self.kind == "tag":
            return _may_have(row, self.name)
        return not self.kind or row[_ACTION if self.kind == "action" else _TYPE] == self.name


class Stays(NamedTuple):
    """A month that stays: the rule and the event for which it does. Without a rule, no rule is about the event."""

    month: str
    rule: RetentionRule | None
    sequence: int | None  # None where the rule is about all

    def __str__(self) -> str:
        if self.rule is None:
            return (
                f"{self.month} stays: no policy says how long event {self.sequence:,} is kept, which is then for ever; "
                "add one for all events, like 1y"
            )
        event = "it" if self.sequence is None else f"event {self.sequence:,}"
        return f"{self.month} stays: the policy {self.rule.text} keeps {event}"


@dataclass(frozen=True, slots=True)
class Retention:
    """The rules, at a moment."""

    rules: tuple[RetentionRule, ...]
    now: datetime

    @classmethod
    def parse(cls, text: str, now: datetime) -> Retention:
        """Rules with commas between them: ``hipaa,resource:invoice=10y,tag:cards=12m/3m``, of which three at hand.

        Raises ConfigurationError for what is none.
        """
        return cls(tuple(map(_rule, text.split(","))), now)

    def unused(self, store: AuditStore) -> Iterator[RetentionRule]:
        """Rules with a name that no event has which is still in the trail: it may be misspelt. Opens no archive."""
        unseen = {rule for rule in self.rules if rule.kind == "tag"}
        for row in store.select(EventQuery()) if unseen else ():  # once for all of them: no index has tags
            unseen -= {rule for rule in unseen if rule.is_about(row)}
            if not unseen:
                break
        for rule in self.rules:
            is_found = rule.kind in {"", "tag"} or any(True for _ in store.select(_query_of(rule)))
            if rule in unseen or not is_found:
                yield rule

    def may_be_over(self, month: str) -> bool:
        """Whether no rule that is about all events keeps this month."""
        return not any(self._runs(rule.keep, month) for rule in self.rules if not rule.kind)

    def keeps(self, month: str, rows: Callable[[], Iterable[Row]], log: str) -> Stays | None:
        """What an ended month may not be purged for; None if nothing. ``rows`` are read where it needs them."""
        has_general = any(not rule.kind for rule in self.rules)
        return self._find(month, rows, log, lambda rule: rule.keep, or_without=not has_general)

    def keeps_at_hand(self, month: str, rows: Callable[[], Iterable[Row]], log: str) -> Stays | None:
        """What an ended month may not be archived for yet."""
        return self._find(month, rows, log, lambda rule: rule.at_hand, or_without=False)

    def _find(
        self,
        month: str,
        rows: Callable[[], Iterable[Row]],
        log: str,
        months: Callable[[RetentionRule], int],
        *,
        or_without: bool,
    ) -> Stays | None:
        running = [rule for rule in self.rules if self._runs(months(rule), month)]
        if general := next((rule for rule in running if not rule.kind), None):
            return Stays(month, general, None)
        for row in rows() if running or or_without else ():
            if stays(row, log):
                continue
            if rule := next((rule for rule in running if rule.is_about(row)), None):
                return Stays(month, rule, row[SEQUENCE])
            if or_without and not any(rule.is_about(row) for rule in self.rules):
                return Stays(month, None, row[SEQUENCE])
        return None

    def _runs(self, months: int, month: str) -> bool:
        """Whether so many months have not passed since the month has ended."""
        return month >= months_ago(month_of(self.now), months)


def months_ago(month: str, count: int) -> str:
    """The month so many before."""
    year, number = map(int, month.split("-"))
    index = year * 12 + number - 1 - count
    return f"{max(0, index) // 12:04d}-{index % 12 + 1:02d}"


def _rule(text: str) -> RetentionRule:
    about, is_about, period = text.strip().rpartition("=")
    kind, period = _ABOUT.fullmatch(about.strip()), period.strip()
    own = _OWN.fullmatch(period.lower())
    if (is_about and kind is None) or (own is None and period.lower() not in POLICIES):
        raise ConfigurationError(
            f"A retention is {', '.join(POLICIES)}, or a number of months or years like 18m, 10y or 12m/3m, and may "
            f"say before it what it is about: resource:patient=10y, action:login=1y, tag:cards=pci. It is not {text!r}."
        )
    keep, at_hand = POLICIES[period.lower()] if own is None else _own(own)
    if at_hand > keep:
        raise ConfigurationError(f"What is kept at hand is a part of what is kept: turn {text.strip()!r} around.")
    return RetentionRule(text.strip(), keep, at_hand, *(kind.groups() if kind else ()))


def _query_of(rule: RetentionRule) -> EventQuery:
    return EventQuery(action=rule.name) if rule.kind == "action" else EventQuery(resource_type=rule.name)


def _own(found: re.Match[str]) -> tuple[int, int]:
    keep, unit, at_hand, its_unit = found.groups()
    return _months(keep, unit), _months(at_hand, its_unit) if at_hand else 0


def _months(number: str, unit: str) -> int:
    return int(number) * (12 if unit == "y" else 1)


def _may_have(row: Row, tag: str) -> bool:
    """Whether it is in the list ``tags`` of an event's details, or may be: they were cut, or lie beside the record."""
    try:
        details = decode(row[_DETAILS])
    except (ValueError, TypeError):
        return True  # somebody has changed it, which verification finds: nothing is destroyed for that
    if not isinstance(details, dict):
        return False
    tags = details.get(TAGS)
    if isinstance(tags, list):
        return tag in tags or TOO_MANY in tags
    if {DETAILS, f"{DETAILS}/{TAGS}"} & (parse_commitments(row[_PRIVATE]) or {}).keys():
        return True
    return tags == tag or details.keys() == {"cut"} or TOO_MANY in (tags, *details.values())
