"""All that can be read of a trail: by its means, and past them."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psycopg

from audit_core.cli.proofs import document_of
from audit_core.evidence.bundle import write_bundle
from audit_core.evidence.check import check_bundle
from audit_core.evidence.selection import Selection
from audit_core.evidence.tiles import export_tiles
from audit_core.integrity.note import VerifierKey
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter, write_csv
from audit_core.reports.page import write_page
from audit_core.reports.render import write_json
from tests.life.living import NURSES, PATIENTS


def surfaces(life, folder):
    """Names, and what stands there, as text."""
    yield from _tables(life)
    for path in (life.folder / "archive").glob("*"):
        yield path.name, gzip.decompress(path.read_bytes()).decode()
    folder.mkdir()
    with life.opened() as trail:
        yield "events", str([str(event) for event in trail.events()])
        yield "proof", str(document_of(trail.prove(trail.store.extent().events - 1)))
        yield from _reports(trail)
        asked = EventQuery(since=datetime(2020, 1, 1, tzinfo=UTC), newest_first=False)
        write_bundle(trail, Selection(asked), folder / "bundle.zip")
        with (folder / "bundle.zip").open("rb") as file:
            assert check_bundle(file, [VerifierKey.parse(life.key)]).faults == []
        with zipfile.ZipFile(folder / "bundle.zip") as bundle:
            yield from ((f"bundle {name}", bundle.read(name).decode()) for name in bundle.namelist())
        export_tiles(trail.chain, folder / "tiles")
        for path in (folder / "tiles").rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes().decode(errors="replace")


def _reports(trail):
    reporter = AuditReporter(trail)
    subject = {"actors": NURSES, "resources": [("patient", one) for one in PATIENTS]}
    made = {
        "access.csv": (reporter.access_report("patient"), write_csv),
        "privileged.json": (reporter.privileged_action_report(), write_json),
        "failures.csv": (reporter.failed_access_report(min_failures=1), write_csv),
        "subject.csv": (reporter.subject_report(**subject), write_csv),
        "subject.json": (reporter.subject_report(**subject), write_json),
        "subject.html": (reporter.subject_report(**subject), write_page),
    }
    for name, (report, write) in made.items():
        stream = io.StringIO()
        write(report, stream)
        yield name, stream.getvalue()


def _tables(life):
    if life.kind == "sqlite":
        with closing(sqlite3.connect(urlsplit(life.url).path)) as connection:
            yield "the tables", "\n".join(connection.iterdump())
        return
    with psycopg.connect(life.url) as connection:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'audit'"
        for (table,) in connection.execute(query).fetchall():
            rows = connection.execute(f"SELECT t::text FROM audit.{table} t").fetchall()
            yield table, "\n".join(row[0] for row in rows)
