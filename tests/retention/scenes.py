"""A year of events: on SQLite with archives in a folder, on PostgreSQL with archives in a bucket."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from audit_core import AuditTrail
from audit_core.archives.places import open_place
from audit_core.cli import main
from audit_core.integrity.note import VerifierKey
from audit_core.postgres.partitions import Partitions
from audit_core.retention.archiving import Archiver
from audit_core.testing import make_event
from tests.postgres.server import new_database
from tests.s3.server import new_place

KINDS = ("sqlite", "postgres")
YEAR = 2025
MONTHS = [f"{YEAR}-{number:02d}" for number in range(1, 13)]
PER_MONTH = 4


def url_of(kind, tmp_path):
    return f"sqlite:///{tmp_path / 'clinic.db'}" if kind == "sqlite" else new_database()


def place_of(kind, tmp_path):
    return new_place() if kind == "s3" else (tmp_path / "archive").as_uri()


def moments(month, count=PER_MONTH):
    first = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    return [first + timedelta(days=6 * n, microseconds=n) for n in range(count)]


def put(trail, events):
    database = trail.outboxes[0].database
    with database.transaction() as connection:
        trail.outboxes[0].put(events, connection)
    trail.flush(60)


def month_of_events(month, **more):
    return [
        make_event(timestamp=moment, resource_type="patient", resource_id=f"{month}-{n}", details={"n": n}, **more)
        for n, moment in enumerate(moments(month))
    ]


@contextmanager
def opened(url, **more):
    with AuditTrail(url, lifecycle=False, **more) as trail:
        yield trail


def make_year(url):
    """Twelve months, each a batch; of the third an event comes late, in the sixth."""
    with opened(url) as trail:
        for month in MONTHS:
            events = month_of_events(month)
            if month == MONTHS[5]:
                events.append(make_event(timestamp=moments(MONTHS[2])[1], resource_id="late"))
            put(trail, events)
        if trail.store.name == "postgresql":
            Partitions(trail.store.database).move_from_default()
        return str(trail.chain.key)


def archive(url, place, before="2025-04"):
    with opened(url) as trail:
        return list(Archiver(trail.chain, open_place(place), trail.event).run(before))


def run(capsys, *words):
    capsys.readouterr()
    code = main([*map(str, words)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def verify(url, known=(), key=None, **more):
    with opened(url, **more) as trail:
        return trail.verify(VerifierKey.parse(key) if key else None, known)


def checkpoint(url):
    with opened(url) as trail:
        return trail.chain.checkpoint_note()


def last_of(trail):
    return trail.store.extent().events
