"""What belongs together: the statements of one change, in one transaction with the events that tell of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from audit_core.orm.bulk import Summary
from audit_core.orm.changes import Change
from audit_django.capture.blocks import block
from audit_django.capture.carrying import begin, carry
from audit_django.capture.round_trips import FEW
from audit_django.capture.row import Row
from audit_django.capture.selection import captures
from audit_django.capture.told import joined, told

_OPEN = "_audit_units"  # on a connection, which one thread uses at a time: the innermost unit is the last


@dataclass(slots=True)
class Unit:
    """Rows in the order in which they were written."""

    connection: BaseDatabaseWrapper
    models: Collection[type[Model]]  # whose rows it is about: others come from signals and the like
    one_by_one: bool = False  # the limit has been looked at: no statement asks again how many rows it changes
    below_limit: set[type[Model]] = field(default_factory=set)  # the same for deletions of these models
    silent: bool = False  # its statements are told otherwise
    rows: list[Row] = field(default_factory=list)
    summaries: dict[tuple[str, type[Model]], Summary] = field(default_factory=dict)

    @property
    def using(self) -> str:
        """The alias of its database."""
        return self.connection.alias

    def sum_up(self, action: str, model: type[Model], summary: Summary) -> None:
        """From now on rows of this model are counted."""
        self.summaries.setdefault((action, model), summary)

    def count(self, action: str, model: type[Model], rows: int, criteria: str = "") -> None:
        """So many more rows, and what only their statement knows."""
        summary = self.summaries[action, model]
        self.summaries[action, model] = replace(
            summary, rows=summary.rows + rows, criteria=criteria or summary.criteria
        )


def innermost(connection: BaseDatabaseWrapper) -> Unit | None:
    """The unit that a statement belongs to."""
    units = connection.__dict__.get(_OPEN)
    return units[-1] if units else None


@contextmanager
def collecting(unit: Unit) -> Iterator[Unit]:
    """Statements of this block belong to the unit."""
    units = unit.connection.__dict__.setdefault(_OPEN, [])
    units.append(unit)
    try:
        yield unit
    finally:
        units.pop()


@contextmanager
def telling(unit: Unit) -> Iterator[Unit]:
    """A transaction whose statements belong to the unit, and which ends with its events.

    Where triggers tell of all of it there is nothing to tell here, and Django has the transactions that it has.
    """
    if not any(captures(model, unit.using) for model in unit.models):
        with collecting(unit):
            yield unit
        return
    connection = unit.connection
    is_whole = connection.get_autocommit() and not connection.in_atomic_block
    with block(connection):
        trail = begin(connection)
        with collecting(unit):
            yield unit
        summaries = (one for one in unit.summaries.values() if one.rows)
        ends = is_whole and len(unit.rows) <= FEW and not connection.needs_rollback
        carry(trail, connection, chain[Change | Summary](told(_chosen(unit)), summaries), ends=ends)


def _chosen(unit: Unit) -> Sequence[Row]:
    """The objects that are told here, and not by triggers; nor the parents' own, where only the child is audited."""
    rows = joined(unit.rows)
    left_out = {model for model in {row.model for row in rows} if not captures(model, unit.using)}
    return [row for row in rows if row.model not in left_out] if left_out else rows
