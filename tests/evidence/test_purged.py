"""Bundles of a trail of which months were purged: what a signed event says is gone is missed by nobody, all else is."""

import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from audit_core.archives.places import open_place
from audit_core.cli import main
from audit_core.errors import ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.evidence import bundle, tiles
from audit_core.evidence.check_purged import unexplained
from audit_core.evidence.checked import Verdict
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.retention import Archive
from audit_core.retention.archiving import Archiver
from tests.evidence.bundles import check, files_of, joined, lines, packed, select, write
from tests.reports.trails import tamper
from tests.retention.scenes import make_year, month_of_events, put
from tests.retention.scenes import opened as opened_trail

GONE = 13  # three months of four events, and one that came late


@pytest.fixture(scope="module")
def purged(tmp_path_factory):
    """The path of a trail whose first three months are gone, and its key."""
    folder = tmp_path_factory.mktemp("purged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_STATE_DIR", str(folder / "state"))
        url = f"sqlite:///{folder / 'clinic.db'}"
        key = VerifierKey.parse(make_year(url))
        with opened_trail(url) as trail:
            list(Archiver(trail.chain, open_place((folder / "archive").as_uri()), trail.event).run("2025-04"))
        assert main(["purge", "--keep", "1m", "--reason", "over", "--url", url]) == 0
    return folder / "clinic.db", key


@pytest.fixture(scope="module")
def bundles(purged, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    selections = {"whole": select(), "sample": select(20, "monday")}
    return {name: write(purged[0], folder / name, one) for name, one in selections.items()}


@pytest.mark.parametrize("kind", ["whole", "sample"])
def test_is_ok_and_says_how_many_events_there_is_no_record_of(purged, bundles, kind, opened):
    checked = check(bundles[kind], purged[1])
    assert (checked.verdict, checked.faults) == (Verdict.OK, [])
    assert checked.purged == GONE if kind == "whole" else 0 < checked.purged < GONE
    page = opened(files_of(bundles[kind])["evidence.html"], str(purged[1]))
    assert page.verdict == "ok", page.text
    assert f"Not shown: {checked.purged} event" in page.whole


def months_of(*ranges):
    says = {"month": "2025-01", "hashes": "0" * 64, "object": "o", "sha256": "0" * 64, "bytes": 1, "place": "p"}
    return [Archive.of(10**9, says | {"events": 1, "first": a, "last": b}) for a, b in ranges]


def test_what_lies_in_no_purged_month_is_what_lies_in_none_of_them():
    chance = random.Random(1)
    for _ in range(500):
        places = sorted(chance.sample(range(40), 8))
        missing = list(zip(places[::2], places[1::2], strict=True))
        ranges = [sorted(chance.choices(range(40), k=2)) for _ in range(chance.randrange(6))]
        outside = [[n for n in range(a, b + 1) if not any(c <= n <= d for c, d in ranges)] for a, b in missing]
        assert list(unexplained(missing, months_of(*ranges))) == [some[0] for some in outside if some]


def test_as_many_purged_months_as_events_that_are_missing_take_no_longer_than_to_read_them():
    """Whoever makes a bundle chooses how many there are of each."""
    months, missing = months_of(*((3 * n, 3 * n) for n in range(30_000))), [(3 * n, 3 * n) for n in range(30_000)]
    before = time.process_time()
    assert list(unexplained(missing, months)) == []
    assert time.process_time() - before < 5


def test_of_a_time_it_has_the_neighbours_that_there_are(purged, tmp_path):
    april = select(since=datetime(2025, 4, 1, tzinfo=UTC), until=datetime(2025, 5, 1, tzinfo=UTC))
    checked = check(write(purged[0], tmp_path / "bundle", april), purged[1])
    assert (checked.verdict, checked.events, checked.ranges) == (Verdict.OK, 4, [(13, 17)])


def without(files, wanted):
    """As if there were no records but these, in all files."""
    kept = [(record, proof) for record, proof in zip(*map(lines, (files["records.jsonl"], files["proofs.jsonl"])),
            strict=True) if wanted(json.loads(record))]  # fmt: skip
    files["records.jsonl"], files["proofs.jsonl"] = (joined(part) for part in zip(*kept, strict=True))
    about = json.loads(files["bundle.json"])
    there = {json.loads(record)["sequence"] for record, _ in kept}
    about["besides"] = [place for place in about["besides"] if place in there]
    about["events"] = len(there) - len(about["besides"])
    files["bundle.json"] = json.dumps(about).encode()
    return files


LEFT_OUT = {
    "another event": lambda record: record["sequence"] != 30,
    "another event between the first and the last of a purged month": lambda record: record["sequence"] != 14,
    "a month of which no statement says that it was purged": lambda record: record["timestamp"][:7] != "2025-05",
    "a statement that a month was purged": lambda record: record["action"] != "trail.purged",
    "a statement where a month was archived": lambda record: record["action"] != "trail.archived",
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_of_a_whole_trail_whatever_else_is_left_out_is_missed(purged, bundles, what):
    checked = check(packed(without(files_of(bundles["whole"]), LEFT_OUT[what])), purged[1])
    assert checked.verdict is Verdict.FAILED
    assert any("events are missing" in fault.what for fault in checked.faults), checked.faults


def test_the_page_misses_it_too(purged, bundles, opened, tmp_path):
    for what in list(LEFT_OUT)[1:4]:
        files = without(files_of(bundles["whole"]), LEFT_OUT[what])
        (tmp_path / "bundle").write_bytes(packed(files))
        page = opened(files_of(tmp_path / "bundle")["evidence.html"], str(purged[1]))
        assert page.verdict == "failed", what
        assert "events are missing" in page.text


def test_of_a_sample_a_drawn_event_that_no_statement_calls_purged_is_missed(purged, bundles):
    files = files_of(bundles["sample"])
    there = [json.loads(line) for line in lines(files["records.jsonl"])]
    besides = json.loads(files["bundle.json"])["besides"]
    drawn = next(one["sequence"] for one in there if one["sequence"] > 25 and one["sequence"] not in besides)
    for left_out in (lambda record: record["sequence"] != drawn, LEFT_OUT["a statement that a month was purged"]):
        checked = check(packed(without(files_of(bundles["sample"]), left_out)), purged[1])
        assert checked.verdict is Verdict.FAILED
        assert any("was drawn by the seed, and is not there" in fault.what for fault in checked.faults)


@pytest.mark.parametrize("selection", [select(), select(50, "monday")], ids=["whole", "sample"])
def test_an_event_that_somebody_removed_is_not_passed_over_as_if_it_were_purged(purged, tmp_path, selection):
    path = tmp_path / "clinic.db"
    path.write_bytes(purged[0].read_bytes())
    tamper(path, "DELETE FROM audit_events WHERE sequence IN (14, 20)")
    with pytest.raises(IntegrityError, match="event 14 is missing"):
        write(path, tmp_path / "bundle", selection)


@pytest.fixture
def archived(tmp_path, monkeypatch):
    """The URL of a trail whose first three months are archived, and what purges them."""
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    url = f"sqlite:///{tmp_path / 'clinic.db'}"
    with opened_trail(url) as trail:
        for month in ("2025-01", "2025-02", "2025-04"):
            put(trail, month_of_events(month))
        list(Archiver(trail.chain, open_place((tmp_path / "archive").as_uri()), trail.event).run("2025-03"))
    return url, lambda: main(["purge", "--keep", "1m", "--reason", "over", "--url", url])


def test_of_a_time_beside_an_archive_that_is_away_it_is_made_without_the_neighbours_there(archived, tmp_path):
    url, _ = archived
    april = select(since=datetime(2025, 4, 1, tzinfo=UTC), until=datetime(2025, 5, 1, tzinfo=UTC))
    with opened_trail(url) as trail:
        assert bundle.write_bundle(trail, april, tmp_path / "before").besides == 2
    (tmp_path / "archive").rename(tmp_path / "away")
    with opened_trail(url) as trail:
        written = bundle.write_bundle(trail, april, tmp_path / "bundle")
        (told,) = written.troubles
        assert (written.besides, "2025-02 are archived and cannot be read" in told) == (1, True)
        assert check(tmp_path / "bundle", trail.chain.key).verdict is Verdict.OK
        with pytest.raises(StoreUnavailableError, match="2025-01 are archived"):
            write(trail, tmp_path / "whole", select())


def purging_before(step, purge):
    def purge_and(*given, **named):
        assert purge() == 0
        return step(*given, **named)

    return purge_and


def of_the_time_before(trust, purge):
    def found(trail):
        old = trust(trail)
        assert purge() == 0
        return replace(old, keys=trail.chain.keyring)

    return found


@pytest.mark.parametrize(
    ("step", "change"), [("_read", purging_before), ("_fill", purging_before), ("_trust", of_the_time_before)]
)
def test_what_is_purged_during_an_export_is_not_called_missing(archived, tmp_path, monkeypatch, step, change):
    url, purge = archived
    monkeypatch.setattr(bundle, step, change(getattr(bundle, step), purge))
    selection = select(since=datetime(2025, 4, 1, tzinfo=UTC)) if step == "_fill" else select()
    with opened_trail(url) as trail:
        with pytest.raises(ConfigurationError, match="A month was purged meanwhile"):
            write(trail, tmp_path / "bundle", selection)
        monkeypatch.undo()
        assert check(write(trail, tmp_path / "bundle", selection), trail.chain.key).verdict is Verdict.OK


def test_what_is_purged_during_an_export_is_told_with_what_was_purged_before(archived, tmp_path, monkeypatch):
    url, purge = archived
    monkeypatch.setattr(bundle, "_read", purging_before(bundle._read, purge))
    with opened_trail(url) as trail:
        written = bundle.write_bundle(trail, select(resource_type="patient"), tmp_path / "bundle")
    assert (written.events, [one.month for one in written.purged]) == (4, ["2025-01", "2025-02"])


def test_what_is_purged_during_an_export_of_tiles_is_not_called_missing(archived, tmp_path, monkeypatch):
    url, purge = archived
    monkeypatch.setattr(tiles, "_write", purging_before(tiles._write, purge))
    with opened_trail(url) as trail:
        with pytest.raises(ConfigurationError, match="A month was purged meanwhile"):
            tiles.export_tiles(trail.chain, tmp_path / "tiles")
        monkeypatch.undo()
        assert tiles.export_tiles(trail.chain, tmp_path / "tiles").lacking == 1


def test_what_was_purged_is_called_so_where_each_record_is_needed(purged, tmp_path, capsys):
    url = f"sqlite:///{purged[0]}"
    for words, code, said in (
        (["prove", "2"], 2, "The record of event 2 was purged"),
        (["export", "--tiles", str(tmp_path / "tiles")], 0, "1 bundle of entries left out: events in them were purged"),
    ):
        assert main([*words, "--url", url]) == code
        assert said in " ".join(capsys.readouterr().err.split())
    with opened_trail(url) as trail:
        assert trail.prove(30).check(purged[1])
