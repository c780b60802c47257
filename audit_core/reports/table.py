"""Reports for a reader: a table where it has room, else two lines for each row. Each is written when it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from audit_core.reports.render import AnyReport
from audit_core.reports.rows import EventRow, FailureRow, SubjectRow
from audit_core.reports.text import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TABLE_ROWS = 100  # a table is laid out in parts: one that knows all its rows would hold them in memory
ROOM = 120  # columns of a terminal from which on all of a row has room in one line
_WHEN = "%Y-%m-%d %H:%M:%S"
_FIXED = {  # widths of what is as long everywhere; an IPv6 address goes on in the next line
    "when (UTC)": 19, "first (UTC)": 19, "last (UTC)": 19, "outcome": 7, "sequence": 8, "from": 15, "by": 7,
    "failures": 8, "denied": 6, "failed": 6,
}  # fmt: skip
_FURTHER = (
    "`audit show` with one of these sequences shows that event in full, `audit prove` proves it to whoever has the "
    "verifier key."
)
_SHARES = {"who": 4, "action": 5, "resource": 4, "changed": 3, "last action": 5}  # of the rest


def write_table(report: AnyReport, console: Console) -> None:
    """Says first how complete the report is, and last what it shows."""
    from rich.text import Text

    def say(text: str, style: str = "") -> None:
        console.print(Text(visible(text), style), soft_wrap=True)

    say(report.title, "bold")
    for line in report.coverage.sentences():
        say(line)
    say("")
    cells = (_cells(row) for row in report)
    for table in _in_columns(cells) if console.width >= ROOM else _in_two_lines(cells):
        console.print(table)
    say("")
    say(f"Rows: {report.rows:,}, from events: {report.events:,}.")
    for line in [*map(str, report.statements), *report.limits, *([_FURTHER] if report.rows else [])]:
        say(line)


def _in_columns(rows: Iterator[Mapping[str, str]]) -> Iterator[Table]:
    """Without the columns that are empty; their names stand there again where further ones are needed."""
    shown: list[str] = []
    while part := list(islice(rows, TABLE_ROWS)):
        needed = [name for name in part[0] if name in shown or any(row[name] for row in part)]
        table = _make_table(header=needed != shown)
        for name in needed:
            if (width := _FIXED.get(name)) is None:
                table.add_column(name, ratio=_SHARES[name], overflow="fold")
            else:
                table.add_column(name, width=width, overflow="fold")
        _add_rows(table, ([row[name] for name in needed] for row in part))
        shown = needed
        yield table


def _in_two_lines(rows: Iterator[Mapping[str, str]]) -> Iterator[Table]:
    header = True
    while part := list(islice(rows, TABLE_ROWS)):
        table = _make_table(header=header)
        number = "sequence" if "sequence" in part[0] else "failures"
        table.add_column(number, width=_FIXED[number], justify="right")
        table.add_column("when (UTC), and what", ratio=1, overflow="fold")
        _add_rows(table, ([row[number], _two_lines(row)] for row in part))
        header = False
        yield table


def _make_table(*, header: bool) -> Table:
    """Widths depend on the console alone, so that the parts of a long table stand below each other."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, show_header=header, show_edge=False, expand=True, padding=(0, 1))


def _add_rows(table: Table, rows: Iterable[list[str]]) -> None:
    from rich.text import Text

    for cells in rows:
        table.add_row(*map(Text, cells))


def _cells(row: EventRow | FailureRow | SubjectRow) -> dict[str, str]:
    """By the names of their columns, and safe to show."""
    if isinstance(row, FailureRow):
        values = _failure(row)
    else:
        values = _subject(row) if isinstance(row, SubjectRow) else _event(row)
    return {name: visible(value) for name, value in values.items()}


def _event(row: EventRow) -> dict[str, object]:
    changes = row.details.get("changes")
    return {
        "when (UTC)": f"{row.timestamp:{_WHEN}}",
        "who": _who(row),
        "action": row.action,
        "resource": ":".join(part for part in (row.resource_type, row.resource_id) if part is not None),
        "outcome": row.outcome,
        "from": row.ip_address,
        "changed": ", ".join(changes) if isinstance(changes, dict) else "",
        "sequence": "waiting" if row.sequence is None else row.sequence,
    }


def _subject(row: SubjectRow) -> dict[str, object]:
    who = f"({row.who_is})" if row.who is None else row.who
    return {
        "when (UTC)": f"{row.timestamp:{_WHEN}}",
        "who": f"{who} for the person" if row.in_their_name else who,
        "action": row.action,
        "resource": ":".join(part for part in (row.resource_type, row.resource_id) if part is not None),
        "outcome": row.outcome,
        "from": row.ip_address,
        "changed": ", ".join(row.changes),
        "sequence": "waiting" if row.sequence is None else row.sequence,
    }


def _failure(row: FailureRow) -> dict[str, object]:
    return {
        "first (UTC)": f"{row.first:{_WHEN}}",
        "last (UTC)": f"{row.last:{_WHEN}}",
        "by": row.by,
        "who": row.who,
        "failures": row.failures,
        "denied": row.denied,
        "failed": row.failed,
        "last action": f"{row.last_action}, {'waiting' if row.last_sequence is None else f'event {row.last_sequence}'}",
    }


def _who(row: EventRow) -> str:
    name = f"({row.actor_type})" if row.actor_id is None else row.actor_id
    name += f" ({row.actor_type})" if row.actor_id is not None and row.actor_type != "user" else ""
    return name if row.on_behalf_of is None else f"{name} for {row.on_behalf_of}"


def _two_lines(cells: Mapping[str, str]) -> str:
    """All of a row but its number; no value holds a line break any more."""
    if "outcome" not in cells:
        first = f"{cells['first (UTC)']} to {cells['last (UTC)']}  by {cells['by']} {cells['who']}"
        return f"{first}\n{cells['denied']} denied, {cells['failed']} failed, the last at {cells['last action']}"
    parts = [cells["who"], cells["resource"], *(f"{name} {cells[name]}" for name in ("from", "changed") if cells[name])]
    first = f"{cells['when (UTC)']}  {cells['outcome']:<7}  {cells['action']}"
    return f"{first}\n{'  '.join(part for part in parts if part)}"
