"""Archived months are destroyed after their retention, with a certificate; nothing is missing without a statement."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from audit_core.archives.shelf import Shelf
from audit_core.evidence.tiles import Exported, export_tiles
from audit_core.integrity.statement import PURGED
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.postgres.partitions import Partitions
from audit_core.retention.policies import Retention
from audit_core.retention.purging import Locked, Purger, Remains
from audit_core.retention.sqlite_months import SqliteMonths
from audit_core.testing import make_event
from tests.attacks.test_erasure import write
from tests.evidence.reader import bundle, files_in, node, open_checkpoint, path_of, tree_root
from tests.retention.scenes import KINDS, archive, checkpoint, make_year, opened, place_of, put, run, url_of, verify

NOW = datetime(2026, 3, 15, tzinfo=UTC)


@pytest.fixture
def url(tmp_path, state):
    url = url_of("sqlite", tmp_path)
    make_year(url)
    archive(url, place_of("sqlite", tmp_path))
    return url


def purge(url, keep, places=()):
    with opened(url, archives=places) as trail:
        return list(Purger(trail.chain, trail.event, Retention.parse(f"{keep}m", NOW)).run("over"))


def objects(tmp_path, folder="archive"):
    return sorted(path.name[:7] for path in (tmp_path / folder).iterdir())


def test_a_month_is_purged_when_its_retention_is_over_and_not_before(url, tmp_path):
    note = checkpoint(url)
    assert purge(url, 14) == []
    assert [one.month for one, _ in purge(url, 13)] == ["2025-01"]
    assert objects(tmp_path) == ["2025-02", "2025-03"]
    found = verify(url, [note])
    assert (found.result, found.findings) == (Result.OK, ())
    assert [(one.month, one.why) for one in found.unread] == [("2025-01", "it was purged")]
    with opened(url) as trail:
        assert trail.find(1) is None
        assert trail.prove(5).check(trail.chain.key)
        assert {event.sequence for event in trail.events()}.isdisjoint({1, 2, 3, 4})


def test_the_certificate_is_a_proof_that_needs_no_database(url, tmp_path, capsys):
    with opened(url) as trail:
        key = str(trail.chain.key)
    words = ["purge", "--keep", "1m", "--reason", "over", "--certificates", tmp_path / "certificates", "--url", url]
    code, out, _ = run(capsys, *words)
    assert (code, out.count("purged by event")) == (0, 3)
    for file in sorted((tmp_path / "certificates").iterdir()):
        code, out, _ = run(capsys, "check-proof", file, "--key", key)
        assert (code, "whose key has signed what it says (trail.purged)" in out, '"reason": "over"' in out) == (
            0,
            True,
            True,
        )
    assert "There is nothing to purge" in run(capsys, *words)[2]


@pytest.mark.parametrize("signatures", ["none", "of another statement"])
def test_a_certificate_that_somebody_has_recorded_is_called_none(url, tmp_path, capsys, signatures):
    with opened(url) as trail:
        key, archived = str(trail.chain.key), next(trail.events(action="trail.archived"))
        others = archived.details["signatures"] if signatures != "none" else []
        details = {"says": {"archive": archived.sequence, "month": "2025-01", "reason": "over"}, "signatures": others}
        put(trail, [trail.event(PURGED, resource=("trail", trail.chain.origin), details=details)])
        last = trail.store.extent().events - 1
    assert run(capsys, "prove", last, "--out", tmp_path / "proof.json", "--url", url)[0] == 0
    code, out, err = run(capsys, "check-proof", tmp_path / "proof.json", "--key", key)
    assert (code, "has signed what it says" in out, "only looks like a statement" in err) == (0, False, True)
    code, out, _ = run(capsys, "check-proof", tmp_path / "proof.json", "--key", key, "--json")
    assert (code, json.loads(out)["statement"]) == (0, False)
    assert run(capsys, "prove", 40, "--out", tmp_path / "other.json", "--url", url)[0] == 0
    assert (
        json.loads(run(capsys, "check-proof", tmp_path / "other.json", "--key", key, "--json")[1])["statement"] is None
    )


@pytest.mark.parametrize("lost", [False, True])
def test_a_statement_is_one_by_the_key_of_its_time_whichever_key_is_pinned(url, lost):
    with opened(url) as trail:
        old, first = trail.chain.key, trail.store.extent().events - 1
        new = trail.rotate_key(LocalSigner(b"n" * 32), lost=lost)
    with opened(url, signer=LocalSigner(b"n" * 32)) as trail:
        list(Purger(trail.chain, trail.event, Retention.parse("13m", NOW)).run("over"))
        proofs = [trail.prove(number) for number in range(first, trail.store.extent().events)]
    looks = [True, True, None, True]  # an archive, the rotation, key.used and the purge
    assert [proof.is_statement(new) for proof in proofs] == ([False, *looks[1:]] if lost else looks)
    if not lost:
        assert [proof.is_statement(old) for proof in proofs] == looks


def test_an_archive_that_is_gone_without_a_statement_is_a_finding(url, tmp_path):
    next((tmp_path / "archive").glob("2025-01*")).unlink()
    found = verify(url, [checkpoint(url)])
    assert {one.kind for one in found.findings} == {"archive"}


def test_a_purge_that_was_killed_after_its_statement_is_finished_by_the_next_one(url, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Purger, "_remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            purge(url, 13)
    assert objects(tmp_path) == ["2025-01", "2025-02", "2025-03"]
    assert verify(url, [checkpoint(url)]).result is Result.OK
    assert purge(url, 13) == []
    assert objects(tmp_path) == ["2025-02", "2025-03"]


def test_what_is_held_is_not_purged(url, tmp_path, capsys):
    with opened(url) as trail:
        kind = trail.find(3).resource_type
    assert run(capsys, "hold", "add", "resource", kind, "--reason", "case", "--url", url)[0] == 0
    code, _, err = run(capsys, "purge", "--keep", "1m", "--reason", "over", "--url", url)
    assert (code, f"2025-01 stays: the resource {kind} is held" in err) == (0, True)
    assert len(objects(tmp_path)) == 3


def test_a_month_is_destroyed_wherever_it_is_looked_for_and_where_it_was_written_to(url, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "archive", copy)
    assert len(purge(url, 13, [copy.as_uri()])) == 1
    assert (objects(tmp_path), objects(tmp_path, "copy")) == (["2025-02", "2025-03"],) * 2
    shutil.rmtree(tmp_path / "archive")
    words = ["purge", "--keep", "1m", "--reason", "over", "--url", url]
    assert run(capsys, "--archive", copy.as_uri(), *words)[0] == 0
    assert objects(tmp_path, "copy") == []
    assert verify(url, [checkpoint(url)], archives=[copy.as_uri()]).result is Result.OK


def test_nothing_is_stated_of_a_month_whose_place_cannot_be_reached(url, tmp_path, capsys):
    words = ["purge", "--keep", "1m", "--reason", "over", "--url", url]
    (tmp_path / "archive").rename(tmp_path / "moved")
    for more in ((), ("--archive", (tmp_path / "nowhere").as_uri())):
        code, _, err = run(capsys, *words, *more)
        assert (code, "there is no such folder" in err) == (2, True)
    with opened(url) as trail:
        assert trail.chain.keyring.purges == {}


def test_whoever_purges_what_is_not_there_is_told_that_nothing_was_destroyed(url, tmp_path, capsys):
    words = ["purge", "--keep", "1m", "--reason", "over", "--url", url]
    (tmp_path / "archive").rename(tmp_path / "moved")
    (tmp_path / "archive").mkdir()
    code, out, err = run(capsys, *words)
    assert (code, out.count("purged by event"), err.count("nothing of it was found at file:///")) == (0, 3, 3)
    (tmp_path / "archive").rmdir()  # it is given up
    code, _, err = run(capsys, *words)
    assert (code, err.count("it was purged before, and may still be there")) == (0, 1)
    assert run(capsys, *words, "--archive", (tmp_path / "moved").as_uri())[0] == 0
    assert objects(tmp_path, "moved") == []


def test_what_is_locked_in_a_bucket_is_not_said_to_be_purged(tmp_path, state):
    url, place = url_of("sqlite", tmp_path), place_of("s3", tmp_path)
    make_year(url)
    archive(url, place)
    found = purge(url, 13)
    assert [type(one) for one in found] == [Locked]
    assert found[0].until.year >= 2032
    found = verify(url, [checkpoint(url)])
    assert (found.result, found.unread) == (Result.OK, ())


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_the_records_goes_with_them_and_nothing_else_does(kind, tmp_path, state):
    url, moments = url_of(kind, tmp_path), [datetime(2025, month, 3, tzinfo=UTC) for month in (1, 2, 5)]
    with opened(url, erasable=True) as trail:
        made = [trail.event("patient.read", details={"email": "ada@clinic.example"}) for _ in moments]
        put(trail, [replace(event, timestamp=moment) for event, moment in zip(made, moments, strict=True)])
        if kind == "postgres":
            Partitions(trail.store.database).move_from_default()
    archive(url, place_of(kind, tmp_path), before="2025-03")
    with opened(url) as trail:
        assert len(list(trail.store.values.values())) == 3
    note = checkpoint(url)
    with opened(url) as trail:
        old = next(trail.store.values.values())
    assert [one.month for one, _ in purge(url, 13)] == ["2025-01"]
    with opened(url) as trail:
        assert [value.sequence for value in trail.store.values.values()] == [2, 3]
    found = verify(url, [note])
    assert (found.result, found.findings) == (Result.OK, ())
    with opened(url) as trail:
        write(trail.store, there=[old])
    assert [(one.kind, one.sequence) for one in verify(url, [note]).findings] == [("private.stray", 1)]


def test_after_a_backup_from_before_a_purge_it_is_purged_again(url, tmp_path, capsys):
    backup, anchor = (tmp_path / "clinic.db").read_bytes(), (tmp_path / "anchor").as_uri()
    assert len(purge(url, 13)) == 1
    assert run(capsys, "anchor", "--anchor", anchor, "--url", url)[0] == 0
    (tmp_path / "clinic.db").write_bytes(backup)
    why = ["--anchor", anchor, "--reason", "disk failure", "--url", url]
    assert run(capsys, "acknowledge-restore", *why)[0] == 0
    assert {one.kind for one in verify(url, anchors=[anchor]).findings} == {"archive"}
    assert [type(one) for one in purge(url, 13)] == [tuple, Remains]  # nothing of it is there any more
    assert run(capsys, "anchor", "--anchor", anchor, "--url", url)[0] == 0
    found = verify(url, anchors=[anchor])
    assert (found.result, found.findings, {one.kind for one in found.warnings}) == (Result.OK, (), {"restored"})


def test_what_an_interrupted_archive_has_left_in_the_trail_is_purged_with_its_month(tmp_path, state, monkeypatch):
    url = url_of("sqlite", tmp_path)
    with opened(url, erasable=True) as trail:
        event = trail.event("patient.read", details={"email": "ada@clinic.example"})
        put(trail, [replace(event, timestamp=datetime(2025, 1, 3, tzinfo=UTC))])
    with monkeypatch.context() as patch:
        patch.setattr(SqliteMonths, "_remove", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            archive(url, place_of("sqlite", tmp_path), before="2025-02")
    assert [one.month for one, _ in purge(url, 13)] == ["2025-01"]
    with opened(url) as trail:
        assert (trail.find(1), trail.store.row(1), list(trail.store.values.values())) == (None, None, [])
    assert verify(url, [checkpoint(url)]).findings == ()


def test_a_month_that_is_purged_while_the_trail_is_verified_is_no_finding(url, monkeypatch):
    note, done, rows = checkpoint(url), [], Shelf.rows

    def rows_of_what_is_just_purged(self, archive, log):
        if not done:
            done.extend(purge(url, 13))
        return rows(self, archive, log)

    monkeypatch.setattr(Shelf, "rows", rows_of_what_is_just_purged)
    found = verify(url, [note])
    assert (found.result, found.findings, len(done)) == (Result.OK, (), 1)


def test_tiles_of_a_trail_with_purged_months_have_every_hash_and_say_which_records_they_lack(tmp_path, state, capsys):
    url, folder = url_of("sqlite", tmp_path), tmp_path / "tiles"
    january, may = (datetime(2025, month, 3, tzinfo=UTC) for month in (1, 5))
    with opened(url) as trail:
        put(trail, [make_event(timestamp=moment) for moment in [january] * 300 + [may] * 300])
        key = str(trail.chain.key)
        export_tiles(trail.chain, before := tmp_path / "before")
    archive(url, place_of("sqlite", tmp_path), before="2025-02")
    assert len(purge(url, 13)) == 1
    code, _, err = run(capsys, "export", "--tiles", folder, "--url", url)
    assert (code, "2 bundles of entries left out" in err, "From sequence 512 on every entry is there" in err) == (
        0, True, True,
    )  # fmt: skip
    check_tiles(folder, key, [2])
    with opened(url) as trail:
        put(trail, [make_event(timestamp=may) for _ in range(200)])
        size = trail.store.extent().events
        assert export_tiles(trail.chain, folder) == Exported(size, size - 200, 2, 512)
        export_tiles(trail.chain, before)  # what was there before the purge stays
    check_tiles(folder, key, [2, 3])
    check_tiles(before, key, [0, 1, 2, 3])


def check_tiles(folder, key, bundles):
    """As a reader that knows the specification alone: which bundles are there, and that all fits the checkpoint."""
    files = files_in(folder)
    size, root = open_checkpoint(files["checkpoint"], key)
    widths = [min(256, size - start) for start in range(0, size, 256)]
    tiles = [files[path_of("0", number, width)] for number, width in enumerate(widths)]
    leaves = [tile[at : at + 32] for tile in tiles for at in range(0, len(tile), 32)]
    assert tree_root(leaves) == root
    entries = {path_of("entries", number, widths[number]): number for number in bundles}
    assert {path for path in files if path.startswith("tile/entries")} == entries.keys()
    for path, number in entries.items():
        hashes = [node(b"\0", record) for record in bundle(files[path])]
        assert hashes == leaves[number * 256 : number * 256 + widths[number]]
