"""The months of a store, as they are archived."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from audit_core.canonical import RECORD_COLUMNS
from audit_core.errors import ConfigurationError
from audit_core.integrity.statement import claims_to_be_one
from audit_core.rows import Row
from audit_core.stores import AuditStore, Left
from audit_core.stores.sqlite import SqliteStore

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
SEQUENCE, HASH, ID = RECORD_COLUMNS.index("sequence"), -1, RECORD_COLUMNS.index("event_id")


class Months(Protocol):
    """One technology's way of moving a month out of the trail. A month is ``2026-01``, in UTC."""

    def prepare(self, before: str) -> None:
        """Give months their form, before any is looked at. Raises ConfigurationError for who may not archive."""

    def until(self, before: str) -> list[str]:
        """The months before this one that have events, in order of time."""

    def rows(self, month: str) -> Iterator[Row]:
        """The rows of a month, in order of sequence, by pages."""

    def going(self, month: str, log: str, connection: Any) -> Iterator[Left]:
        """What will be left of a month, in order of sequence, in that transaction: others wait for it."""

    def leave(self, month: str, archive: int, log: str, connection: Any) -> None:
        """Put into ``audit_archived`` what proofs need of a month, in the transaction that states its archive."""

    def drop(self, month: str, log: str, connection: Any) -> None:
        """Remove the events in that transaction, where it can be done at once."""

    def finish(self) -> int:
        """Remove the events that are archived and still there; how many."""


def open_months(store: AuditStore) -> Months:
    """Raises ConfigurationError for a store of which nothing is archived."""
    if isinstance(store, SqliteStore):
        from audit_core.retention.sqlite_months import SqliteMonths

        return SqliteMonths(store)
    if store.name == "postgresql":  # whose driver may be missing
        from audit_core.retention.postgres_months import PostgresMonths
        from audit_core.stores.postgres import PostgresStore

        assert isinstance(store, PostgresStore)  # noqa: S101 - its name says so
        return PostgresMonths(store)
    raise ConfigurationError(
        f"A trail in {store.name} is not archived: months are moved out of SQLite and PostgreSQL, and what lies in a "
        "bucket is locked there until its time."
    )


def stays(row: Row, log: str) -> bool:
    """Whether a row stays whatever becomes of its month: the first event and statements are what all else needs."""
    return row[SEQUENCE] == 0 or claims_to_be_one(row, log)


def left_of(row: Row) -> Left:
    """What is left of a row, before its archive has a number."""
    return Left(row[SEQUENCE], row[HASH], row[ID], -1)


def next_month(month: str) -> str:
    """The one after it."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def interval_of(month: str) -> tuple[datetime, datetime]:
    """When a month begins, and when the next one does."""
    since, until = (datetime.fromisoformat(f"{one}-01").replace(tzinfo=UTC) for one in (month, next_month(month)))
    return since, until


def month_of(moment: datetime) -> str:
    """The month of a moment, in UTC."""
    return moment.astimezone(UTC).date().isoformat()[:7]  # strftime writes the year 1 without zeros


def checked_month(before: datetime, now: datetime) -> str:
    """The first month that is not archived. Raises ConfigurationError where that is after this one."""
    month = month_of(before)
    if month > month_of(now):
        raise ConfigurationError(f"The month {month_of(now)} is not over: archive what was before it.")
    return month
