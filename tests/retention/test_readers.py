"""Reports, exports and bundles over months that are live, archived and purged: nobody is shown less in silence."""

import io
from datetime import UTC, datetime

import pytest

from audit_core.archives.shelf import Shelf
from audit_core.evidence.bundle import write_bundle
from audit_core.evidence.check import check_bundle
from audit_core.evidence.checked import Verdict
from audit_core.evidence.selection import Selection
from audit_core.integrity.note import VerifierKey
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter, write_csv
from audit_core.retention.policies import Retention
from audit_core.retention.purging import Purger
from audit_core.testing import make_event
from audit_core.trails import AuditTrails
from tests.retention.scenes import KINDS, archive, make_year, opened, place_of, put, run, url_of, verify

NOW = datetime(2026, 3, 15, tzinfo=UTC)
JANUARY, FEBRUARY, APRIL, MAY, JUNE = (datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 4, 5, 6))


@pytest.fixture
def year(request, tmp_path, state):
    """The URL of twelve months, where the first three go when they are archived, and the key."""
    url = url_of(kind := getattr(request, "param", "sqlite"), tmp_path)
    return url, place_of(kind, tmp_path), make_year(url)


def purge(url, keep=13):
    with opened(url) as trail:
        return list(Purger(trail.chain, trail.event, Retention.parse(f"{keep}m", NOW)).run("over"))


def report(url, start, end):
    with opened(url) as trail:
        made, stream = AuditReporter(trail).access_report("patient", None, start, end), io.StringIO()
        write_csv(made, stream)
        return made, stream.getvalue()


def bundle(url, path, sample=None, seed=None, **query):
    with opened(url) as trail:
        return write_bundle(trail, Selection(EventQuery(newest_first=False, **query), sample, seed), path)


def check(path, key):
    with path.open("rb") as file:
        return check_bundle(file, [VerifierKey.parse(key)])


@pytest.mark.parametrize("year", KINDS, indirect=True)
def test_a_report_over_a_live_and_an_archived_month_is_the_one_from_before_it_was_archived(year):
    url, place, _ = year
    before, rows = report(url, FEBRUARY, MAY)
    assert before.coverage.archived == ()
    archive(url, place, before="2025-03")
    after, again = report(url, FEBRUARY, MAY)
    assert (again, after.coverage.archived, after.coverage.purged) == (rows, ("2025-02",), ())
    assert [row.split(",")[0] for row in rows.splitlines()[1:]] == [row.split(",")[0] for row in again.splitlines()[1:]]
    assert "Read from archives: 2025-02." in after.coverage.sentences()
    assert after.statements[0].status == before.statements[0].status


def test_a_report_opens_no_archive_of_another_time_and_needs_none(year, tmp_path, monkeypatch, capsys):
    url, place, _ = year
    with opened(url) as trail:
        kind = trail.find(3).resource_type
        put(trail, [make_event(timestamp=JUNE, action="trail.started", details={"reads": [kind], "skip": []})])
    archive(url, place)
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "path", lambda _, month: pytest.fail(f"opened {month}"))
        for words in (["access", kind], ["subject", "--resource", f"{kind}:2025-12-1"], ["privileged"], ["failures"]):
            assert run(capsys, "report", *words, "--since", "2025-07-01", "--format", "csv", "--url", url)[0] == 0
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    for words in (["report", "access", kind], ["report", "access", "paitent"], ["report", "failures"], ["events"]):
        code, _, err = run(capsys, *words, "--since", "2025-05-01", "--format", "csv", "--url", url)
        assert (code, "archived" in err) == (0, False), words
    code, _, err = run(capsys, "report", "failures", "--since", "2025-03-05", "--url", url)
    assert (code, "2025-03 are archived and cannot be read" in err) == (2, True)


def test_a_report_says_what_a_backup_that_was_put_back_lacks_of_its_interval(year, tmp_path, capsys):
    url, _, _ = year
    backup, anchor = (tmp_path / "clinic.db").read_bytes(), (tmp_path / "anchor").as_uri()
    with opened(url) as trail:
        put(trail, [make_event(), make_event()])
    assert run(capsys, "anchor", "--anchor", anchor, "--url", url)[0] == 0
    (tmp_path / "clinic.db").write_bytes(backup)
    why = ["--anchor", anchor, "--reason", "disk failure", "--url", url]
    assert run(capsys, "acknowledge-restore", *why)[0] == 0
    lacks = "a backup was put back, which lacks up to 2 events from sequence 50 on, as event 50 says (disk failure)"
    found, _ = report(url, JUNE, None)
    assert (found.coverage.restored, found.statements[0].status) == ((lacks,), "partly")
    assert f"Incomplete: {lacks}." in found.coverage.sentences()
    assert report(url, APRIL, JUNE)[0].coverage.restored == ()
    assert report(url, datetime.now(UTC), None)[0].coverage.restored == ()


def test_a_report_over_a_purged_month_says_what_is_not_in_it_and_one_over_others_does_not(year, capsys):
    url, place, _ = year
    archive(url, place)
    ((_, sequence),) = purge(url)
    gone = f"4 events of 2025-01 were purged by event {sequence} (over)"
    found, rows = report(url, JANUARY, APRIL)
    assert (found.coverage.purged, "2025-01" in rows, found.statements[0].status) == ((gone,), False, "partly")
    assert found.coverage.archived == ("2025-02", "2025-03")
    assert f"Incomplete: {gone}." in found.coverage.sentences()
    assert gone in str(found.statements[0])
    for start, end in ((FEBRUARY, JUNE), (None, JANUARY)):  # the first moment of a month is not before it
        assert report(url, start, end)[0].coverage.purged == ()
    for words in (["report", "access", "patient"], ["events", "--until", "2025-03-01"]):
        code, out, _ = run(capsys, *words, "--format", "json", "--url", url)
        assert (code, gone in out) == (0, True), words


def test_a_report_over_several_chains_says_of_which_one_a_month_was_purged(year, tmp_path):
    url, place, _ = year
    archive(url, place)
    purge(url)
    south, roof = f"sqlite:///{tmp_path}/south.db", f"sqlite:///{tmp_path}/roof.db"
    with AuditTrails({"north": url, "south": south}, roof=roof, lifecycle=False) as trails:
        trails.of("south").record("patient.read", resource="patient:1")
        found = AuditReporter(trails).access_report("patient", None, JANUARY)
    assert [text.split(" were purged")[0] for text in found.coverage.purged] == ["north: 4 events of 2025-01"]


def test_whoever_asks_for_a_purged_event_is_told_that_and_not_that_there_was_none(year, capsys):
    url, place, _ = year
    with opened(url) as trail:
        event_id = trail.find(2).event_id
    archive(url, place)
    ((_, sequence),) = purge(url)
    gone = f"is not there any more: 4 events of 2025-01 were purged by event {sequence} (over); only its hash is left"
    for words in (["show", 2], ["show", event_id], ["prove", 2], ["prove", event_id]):
        code, _, err = run(capsys, *words, "--url", url)
        expected = gone if words[0] == "show" else "The record of event 2 was purged"
        assert (code, expected in " ".join(err.split())) == (2, True), (words, err)
    code, _, err = run(capsys, "show", 99_999, "--url", url)
    assert (code, "There is no event" in err) == (2, True)


def test_bundles_from_before_are_checked_after_archiving_and_purging_as_before(year, tmp_path):
    url, place, key = year
    made = {
        "whole": {}, "january": {"since": JANUARY, "until": FEBRUARY}, "patient": {"resource_type": "patient"},
        "sample": {"sample": 9, "seed": "blue heron"},
    }  # fmt: skip
    for name, asked in made.items():
        bundle(url, tmp_path / f"{name}-live", **asked)
    archive(url, place)
    for name, asked in made.items():
        bundle(url, tmp_path / f"{name}-archived", **asked)
    purge(url)
    for path in [*tmp_path.glob("*-live"), *tmp_path.glob("*-archived")]:
        found = check(path, key)
        assert (found.verdict, found.faults) == (Verdict.OK, []), path
    assert verify(url).findings == ()


@pytest.mark.parametrize("year", KINDS, indirect=True)
def test_what_was_purged_is_in_no_new_bundle_and_each_says_so(year, tmp_path, capsys):
    url, place, key = year
    archive(url, place)
    ((_, sequence),) = purge(url)
    gone = f"4 events of 2025-01 were purged by event {sequence} (over)"
    code, _, err = run(capsys, "export", "--bundle", tmp_path / "whole", "--url", url)
    assert (code, f"{gone}, and cannot be in it" in " ".join(err.split())) == (0, True)
    found = check(tmp_path / "whole", key)
    assert (found.verdict, found.faults, found.purged) == (Verdict.OK, [], 4)
    code, _, err = run(capsys, "export", "--bundle", tmp_path / "left", "--since", "2024-01-01", "--url", url)
    assert (code, f"{gone}, and cannot be in it" in " ".join(err.split())) == (0, True)
    found = check(tmp_path / "left", key)
    assert (found.verdict, found.faults, found.ranges[:2]) == (Verdict.OK, [], [(0, 0), (5, found.tree_size - 1)])
    written = bundle(url, tmp_path / "february", since=FEBRUARY, until=APRIL)  # whose first has a purged neighbour
    assert (written.purged, check(tmp_path / "february", key).faults) == ((), [])
