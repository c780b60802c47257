"""Erase personal values that lie outside of the records, and say so in the chain, under the signing key.

Statements and removal are one transaction: a crash leaves all of it, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from audit_core.canonical import RECORD_COLUMNS
from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError
from audit_core.event import AuditEvent
from audit_core.integrity.erasure import Erased, as_ranges
from audit_core.integrity.retention import Hold
from audit_core.integrity.statement import ERASED
from audit_core.private import DETAILS, FIELDS
from audit_core.query import EventQuery
from audit_core.rows import Row, from_row
from audit_core.stores.values import ValueStore

RANGES_AT_ONCE = 1_000  # that one statement lists
_SEQUENCE, _PRIVATE, _ID = map(RECORD_COLUMNS.index, ("sequence", "private", "resource_id"))
NO_VALUES = "This trail keeps no values outside of its records, from where they could be erased (erasable=True)."


class Subject(NamedTuple):
    """Whose values: what somebody left who acted, and what events say of a resource that is about somebody."""

    actor: str | None = None
    resources: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Erasing:
    """What was erased, and where the trail says so; if nothing was left to erase, what had been ``before``.

    Then the basis and the approval are those of the statements, and None where these have several.
    """

    basis: str | None
    approved_by: str | None
    erased: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by place, ranges of sequences
    values: int = 0
    statements: list[int] = field(default_factory=list)  # their sequences
    reasons: list[tuple[str, str]] = field(default_factory=list)  # basis and approval of each of them
    before: bool = False


def erase(
    chain: AuditChain, subject: Subject, events: Iterator[AuditEvent], connection: Any, *, basis: str, approved_by: str
) -> Erasing:
    """Remove the values of ``subject`` that are there, with their salts, in the transaction of ``connection``.

    If none are left, what was erased of them before is told: whoever was interrupted still gets his certificate. Of
    an actor's events the address and the user agent are erased, and the details where they are about no one resource;
    of the events about a resource the details. ``events`` say who does it, one for each statement. Raises
    ConfigurationError where an event is under a legal hold, or nothing can be erased; what ``AuditChain.state`` raises.
    """
    values = chain.store.values
    if values is None or not values.is_created():
        raise ConfigurationError(NO_VALUES)
    chosen = dict(_choose(chain, subject))
    there = [(value.sequence, value.name) for value in values.of(sorted(chosen))]
    found: dict[str, set[int]] = {}
    gone = []
    for sequence, name in there:
        if place := next((one for one in chosen[sequence] if name == one or name.startswith(f"{one}/")), None):
            found.setdefault(place, set()).add(sequence)
            gone.append((sequence, name))
    if not gone:
        return _erased_before(chain, chosen) or Erasing(basis, approved_by)
    result = Erasing(basis, approved_by, _as_ranges(found), len(gone))
    for says in _in_parts(result.erased):
        whole = {"erased": says, "basis": basis, "approved_by": approved_by}
        checkpoint = chain.state(ERASED, whole, next(events), connection)
        result.statements.append(checkpoint.tree_size - 1)
        result.reasons.append((basis, approved_by))
    _remove(values, gone, connection)
    return result


def _erased_before(chain: AuditChain, chosen: Mapping[int, set[str]]) -> Erasing | None:
    """What statements that are there already say of these places; None where none does."""
    found: dict[str, set[int]] = {}
    said = []
    for erasure in chain.keyring.erasures if chain.keyring else ():
        erased = Erased([erasure])
        places = [(place, n) for n, all_ in chosen.items() for place in all_ if erased.has(n, place)]
        for place, sequence in places:
            found.setdefault(place, set()).add(sequence)
        said += [erasure] if places else []
    if not said:
        return None
    reasons = [(one.basis, one.approved_by) for one in said]
    bases, approvals = ({*some} for some in zip(*reasons, strict=True))
    return Erasing(
        bases.pop() if len(bases) == 1 else None,
        approvals.pop() if len(approvals) == 1 else None,
        _as_ranges(found),
        0,
        [one.sequence for one in said],
        reasons,
        before=True,
    )


def _as_ranges(found: Mapping[str, set[int]]) -> dict[str, list[tuple[int, int]]]:
    return {place: as_ranges(sorted(all_)) for place, all_ in found.items()}


def _choose(chain: AuditChain, subject: Subject) -> Iterator[tuple[int, set[str]]]:
    """The sequences of events with values of the subject, and which places those have."""
    places: dict[int, set[str]] = {}
    ring = chain.keyring
    holds = list(ring.holds.values()) if ring else []
    for query in _queries(subject):
        for row in chain.whole.select(query):
            if row[_PRIVATE] == "":
                continue
            _refuse_held(from_row(row), holds)
            places.setdefault(row[_SEQUENCE], set()).update(_places(row, by_actor=query.actor is not None))
    yield from places.items()


def _refuse_held(event: AuditEvent, holds: Iterable[Hold]) -> None:
    for hold in holds:
        if hold.covers(
            actor=event.actor_id, resource_type=event.resource_type, resource_id=event.resource_id,
            tenant=event.tenant_id, on_behalf_of=event.on_behalf_of,
        ):  # fmt: skip
            raise ConfigurationError(
                f"Event {event.sequence:,} is under the legal hold {hold.sequence} ({hold.reason}): nothing was "
                "erased; lift it first."
            )


def _queries(subject: Subject) -> Iterator[EventQuery]:
    if subject.actor is not None:
        yield EventQuery(actor=subject.actor, newest_first=False)
    for kind, identifier in subject.resources:
        yield EventQuery(resource_type=kind, resource_id=identifier, newest_first=False)


def _places(row: Row, *, by_actor: bool) -> Iterable[str]:
    """What an actor has done to another's record is not his, and who has changed it is not the other's."""
    if not by_actor:
        return (DETAILS,)
    own = tuple(f"/{name}" for name in FIELDS)
    return own if row[_ID] is not None else (*own, DETAILS)  # about a type alone nobody could be asked for


def _in_parts(erased: Mapping[str, list[tuple[int, int]]]) -> Iterator[dict[str, list[list[int]]]]:
    """Each no longer than a record has room for."""
    pairs = ((place, list(pair)) for place, ranges in sorted(erased.items()) for pair in ranges)
    while some := list(islice(pairs, RANGES_AT_ONCE)):
        part: dict[str, list[list[int]]] = {}
        for place, pair in some:
            part.setdefault(place, []).append(pair)
        yield part


def _remove(values: ValueStore, places: list[tuple[int, str]], connection: Any) -> None:
    if places:
        values.erase(places, connection)
