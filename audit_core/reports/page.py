"""The report about one person as one page that the person can read and print. It holds no program and asks no network.

Many of its values were chosen by whoever attacked the application: each is escaped, and a policy in the page forbids
whatever could run or be fetched all the same.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from importlib import resources
from shutil import copyfileobj
from string import Template
from tempfile import TemporaryFile
from typing import Any, TextIO

from audit_core.reports.report import Report
from audit_core.reports.rows import SubjectRow
from audit_core.reports.text import visible
from audit_core.reports.words import deed, ending, is_change, kind_of_actor

ROWS = "$rows"  # stands once in the template, where the sections come
_WHEN = "%Y-%m-%d %H:%M:%S"
_HEADS = "<tr><th>When (UTC)</th><th>Who</th><th>What</th><th>Which record</th></tr>"


@dataclass(slots=True)
class _Section:
    """The rows of one heading wait in a file: how many there are stands above them."""

    name: str
    title: str
    empty: str
    file: TextIO
    rows: int = 0

    def add(self, row: SubjectRow) -> None:
        """Write the row."""
        self.rows += 1
        self.file.writelines(_row(row))


def write_page(report: Report[SubjectRow], stream: TextIO) -> None:
    """The whole page, in constant memory: its rows wait in temporary files, which have no name."""
    with ExitStack() as stack:

        def wait() -> TextIO:
            return stack.enter_context(TemporaryFile("w+", encoding="utf-8", newline="\n"))

        looked = _Section(
            "looked", "Who looked at or worked with what is about you", "Nothing of this kind is in the trail.", wait()
        )
        changed = _Section("changed", "What was changed", "No change is in the trail.", wait())
        done = _Section(
            "done", "What you did yourself, or was done in your name", "Nothing of this kind is in the trail.", wait()
        )
        for row in report:
            of_others = changed if is_change(row) else looked
            (done if row.relation != "about" else of_others).add(row)
        sections = [looked, changed, done]
        words = _words(report, sections)
        head, tail = map(Template, _file("page.html").split(ROWS))  # first: a name may be called like the mark
        stream.write(head.substitute(words))
        for section in sections:
            _write_section(section, stream)
        stream.write(tail.substitute(words))


def _words(report: Report[SubjectRow], sections: list[_Section]) -> dict[str, str]:
    style, coverage = _file("page.css"), report.coverage
    return {
        "style": style,
        "style_hash": b64encode(sha256(style.encode()).digest()).decode(),
        "title": _text(report.title),
        "prepared": f"{datetime.now(UTC):{_WHEN}}",
        "interval": _interval(coverage.start, coverage.end),
        "counts": _items(f'<a href="#{one.name}">{one.title}</a>: {_events(one.rows)}' for one in sections),
        "coverage": _items(map(_text, coverage.sentences()[1:])),
        "limits": _items(map(_text, report.limits)),
    }


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"<li>{line}</li>" for line in lines)


def _write_section(section: _Section, stream: TextIO) -> None:
    stream.write(f'<section id="{section.name}">\n<h2>{section.title} <small>{_events(section.rows)}</small></h2>\n')
    if not section.rows:
        stream.write(f"<p>{section.empty}</p>\n</section>\n")
        return
    stream.write(f"<table>\n<thead>{_HEADS}</thead>\n")
    section.file.seek(0)
    copyfileobj(section.file, stream)
    stream.write("</table>\n</section>\n")


def _row(row: SubjectRow) -> Iterator[str]:
    """A body of its own, so that no page of paper ends within it."""
    place = "waits to be sealed" if row.sequence is None else f"no. {row.sequence}"
    yield f'<tbody>\n<tr><td class="when">{row.timestamp:{_WHEN}}<span class="quiet">{place}</span></td>'
    yield f"<td>{_who(row)}</td><td>{_what(row)}</td><td>{_which(row)}</td></tr>\n"
    if row.changes:
        yield from _changes(row.changes)
    if row.details:
        parts = "; ".join(f"{_text(name)}: {_value(value)}" for name, value in row.details.items())
        yield f'<tr class="more"><td></td><td colspan="3">{parts}</td></tr>\n'
    if row.withheld:
        yield f'<tr class="more quiet"><td></td><td colspan="3">Withheld: {_text(row.withheld)}.</td></tr>\n'
    yield "</tbody>\n"


def _who(row: SubjectRow) -> str:
    kind = _text(kind_of_actor(row))
    if row.is_self:
        return f'you<span class="quiet">{_text(row.who)}</span>'
    name = f'{_text(row.who)}<span class="quiet">{kind}</span>' if row.who else kind
    return f'{name}<span class="quiet">in your name</span>' if row.in_their_name else name


def _what(row: SubjectRow) -> str:
    words = deed(row)
    lines = [_text(words)]
    if words != row.action:
        lines.append(f'<span class="quiet">{_text(row.action)}</span>')
    if end := ending(row):
        lines.append(f'<strong class="bad">{end}</strong>')
    where = " ".join(filter(None, (row.ip_address, row.user_agent)))
    return "".join([*lines, f'<span class="quiet">from {_text(where)}</span>' if where else ""])


def _which(row: SubjectRow) -> str:
    return " ".join(_text(part) for part in (row.resource_type, row.resource_id) if part is not None)


def _changes(changes: dict[str, Any]) -> Iterator[str]:
    yield '<tr class="more"><td></td><td colspan="3"><table class="changes">'
    yield "<thead><tr><th>Field</th><th>Before</th><th>After</th></tr></thead>"
    for name, change in changes.items():
        sides = change if isinstance(change, dict) else {"new": change}
        cells = "".join(f'<td class="{side}">{_value(sides.get(side))}</td>' for side in ("old", "new"))
        yield f"<tr><td>{_text(name)}</td>{cells}</tr>"
    yield "</table></td></tr>\n"


def _value(value: Any) -> str:
    if value is None:
        return '<span class="quiet">nothing</span>'
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(value: object) -> str:
    """Text that can neither end the element that it stands in nor turn around what stands beside it."""
    return f"<bdi>{escape(visible(value))}</bdi>"


def _interval(start: datetime | None, end: datetime | None) -> str:
    since = "from the beginning of the trail" if start is None else f"from {start:{_WHEN}}"
    return f"{since} {'until this page was made' if end is None else f'to before {end:{_WHEN}}'} (UTC)"


def _events(count: int) -> str:
    return f"{count:,} {'event' if count == 1 else 'events'}"
