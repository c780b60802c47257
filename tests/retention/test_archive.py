"""Three months out of twelve leave the trail: nothing is lost, nothing is there twice, and all is still provable."""

import gzip
import json
import sqlite3
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from audit_core.archives import places, shelf
from audit_core.archives.objects import read_object
from audit_core.archives.places import open_place
from audit_core.errors import ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.integrity.retention import Tally
from audit_core.integrity.verify import Result
from audit_core.query import EventQuery
from audit_core.retention import archiving
from audit_core.rows import from_row
from audit_core.stores import Left
from audit_core.testing import make_event
from tests import warm
from tests.attacks.attacker import superuser, without_guards
from tests.retention.scenes import (
    KINDS,
    MONTHS,
    PER_MONTH,
    archive,
    checkpoint,
    make_year,
    moments,
    opened,
    place_of,
    put,
    run,
    url_of,
    verify,
)

ROOT = Path(__file__).parents[2]
PRELOADED = ("tests.retention.scenes", "audit_core.retention.sqlite_months", "audit_core.retention.postgres_months")
ARCHIVED = 3 * PER_MONTH + 1  # with the one that came late
ALL = 1 + 12 * PER_MONTH + 1


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


class Year:
    """A year whose first three months are archived."""

    def __init__(self, kind, tmp_path, place=None):
        self.kind, self.url, self.place = kind, url_of(kind, tmp_path), place_of(place or kind, tmp_path)
        self.folder = tmp_path / "archive"
        self.key, self.note = make_year(self.url), checkpoint(self.url)
        with opened(self.url) as trail:
            self.before = [tuple(row) for row in trail.store.rows()]
            self.proofs = [trail.prove(number) for number in (1, 9, 25, 40)]

    def archive(self):
        self.archives = archive(self.url, self.place)
        return self

    def verify(self, **more):
        return verify(self.url, [self.note], self.key, **more)

    def kinds(self, **more):
        return {finding.kind for finding in self.verify(**more).findings}

    def tables(self, *statements):
        """Run SQL as whoever owns the database."""
        with opened(self.url) as trail:
            if self.kind == "postgres":
                with superuser(trail.store) as connection:
                    for statement in statements:
                        connection.execute(statement.replace("audit_", "audit.audit_"))
            else:
                with trail.store.database.transaction(5) as connection, without_guards(connection):
                    for statement in statements:
                        connection.execute(statement)


@pytest.fixture
def year(kind, tmp_path, state):
    return Year(kind, tmp_path).archive()


def test_three_months_of_twelve_are_archived_and_every_event_is_there_once_as_it_was(year):
    assert [(one.month, one.events) for one in year.archives] == [("2025-01", 4), ("2025-02", 4), ("2025-03", 5)]
    with opened(year.url) as trail:
        live, left = [row[13] for row in trail.store.rows()], [one.sequence for one in trail.store.left()]
        assert (len(live), len(left), set(live) & set(left)) == (ALL + 3 - ARCHIVED, ARCHIVED, set())
        whole = list(trail.chain.whole.rows())
        assert whole[:ALL] == year.before
        assert [from_row(row).action for row in whole[ALL:]] == ["trail.archived"] * 3
        assert archive(year.url, year.place) == []  # again, and nothing is left to do
    found = year.verify()
    assert (found.result, found.findings, found.warnings, found.unread) == (Result.OK, (), (), ())


def test_archived_events_are_proved_found_and_listed_with_the_others(year):
    with opened(year.url) as trail:
        for proof in year.proofs:
            again = trail.prove(proof.index)
            assert again.record == proof.record
            assert proof.check(trail.chain.key).size == ALL
            assert again.check(trail.chain.key).size == ALL + 3
            assert trail.find(json.loads(proof.record)["event_id"]).sequence == proof.index
        times = [event.timestamp for event in trail.events(newest_first=False, since=moments("2025-02")[0])]
        assert times == sorted(times)
        assert len(times) == ALL + 3 - 1 - PER_MONTH
        events = [event.sequence for event in trail.events()]
        assert (len(events), sorted(events)) == (ALL + 3, list(range(ALL + 3)))
        assert events[:3] == [ALL + 2, ALL + 1, ALL]
        month = EventQuery(since=moments("2025-03")[0], until=moments("2025-04")[0], newest_first=False)
        assert [event.sequence for event in trail.select(month)] == [9, 10, 25, 11, 12]


def test_without_the_archive_only_hashes_are_compared_and_the_verdict_says_which(year, tmp_path, capsys, monkeypatch):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    year.folder.rename(elsewhere / "moved")
    found = year.verify()
    assert (found.result, found.findings) == (Result.OK, ())
    assert [(one.month, one.events, one.first, one.last) for one in found.unread] == [
        ("2025-01", 4, 1, 4), ("2025-02", 4, 5, 8), ("2025-03", 5, 9, 25)
    ]  # fmt: skip
    code, out, _ = run(capsys, "verify", "--url", year.url)
    assert code == 3
    assert "events, 13 of them by their hashes alone, a consistent chain" in out
    assert "Of 2025-03, which is archived, the hashes of 5 events (9 to 25) were compared" in out
    code, out, _ = run(capsys, "verify", "--url", year.url, "--archive", (elsewhere / "moved").as_uri())
    assert "by their hashes alone" not in out
    monkeypatch.setenv("AUDIT_ARCHIVES", (tmp_path / "nowhere").as_uri())
    code, out, _ = run(capsys, "--archive", (elsewhere / "moved").as_uri(), "verify", "--url", year.url)
    assert "by their hashes alone" not in out, "what is typed goes before the environment"
    with opened(year.url) as trail:
        with pytest.raises(StoreUnavailableError, match=r"2025-01 are archived and cannot be read.*--archive"):
            trail.prove(1)
        with pytest.raises(StoreUnavailableError, match="cannot be read"):
            list(trail.events())
        assert len(list(trail.events(since=moments("2025-04")[0], until=moments("2025-05")[0]))) == PER_MONTH
        assert len(list(islice(trail.events(), ALL + 3 - ARCHIVED - 1))) == ALL + 3 - ARCHIVED - 1
    found = year.verify(archives=[elsewhere.as_uri()])  # said to be there, and it is not
    assert (found.result, {one.kind for one in found.findings}) == (Result.FAILED, {"archive"})


def test_threads_that_read_an_archive_at_once_each_read_all_of_it(tmp_path, state, monkeypatch):
    year = Year("sqlite", tmp_path).archive()
    usual = shelf.insert_events
    monkeypatch.setattr(shelf, "insert_events", lambda *args: (time.sleep(0.05), usual(*args)))
    with opened(year.url) as trail, ThreadPoolExecutor() as pool:
        reading = [pool.submit(lambda: sum(1 for _ in trail.events())) for _ in range(4)]
        assert [one.result() for one in reading] == [ALL + 3] * 4


FORKING = """
import os, sys
from audit_core import AuditTrail
trail = AuditTrail(sys.argv[1], lifecycle=False)
assert trail.find(1).sequence == 1
if (child := os.fork()) == 0:
    assert trail.find(2).sequence == 2
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert trail.find(3).sequence == 3
"""


def test_a_forked_child_that_ends_takes_nothing_from_its_parent(tmp_path, state):
    year = Year("sqlite", tmp_path).archive()
    assert subprocess.run([sys.executable, "-c", FORKING, year.url], cwd=ROOT, check=False).returncode == 0


def test_a_forked_child_closes_nothing_that_its_parent_has_opened(tmp_path, state):
    year = Year("sqlite", tmp_path).archive()
    with opened(year.url) as trail:
        assert trail.find(1).sequence == 1
        (there,) = map(weakref.ref, trail.chain.shelf._restored.values())
        trail.chain.shelf.abandon()
        assert there() is not None
        shelf._of_parents.pop().close()


MOVED = (
    "INSERT INTO audit_archived (sequence, event_hash, event_id, archive) "
    "SELECT sequence, event_hash, event_id, {} FROM audit_events WHERE sequence IN (30, 31)"
)
SECOND = "(SELECT event_hash FROM audit_archived WHERE sequence = 2)"
ATTACKS = {
    "change a hash that is left": (
        [f"UPDATE audit_archived SET event_hash = {SECOND} WHERE sequence = 3"],
        {"archive.changed"},
    ),
    "remove what is left of an event": (["DELETE FROM audit_archived WHERE sequence = 3"], {"missing"}),
    "remove what is left of all": (["DELETE FROM audit_archived"], {"missing"}),
    "remove live events as if they were archived": ([MOVED.format(99),
         "DELETE FROM audit_events WHERE sequence IN (30, 31)"],
        {"archive.unsigned"},
    ),
    "say that they are of a month that was archived": ([MOVED.format(ALL),
         "DELETE FROM audit_events WHERE sequence IN (30, 31)"],
        {"archive.changed"},
    ),
    "exchange the ids of two archived events": (
        ["UPDATE audit_archived SET event_id = '00000000-0000-0000-0000-000000000000' WHERE sequence = 3"],
        {"archive.changed"},
    ),
    "say that another statement has archived them": (
        [f"UPDATE audit_archived SET archive = {ALL + 1} WHERE sequence = 3"],
        {"archive.changed"},
    ),
    "edit the statement": (
        [f"UPDATE audit_events SET actor_id = 'nobody' WHERE sequence = {ALL}"],
        {"edited", "archive.unsigned"},
    ),
    "remove the statement": ([f"DELETE FROM audit_events WHERE sequence = {ALL}"], {"missing", "archive.unsigned"}),
    "edit an event that is not archived": (
        ["UPDATE audit_events SET actor_id = 'nobody' WHERE sequence = 40"],
        {"edited"},
    ),
    "drop a month without archiving it": (
        ["DELETE FROM audit_events WHERE timestamp >= '2025-05-01' AND timestamp < '2025-06-01'"],
        {"missing"},
    ),
}  # fmt: skip


def test_every_attack_on_what_is_left_is_found(year):
    with opened(year.url) as trail:
        rows = [tuple(row) for row in trail.store.rows()]
        assert len(rows) == ALL + 3 - ARCHIVED
    backup(year)
    for name, (statements, expected) in ATTACKS.items():
        year.tables(*statements)
        found = year.verify()
        kinds = {finding.kind for finding in found.findings}
        assert found.result is Result.FAILED, name
        assert expected <= kinds, (name, kinds)
        restore(year)
    assert year.verify().result is Result.OK


TABLES = ("audit_events", "audit_checkpoints", "audit_archived")


def kept_beside(trail):
    return trail.store.database.path.with_suffix(".kept")


def copy(source, target):
    with closing(sqlite3.connect(source)) as there, closing(sqlite3.connect(target)) as here:
        there.backup(here)


def backup(year):
    """What its tables hold, as whoever attacks puts it back."""
    with opened(year.url) as trail:
        if year.kind == "sqlite":
            copy(trail.store.database.path, kept_beside(trail))
            return
        with psycopg.connect(trail.store.database.conninfo) as connection:
            for table in TABLES:
                connection.execute(f"CREATE TABLE kept_{table} AS SELECT * FROM audit.{table}")


def restore(year):
    with opened(year.url) as trail:
        if year.kind == "sqlite":
            copy(kept_beside(trail), trail.store.database.path)
            return
        with superuser(trail.store) as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM audit.{table}")
                connection.execute(f"INSERT INTO audit.{table} SELECT * FROM kept_{table}")


def test_what_is_left_of_an_archive_is_missed_also_while_its_events_are_still_there(tmp_path, state, monkeypatch):
    year = Year("sqlite", tmp_path).archive()
    with opened(year.url) as trail:
        put(trail, [make_event(timestamp=moments("2025-02")[2])])
    with monkeypatch.context() as patch:
        patch.setattr("audit_core.retention.sqlite_months.SqliteMonths.finish", lambda _: 0)
        (late,) = archive(year.url, year.place)
    assert year.kinds() == set()
    year.tables(f"DELETE FROM audit_archived WHERE sequence = {late.first}")
    assert year.kinds() == {"archive.changed"}


def test_every_attack_on_what_was_archived_is_found(tmp_path, state):
    year = Year("sqlite", tmp_path).archive()
    path = year.folder / year.archives[1].object
    whole = path.read_bytes()
    for name, body in hostile(whole).items():
        path.chmod(0o600)
        path.write_bytes(body)
        found = year.verify()
        assert {finding.kind for finding in found.findings} == {"archive"}, name
        assert [one.month for one in found.unread] == ["2025-02"]
        with opened(year.url) as trail, pytest.raises(IntegrityError, match="2025-02 are archived and cannot be read"):
            trail.find(5)
    path.unlink()
    assert year.kinds() == {"archive"}
    path.write_bytes((year.folder / year.archives[0].object).read_bytes())  # another month in its place
    assert year.kinds() == {"archive"}
    path.write_bytes(whole)
    assert year.verify().result is Result.OK


def test_what_was_compared_with_the_signed_hash_is_what_is_read_whatever_becomes_of_it_later(tmp_path, state):
    year = Year("sqlite", tmp_path).archive()
    with opened(year.url) as trail:
        archive = year.archives[0]
        before = list(trail.chain.shelf.rows(archive, trail.chain.origin))
        there = year.folder / archive.object
        there.chmod(0o600)
        there.write_bytes((year.folder / year.archives[1].object).read_bytes())
        assert list(trail.chain.shelf.rows(archive, trail.chain.origin)) == before


def hostile(whole):
    lines = gzip.decompress(whole).splitlines(keepends=True)
    return {
        "a bit": bytes([*whole[:40], whole[40] ^ 1, *whole[41:]]),
        "its end": whole[:-20],
        "nothing": b"",
        "an event edited": gzip.compress(b"".join(lines).replace(b'"n":2', b'"n":7')),
        "an event less": gzip.compress(b"".join(lines[:-1])),
        "two exchanged": gzip.compress(b"".join([lines[0], lines[2], lines[1], *lines[3:]])),
        "packed anew": gzip.compress(b"".join(lines), 1),
        "no archive": b"{}",
    }


def test_whoever_writes_to_the_bucket_changes_nothing_of_what_is_read(tmp_path, state):
    from audit_core.s3 import open_bucket
    from tests.s3.server import client

    year = Year("postgres", tmp_path, "s3").archive()
    bucket, prefix = open_bucket(year.place)
    key = prefix + year.archives[0].object
    client().put_object(Bucket=bucket.name, Key=key, Body=b"another")
    client().delete_object(Bucket=bucket.name, Key=key)
    assert year.verify().findings == ()
    with pytest.raises(StoreUnavailableError, match="refuses"):
        bucket.remove(key)
    assert (year.verify().result, year.verify().unread) == (Result.OK, ())


def test_a_late_event_of_an_archived_month_is_sealed_and_archived_the_next_time(year):
    with opened(year.url) as trail:
        put(trail, [make_event(timestamp=moments("2025-02")[2], resource_id="very late")])
    assert year.verify().result is Result.OK
    (again,) = archive(year.url, year.place)
    assert (again.month, again.events, again.first) == ("2025-02", 1, ALL + 3)
    assert year.verify().result is Result.OK
    with opened(year.url) as trail:
        month = EventQuery(since=moments("2025-02")[0], until=moments("2025-03")[0])
        assert sum(1 for _ in trail.select(month)) == PER_MONTH + 1


def test_an_archived_event_that_comes_again_is_not_sealed_twice(year):
    with opened(year.url) as trail:
        event = trail.find(2)
        put(trail, [event])
        assert trail.store.extent().events == ALL + 3
        assert trail.store.known([event.event_id]) == {event.event_id}
    assert year.verify().findings == ()


def test_a_changed_event_is_not_archived_as_if_it_were_whole(kind, tmp_path, state, capsys):
    year = Year(kind, tmp_path)
    year.tables("UPDATE audit_events SET actor_id = 'nobody' WHERE sequence = 6")
    with pytest.raises(IntegrityError, match="nothing is archived"):
        archive(year.url, year.place)
    code, _, err = run(capsys, "archive", "--before", "2025-04-01", "--to", year.place, "--url", year.url)
    assert (code, "so nothing is archived: run `audit verify`" in err) == (2, True)
    with opened(year.url) as trail:
        assert sum(1 for _ in trail.store.left(5)) == 0


DYING = """
import os, signal, sys
from audit_core.archives import places
from audit_core.chain import AuditChain
from audit_core.retention import archiving, sqlite_months, postgres_months
from tests.retention.scenes import archive

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, count=1):
    method, calls = getattr(owner, name), []
    def called(*args, **more):
        result = method(*args, **more)
        calls.append(1)
        if len(calls) == count:
            die()
        return result
    setattr(owner, name, called)

months = sqlite_months.SqliteMonths if sys.argv[2].startswith("sqlite") else postgres_months.PostgresMonths
moments = {
    "nothing is written": lambda: setattr(archiving.Archiver, "_put", die),
    "it is half written": lambda: setattr(places, "sync_folder", die),
    "it is written": lambda: after(archiving.Archiver, "_put"),
    "it is stated": lambda: after(AuditChain, "state"),
    "the hashes are there": lambda: after(months, "leave"),
    "the month is dropped": lambda: after(months, "drop"),
    "it is committed": lambda: after(archiving.Archiver, "_move"),
    "half of it is removed": lambda: after(months, "_remove") if hasattr(months, "_remove") else die(),
    "the second month is committed": lambda: after(archiving.Archiver, "_move", 2),
}
sqlite_months.AT_ONCE = 2
moments[sys.argv[1]]()
archive(sys.argv[2], sys.argv[3])
"""
MOMENTS = [
    "nothing is written", "it is half written", "it is written", "it is stated", "the hashes are there",
    "the month is dropped", "it is committed", "half of it is removed", "the second month is committed",
]  # fmt: skip


def test_archiving_that_is_killed_at_any_moment_is_finished_by_the_next_try(tmp_path, state, kind):
    """One after another on the same trail: what each leaves the next one meets."""
    year = Year(kind, tmp_path)
    some = MOMENTS if kind == "sqlite" else ["it is written", "the month is dropped", "it is committed"]
    for moment in some:
        done = warm.run(["-c", DYING, moment, year.url, year.place], PRELOADED, cwd=ROOT)
        assert done.returncode == -9, (moment, done.stderr)
        found = year.verify()
        assert (found.result, found.findings, found.warnings) == (Result.OK, (), ()), moment
        with opened(year.url) as trail:
            assert [tuple(row) for row in trail.chain.whole.rows(0, ALL)] == year.before, moment
            assert sorted(event.sequence for event in trail.events()) == list(range(trail.store.extent().events))
    year.archive()
    with opened(year.url) as trail:
        assert sum(1 for _ in trail.store.left()) == ARCHIVED
        assert {row[13] for row in trail.store.rows()}.isdisjoint(one.sequence for one in trail.store.left())
        assert [tuple(row) for row in trail.chain.whole.rows(0, ALL)] == year.before
    assert year.verify().findings == ()


def test_an_event_of_the_month_that_comes_while_it_is_written_is_in_the_archive(kind, tmp_path, state, monkeypatch):
    from audit_core.retention.archiving import Archiver

    year, put_object, late = Year(kind, tmp_path), Archiver._put, []

    def put_while_one_comes(self, written, *args):
        put_object(self, written, *args)
        if not late:
            late.append(1)
            with opened(year.url) as trail:
                put(trail, [make_event(timestamp=moments("2025-01")[0], resource_id="late")])

    monkeypatch.setattr(Archiver, "_put", put_while_one_comes)
    year.archive()
    assert [one.events for one in year.archives] == [PER_MONTH + 1, PER_MONTH, PER_MONTH + 1]
    assert year.verify().findings == ()


def test_nobody_can_delete_events_because_archiving_can(year):
    with opened(year.url) as trail:
        if year.kind == "sqlite":
            with sqlite3.connect(trail.store.database.path) as connection:
                for table in ("audit_events", "audit_archived"):
                    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                        connection.execute(f"DELETE FROM {table}")
            connection.close()
        else:
            with psycopg.connect(trail.store.database.conninfo) as connection:
                for table in ("audit_events", "audit_archived"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                        connection.execute(f"DELETE FROM audit.{table}")
        assert list(trail.store.check_schema()) == []


def test_the_present_month_and_what_lies_in_memory_or_a_bucket_are_not_archived(tmp_path, state, capsys):
    url = url_of("sqlite", tmp_path)
    make_year(url)
    code, _, err = run(capsys, "archive", "--before", "2199-01-01", "--to", place_of("sqlite", tmp_path), "--url", url)
    assert (code, "is not over" in err) == (2, True)
    code, _, err = run(capsys, "archive", "--before", "2025-02-01", "--to", "http://x", "--url", url)
    assert (code, "An archive's URL is file:///folder or s3://bucket/prefix" in err) == (2, True)
    with opened("memory:") as trail:
        put_one(trail)
        with pytest.raises(ConfigurationError, match="A trail in memory is not archived"):
            list(archiver(trail, tmp_path).run("2025-04"))


def put_one(trail):
    trail.record("a.b")
    trail.flush()


def archiver(trail, tmp_path):
    from audit_core.archives.places import open_place
    from audit_core.retention.archiving import Archiver

    return Archiver(trail.chain, open_place(tmp_path.as_uri()), trail.event)


def test_the_object_is_json_lines_that_common_tools_check(tmp_path, state):
    from hashlib import sha256

    year = Year("sqlite", tmp_path).archive()
    path = year.folder / year.archives[0].object
    head, *lines = gzip.decompress(path.read_bytes()).splitlines()
    assert json.loads(head)["month"] == MONTHS[0]
    for line in lines:
        found, record = json.loads(line), line.partition(b'"record":')[2][:-1]
        assert found["event_hash"] == sha256(b"\0" + record).hexdigest()
    with pytest.raises(IntegrityError, match="is no archive of another"):
        list(read_object(path, "another"))


def test_a_bundle_and_a_report_are_of_archived_and_live_months_together(year, tmp_path, capsys):
    words = ["--since", "2025-03-01", "--until", "2025-04-30"]
    code, out, _ = run(capsys, "report", "access", "patient", *words, "--format", "json", "--url", year.url)
    assert code == 0
    assert [row["sequence"] for row in json.loads(out)["rows"]] == [9, 10, 11, 12, 13, 14, 15, 16]
    bundle = tmp_path / "evidence.zip"
    code, _, err = run(capsys, "export", "--bundle", bundle, *words, "--url", year.url)
    assert (code, bundle.exists()) == (0, True), err
    code, out, _ = run(capsys, "check-bundle", bundle, "--key", year.key)
    assert code == 0


def test_what_was_verified_before_a_month_was_archived_is_gone_on_from(tmp_path, state):
    year = Year("sqlite", tmp_path)
    seen = year.verify().seen
    year.archive()
    with opened(year.url) as trail:
        found = trail.verify(None, [year.note], seen=seen)
        assert (found.result, found.start, found.findings) == (Result.OK, ALL, ())
        again = trail.verify(None, [year.note], seen=found.seen, whole=True)
        assert (again.result, again.start, again.unread) == (Result.OK, 0, ())
        jobs = trail.verify(None, [year.note], jobs=2)
        assert (jobs.result, jobs.findings) == (Result.OK, ())


def test_a_statement_that_the_key_has_not_signed_covers_nothing(year):
    """Whoever may record events and owns the database, without the key."""
    tally = Tally()
    with opened(year.url) as trail:
        for number in (30, 31):
            row = trail.store.row(number)
            tally.add(Left(row[13], row[-1], row[4], -1))
        forged = year.archives[0]._replace(events=2, first=30, last=31, hashes=tally.hashes)
        details = {"says": forged.says, "signatures": []}
        origin = trail.chain.origin
        put(trail, [make_event(action="trail.archived", resource_type="trail", resource_id=origin, details=details)])
        number = trail.store.extent().events - 1
    year.tables(MOVED.format(number), "DELETE FROM audit_events WHERE sequence IN (30, 31)")
    assert year.kinds() == {"archive.unsigned"}


@pytest.mark.parametrize("url", ["s3://[bucket", "file:///folder/%00", "file:///folder#2", "file:///", "/folder"])
def test_a_place_that_is_none_is_told_in_a_sentence(url):
    with pytest.raises(ConfigurationError, match="An archive's URL is"):
        open_place(url)


@pytest.mark.parametrize("where", [(places, "_copy"), (archiving, "write_object")], ids=["the place", "TMPDIR"])
def test_a_full_disk_is_told_as_one_and_the_month_goes_when_there_is_room(where, tmp_path, state, capsys, monkeypatch):
    url, words = url_of("sqlite", tmp_path), ["archive", "--before", "2025-02-01", "--to", place_of("folder", tmp_path)]
    make_year(url)
    with monkeypatch.context() as patch:
        patch.setattr(*where, lambda *_: Path("/dev/full").write_text("x"))
        code, _, err = run(capsys, *words, "--url", url)
        assert (code, "make room" in err) == (2, True)
    assert run(capsys, *words, "--url", url)[0] == 0
