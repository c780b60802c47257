"""Reports as CSV and as JSON. Each row is written when it is read."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from audit_core.canonical import format_timestamp
from audit_core.reports.report import Report
from audit_core.reports.rows import EventRow, FailureRow, SubjectRow
from audit_core.reports.text import safe_json, spreadsheet_cell, spreadsheet_json

AnyReport = Report[EventRow] | Report[FailureRow] | Report[SubjectRow]


def write_csv(report: AnyReport, stream: TextIO) -> None:
    """Every field of every row. What is to be said about the report is in ``coverage`` and ``statements``."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(report.columns)
    for row in report:
        writer.writerow([_csv_cell(getattr(row, name)) for name in report.columns])


def write_json(report: AnyReport, stream: TextIO) -> None:
    """One document with one row a line. It ends with ``statements``: what breaks off before is no JSON."""
    coverage = {**asdict(report.coverage), "noted": report.coverage.noted}
    head = {
        "report": report.name,
        "title": report.title,
        "coverage": {name: _plain(value) for name, value in coverage.items()},
    }
    stream.write(f'{_dump(head)[:-1]}, "rows": [')
    for number, row in enumerate(report):
        stream.write(",\n" if number else "\n")
        stream.write(_dump({name: _plain(getattr(row, name)) for name in report.columns}))
    tail: dict[str, Any] = {"limits": report.limits} if report.limits else {}
    tail |= {"events": report.events, "statements": [asdict(statement) for statement in report.statements]}
    stream.write(f"\n], {_dump(tail)[1:]}\n")


def _csv_cell(value: Any) -> object:
    return spreadsheet_json(_dump(value)) if isinstance(value, dict) else spreadsheet_cell(_plain(value))


def _plain(value: Any) -> Any:
    return format_timestamp(value) if isinstance(value, datetime) else value


def _dump(value: Any) -> str:
    return safe_json(json.dumps(value, ensure_ascii=False))
