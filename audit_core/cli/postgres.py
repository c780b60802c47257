"""``audit partitions`` and ``audit doctor``, and what ``audit seal --follow`` does on PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from audit_core.cli.place import Url, open_trail
from audit_core.cli.terminal import note, say
from audit_core.cli.words import count_of
from audit_core.errors import AuditError, ConfigurationError
from audit_core.postgres import PostgresDatabase
from audit_core.postgres.doctor import Check, Doctor
from audit_core.postgres.partitions import MONTHS_AHEAD, Partition, Partitions
from audit_core.signing import UNFINISHED
from audit_core.trail import AuditTrail

REPORT_SECONDS = 5.0  # how often a sealer says what it has done
PARTITIONS_SECONDS = 3600.0  # how often it looks whether a month is missing


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (partitions, doctor):
        app.command()(command)


def database_of(trail: AuditTrail) -> PostgresDatabase:
    """The database that the trail lies in. Raises ConfigurationError where it is another one."""
    database = getattr(trail.store, "database", None)
    if not isinstance(database, PostgresDatabase):
        raise ConfigurationError("This is for a trail in PostgreSQL: give a URL like postgresql://host/database.")
    return database


def partitions(
    context: typer.Context,
    *,
    url: Url = None,
    months_ahead: Annotated[
        int, typer.Option(metavar="N", min=0, max=120, help="How many months ahead.")
    ] = MONTHS_AHEAD,
    from_default: Annotated[
        bool, typer.Option("--from-default", help="Give months that landed in the default partition one of their own.")
    ] = False,
) -> None:
    """Make the partitions of months to come. And show which there are (PostgreSQL)."""
    with open_trail(context, url) as trail:
        months = Partitions(database_of(trail))
        if from_default:
            for month in months.move_from_default():
                say(f"moved   audit_events_{month}")
        if months.may_make():
            for name in months.make(months_ahead):
                say(f"made    {name}")
        else:
            note("This role may make no months: it only looks.")
        for partition in months.all():
            say(f"{partition.name:<24}{_rows(partition):>20} {partition.size / 1e6:>10,.1f} MB")
        if left := months.months_in_default():
            note(f"In the default partition: {', '.join(left)}; `--from-default` moves them.", "yellow")
        _note_lost(months)


def _rows(partition: Partition) -> str:
    if partition.rows is None:
        return "events not counted"
    return f"{'about ' if partition.is_estimate else ''}{count_of(partition.rows)}"


def _note_lost(months: Partitions) -> None:
    for text in months.lost():
        note(text, "yellow")


def doctor(context: typer.Context, *, url: Url = None) -> None:
    """Try what each role may do, on PostgreSQL.

    What it must not be able to do is tried, too, and undone; and a queue is asked for what could lose events.
    """
    with open_trail(context, url) as trail:
        is_well = True
        for check in _checks(trail):
            is_well = is_well and check.holds
            mark, style = ("note", "yellow") if check.is_note else ("ok", "green") if check.holds else ("WRONG", "red")
            say(f"{mark:<6}{check.text}.", style)
        if place := trail.signing_key.next_place:
            say(f"note  {UNFINISHED.format(place)}.", "yellow")
    if not is_well:
        raise typer.Exit(1)


def _checks(trail: AuditTrail) -> Iterator[Check]:
    if trail.queue is None or isinstance(getattr(trail.store, "database", None), PostgresDatabase):
        yield from Doctor(database_of(trail)).examine()
    if trail.queue:
        yield from trail.queue.examine()


def follow_apart(trail: AuditTrail, told: threading.Event) -> None:
    """Seal until told to stop, for those who write; say now and then how much, and make PostgreSQL's months to come."""
    size, looked = None, -PARTITIONS_SECONDS
    has_months = isinstance(getattr(trail.store, "database", None), PostgresDatabase)
    trail.keep_sealing()
    while not told.wait(REPORT_SECONDS):
        try:
            if has_months and time.monotonic() - looked > PARTITIONS_SECONDS:
                looked = time.monotonic()
                months = Partitions(database_of(trail))
                for name in months.make():
                    say(f"made {name}")
                _note_lost(months)
            now = trail.store.extent().events
        except AuditError as error:
            note(str(error), "yellow")
            continue
        if size is not None and now > size:
            say(f"{now - size:,} sealed; the trail holds {now:,} events.")
        size = now
