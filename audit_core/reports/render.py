"""Reports as a table, as CSV and as JSON. Each row is written when it is read."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from audit_core.canonical import format_timestamp
from audit_core.reports.report import Report
from audit_core.reports.rows import EventRow, FailureRow
from audit_core.reports.text import safe_json, spreadsheet_cell, spreadsheet_json, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

AnyReport = Report[EventRow] | Report[FailureRow]
TABLE_ROWS = 100  # a table is laid out in parts: one that knows all its rows would hold them in memory
_WHEN = "%Y-%m-%d %H:%M:%SZ"
_COLUMNS: dict[type, dict[str, int]] = {  # and their shares of the width
    EventRow: {"who": 4, "action": 5, "resource": 3, "outcome": 2, "from": 3, "changed": 4, "sequence": 2},
    FailureRow: {"last": 0, "by": 2, "who": 5, "failures": 2, "denied": 2, "failed": 2, "last action": 5},
}


def write_csv(report: AnyReport, stream: TextIO) -> None:
    """Every field of every row. What is to be said about the report is in ``coverage`` and ``statements``."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(report.columns)
    for row in report:
        writer.writerow([_csv_cell(getattr(row, name)) for name in report.columns])


def write_json(report: AnyReport, stream: TextIO) -> None:
    """One document with one row a line. It ends with ``statements``: what breaks off before is no JSON."""
    head = {
        "report": report.name,
        "title": report.title,
        "coverage": {name: _plain(value) for name, value in asdict(report.coverage).items()},
    }
    stream.write(f'{_dump(head)[:-1]}, "rows": [')
    for number, row in enumerate(report):
        stream.write(",\n" if number else "\n")
        stream.write(_dump({name: _plain(getattr(row, name)) for name in report.columns}))
    tail = {"events": report.events, "statements": [asdict(statement) for statement in report.statements]}
    stream.write(f"\n], {_dump(tail)[1:]}\n")


def write_table(report: AnyReport, console: Console) -> None:
    """For a reader; says first how complete it is, and last what it shows."""
    from rich.text import Text

    def say(text: str, style: str = "") -> None:
        console.print(Text(visible(text), style), soft_wrap=True)

    say(report.title, "bold")
    for line in report.coverage.sentences():
        say(line)
    say("")
    rows = (_cells(row) for row in report)
    while part := list(islice(rows, TABLE_ROWS)):
        table = _table(report, header=report.rows <= TABLE_ROWS)
        for cells in part:
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
    say(f"Rows: {report.rows:,}, from events: {report.events:,}.")
    for statement in report.statements:
        say(str(statement))


def _table(report: AnyReport, *, header: bool) -> Table:
    """Widths depend on the console alone, so that the parts of a long table stand below each other."""
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD if header else None, show_header=header, expand=True, padding=(0, 1), pad_edge=True
    )
    table.add_column("first" if report.row_type is FailureRow else "when", width=20, no_wrap=True)
    for name, share in _COLUMNS[report.row_type].items():
        if share:
            table.add_column(name, ratio=share, overflow="fold")
        else:
            table.add_column(name, width=20, no_wrap=True)
    return table


def _cells(row: EventRow | FailureRow) -> list[object]:
    if isinstance(row, FailureRow):
        return [
            f"{row.first:{_WHEN}}", f"{row.last:{_WHEN}}", row.by, row.who, row.failures, row.denied, row.failed,
            row.last_action,
        ]  # fmt: skip
    changes = row.details.get("changes")
    return [
        f"{row.timestamp:{_WHEN}}",
        _who(row),
        row.action,
        ":".join(part for part in (row.resource_type, row.resource_id) if part is not None),
        row.outcome,
        row.ip_address,
        ", ".join(changes) if isinstance(changes, dict) else "",
        "waiting" if row.sequence is None else row.sequence,
    ]


def _who(row: EventRow) -> str:
    name = f"({row.actor_type})" if row.actor_id is None else row.actor_id
    name += f" ({row.actor_type})" if row.actor_id is not None and row.actor_type != "user" else ""
    return name if row.on_behalf_of is None else f"{name} for {row.on_behalf_of}"


def _csv_cell(value: Any) -> object:
    return spreadsheet_json(_dump(value)) if isinstance(value, dict) else spreadsheet_cell(_plain(value))


def _plain(value: Any) -> Any:
    return format_timestamp(value) if isinstance(value, datetime) else value


def _dump(value: Any) -> str:
    return safe_json(json.dumps(value, ensure_ascii=False))
