"""``audit export --bundle``: what goes into a bundle, what does not, and how to check it by hand."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from importlib import resources

import pytest

from audit_core import AuditTrail
from audit_core.anchors import ask
from audit_core.anchors.folder import FolderAnchor, Receipt
from audit_core.chain.statements import acknowledge, find_lost
from audit_core.cli import main
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence import archive
from audit_core.evidence import opened as limits
from audit_core.evidence.checked import Verdict
from audit_core.evidence.selection import Selection, draw
from audit_core.integrity.merkle import plan_inclusion
from audit_core.query import EventQuery
from tests.evidence.bundles import KEY, check, clinic, files_of, hostile, lines, reader, select, write
from tests.reports.trails import NOON, OURS, THEIRS, about, event, make_trail, seal, tamper

BY_HAND = [tool for tool in ("bash", "openssl", "sha256sum", "sed", "base64") if shutil.which(tool) is None]
README = resources.files("audit_core.evidence").joinpath("README.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trail(tmp_path_factory):
    """The path of a trail, and a checkpoint that was kept."""
    return clinic(tmp_path_factory.mktemp("trail") / "clinic.db", 600)


def stored(path, what="*"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {what} FROM audit_events ORDER BY sequence").fetchall()


def refused(*_):
    raise OSError(1, "Operation not permitted")


def records(files):
    return [json.loads(line) for line in lines(files["records.jsonl"])]


class TestWhatIsInIt:
    def test_records_have_the_hashes_that_the_trail_has(self, trail, tmp_path):
        files = files_of(write(trail[0], tmp_path / "bundle"))
        hashes = [sha256(b"\0" + line.encode()).hexdigest() for line in lines(files["records.jsonl"])]
        assert [(digest,) for digest in hashes] == stored(trail[0], "event_hash")

    def test_the_same_trail_gives_the_same_bytes(self, trail, tmp_path):
        one, other = (write(trail[0], tmp_path / name, select(actor="bob")).read_bytes() for name in ("one", "other"))
        assert one == other

    @pytest.mark.parametrize(
        ("asked", "where"),
        [
            ({"actor": "bob"}, "actor_id = 'bob'"),
            ({"resource_type": "patient", "resource_id": 41}, "resource_id = '41'"),
            ({"tenant": "nobody"}, None),
            ({"actor": "bob", "since": NOON + timedelta(seconds=300)}, "actor_id = 'bob' AND sequence > 300"),
        ],
    )
    def test_is_what_was_asked_for(self, trail, tmp_path, asked, where):
        if where is None:
            with pytest.raises(LookupError, match="No sealed event matches"):
                write(trail[0], tmp_path / "bundle", select(**asked))
            assert not (tmp_path / "bundle").exists()
            return
        path = write(trail[0], tmp_path / "bundle", select(**asked))
        there = [record["sequence"] for record in records(files_of(path))]
        assert [(sequence,) for sequence in there] == stored(
            trail[0], f"sequence FROM (SELECT * FROM audit_events WHERE {where}) --"
        )
        assert check(path, KEY).verdict is Verdict.OK

    def test_a_time_brings_what_lies_between_and_its_neighbours(self, tmp_path):
        """Events are sealed a little out of order, and one of them long after."""
        seconds = [0, 1, 5, 2, 3, 9, 9.2, 9.5, 4, 6, 7, 8, *range(100, 400), 5.5, *range(400, 410)]
        with make_trail(tmp_path / "trail.db") as trail:
            seal(trail, [about(str(number), second) for number, second in enumerate(seconds)])
            asked = select(since=NOON + timedelta(seconds=2), until=NOON + timedelta(seconds=6))
            path = write(trail, tmp_path / "bundle", asked)
        checked = check(path, KEY)
        assert (checked.verdict, checked.events) == (Verdict.OK, 5)
        assert checked.ranges == [(2, 10), (312, 314)]  # log.created is 0
        about_it = json.loads(files_of(path)["bundle.json"])
        assert about_it["besides"] == [2, 6, 7, 8, 10, 312, 314]

    def test_hostile_names_are_there_as_they_were_sealed(self, tmp_path):
        path = hostile(tmp_path / "trail.db")
        bundle = write(path, tmp_path / "bundle")
        assert check(bundle, KEY).verdict is Verdict.OK
        assert (
            sha256(b"\0" + files_of(bundle)["records.jsonl"].split(b"\n")[1]).hexdigest()
            == stored(path, "event_hash")[1][0]
        )

    def test_what_is_sealed_after_the_checkpoint_is_not_in_it(self, trail, tmp_path, monkeypatch):
        with reader(trail[0]) as opened:
            head = opened.chain.checkpoint_note()
            monkeypatch.setattr(opened.chain, "checkpoint_note", lambda: trail[1])
            path = write(opened, tmp_path / "bundle")
        assert head != trail[1]
        assert check(path, KEY).ranges == [(0, 300)]

    def test_is_whole_on_a_file_system_without_hard_links_too(self, trail, tmp_path, monkeypatch):
        monkeypatch.setattr("os.link", refused)
        assert check(write(trail[0], tmp_path / "bundle", select(actor="bob")), KEY).verdict is Verdict.OK


class TestASample:
    def test_is_drawn_by_seed_and_size_alone(self):
        assert draw("tuesday", 1_000, 5) == draw("tuesday", 1_000, 5)
        assert len({tuple(draw(seed, 1_000, 5)) for seed in "abcdef"} | {tuple(draw("a", 1_001, 5))}) == 7

    @pytest.mark.parametrize("count", [1, 7, 8, 9])
    def test_has_each_sequence_once_and_all_where_there_are_no_more(self, count):
        drawn = draw("seed", 8, count)
        assert drawn == sorted(set(drawn))
        assert len(drawn) == min(count, 8)
        assert set(drawn) <= set(range(8))

    def test_gives_every_event_its_chance(self):
        """Of 2,000 samples of 3 of 12 each event is in 500, give or take five standard deviations."""
        counts = Counter(place for seed in range(2_000) for place in draw(str(seed), 12, 3))
        assert set(counts) == set(range(12))
        assert all(abs(count - 500) < 5 * 19.4 for count in counts.values())

    @pytest.mark.parametrize(
        ("query", "sample", "seed"),
        [({"actor": "bob"}, 5, "x"), ({}, 5, None), ({}, None, "x"), ({}, 5, "\udcff"), ({}, 100_001, "x")],
    )
    def test_of_what_matches_only_of_too_many_or_without_a_seed_that_can_be_said_is_refused(self, query, sample, seed):
        with pytest.raises(ConfigurationError):
            Selection(EventQuery(**query), sample, seed)


class TestKeptCheckpoints:
    def test_come_with_proofs(self, trail, tmp_path):
        path = write(trail[0], tmp_path / "bundle", select(actor="bob"), checkpoints=[trail[1]])
        checked = check(path, KEY, kept=[trail[1]])
        assert (checked.verdict, checked.vouched) == (Verdict.OK, 301)
        assert files_of(path)["kept/1-301.checkpoint"].decode() == trail[1]

    def test_of_an_anchor_are_the_newest_and_the_first_that_covers_the_events(self, tmp_path):
        folder = tmp_path / "anchor"
        with make_trail(tmp_path / "trail.db") as trail:
            for number in range(5):
                seal(trail, [about(str(number))])
                FolderAnchor(folder).keep(trail.chain.checkpoint_note(), trail.chain)
        with reader(tmp_path / "trail.db", anchors=[f"file://{folder}"]) as trail:
            path = write(trail, tmp_path / "bundle", select(resource_id="1"))
        checked = check(path, KEY)
        assert [size for size, _, _ in checked.kept] == [3, 6]  # log.created is one
        assert all("the folder" in where and since for _, where, since in checked.kept)

    def test_of_what_a_restored_backup_has_left_behind_are_not_shown_and_accuse_nobody(self, tmp_path):
        file, backup, folder = tmp_path / "trail.db", tmp_path / "backup.db", FolderAnchor(tmp_path / "anchor")
        with make_trail(file) as trail:
            seal(trail, [about("1")])
        shutil.copy(file, backup)
        with make_trail(file) as trail:
            seal(trail, [about("2")])
            lost = trail.chain.checkpoint_note()
            folder.keep(lost, trail.chain)
        shutil.copy(backup, file)
        with make_trail(file) as trail, trail.store.transaction(patient=True) as connection:
            gone = find_lost(trail.chain, [ask(folder, trail.chain)])
            acknowledge(trail.chain, gone, iter([event(3, "trail.restored")]), connection, reason="disk failure")
        with reader(file, anchors=[folder]) as trail:
            checked = check(write(trail, tmp_path / "bundle"), KEY)
            assert (checked.verdict, checked.kept) == (Verdict.OK, [])
            with pytest.raises(ConfigurationError, match=r"of 3 events, some of which a restored backup lacks"):
                write(trail, tmp_path / "another", checkpoints=[lost])

    def test_of_an_anchor_that_is_away_are_missing_and_that_is_said(self, trail, tmp_path, capsys):
        assert main(["export", "--url", f"sqlite:///{trail[0]}", "--bundle", str(tmp_path / "bundle"),
                     "--anchor", f"file://{tmp_path}/nowhere"]) == 0  # fmt: skip
        assert "could not be asked, and is not in the bundle" in capsys.readouterr().err
        assert check(tmp_path / "bundle", KEY).kept == []

    def test_a_time_stamp_lies_beside_its_checkpoint(self, trail, tmp_path):
        stamp = b"DER" + sha256(trail[1].encode()).digest()

        class Authority(FolderAnchor):
            def receipts(self):
                yield Receipt(trail[1], NOON, stamp)

        with reader(trail[0], anchors=[Authority(tmp_path)]) as opened:
            path = write(opened, tmp_path / "bundle", select(actor="bob", until=NOON + timedelta(seconds=9)))
        assert files_of(path)["kept/1-301.tsr"] == stamp
        checked = check(path, KEY)
        assert (checked.verdict, checked.receipts) == (Verdict.OK, 1)

    @pytest.mark.parametrize("signer", [THEIRS, OURS], ids=["another key", "another history"])
    def test_that_the_trail_does_not_extend_keep_it_from_being_exported(self, trail, tmp_path, signer):
        with (
            AuditTrail(f"sqlite:///{tmp_path}/other.db", origin=KEY.name, signer=signer, lifecycle=False)
            if signer
            else make_trail(tmp_path / "other.db") as other
        ):
            seal(other, [about("1")])
            note = other.chain.checkpoint_note()
        with pytest.raises(IntegrityError, match="does not extend the checkpoint that you gave"):
            write(trail[0], tmp_path / "bundle", checkpoints=[note])
        assert not (tmp_path / "bundle").exists()

    def test_more_kept_checkpoints_than_a_bundle_has_are_refused(self, trail, tmp_path, monkeypatch):
        monkeypatch.setattr("audit_core.evidence.kept.KEPT", 1)
        with pytest.raises(ConfigurationError, match="1 kept checkpoints at most"):
            write(trail[0], tmp_path / "bundle", checkpoints=[trail[1]] * 2)
        assert not (tmp_path / "bundle").exists()


class TestWhatIsNotExported:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_events SET outcome = 'denied' WHERE sequence = 4",
            "UPDATE audit_events SET details = x'00' WHERE sequence = 5",
            "UPDATE audit_events SET event_hash = 'x' || substr(event_hash, 2) WHERE sequence = 4",
            "UPDATE audit_events SET event_hash = 'x' WHERE sequence = 4",
            "UPDATE audit_checkpoints SET signature = 'AAAA' WHERE tree_size = 13",
            "UPDATE audit_checkpoints SET root = replace(root, '=', '') WHERE tree_size = 13",
            "DELETE FROM audit_events WHERE sequence = 4",
            "DELETE FROM audit_events WHERE sequence > 7",
        ],
    )
    @pytest.mark.parametrize("asked", [{"actor": "amina"}, {"since": NOON + timedelta(seconds=2)}, {}], ids=str)
    def test_a_trail_that_was_tampered_with(self, tmp_path, statement, asked):
        path, _ = clinic(tmp_path / "clinic.db")
        tamper(path, statement)
        with pytest.raises((IntegrityError, LookupError)):
            write(path, tmp_path / "bundle", select(**asked))
        assert not (tmp_path / "bundle").exists()

    def test_an_event_whose_actor_was_changed_is_not_missed_by_who_asks_for_the_actor(self, tmp_path):
        """Which is what the limits say: only `audit verify` sees it, and who asks for the time."""
        path, _ = clinic(tmp_path / "clinic.db")
        tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 4")
        assert check(write(path, tmp_path / "bundle", select(actor="amina")), KEY).verdict is Verdict.OK
        with pytest.raises(IntegrityError):
            write(path, tmp_path / "other", select(since=NOON))

    def test_more_than_a_browser_opens(self, trail, tmp_path, monkeypatch):
        monkeypatch.setattr("audit_core.evidence.spool.EVENTS", 100)
        with pytest.raises(ConfigurationError, match="more than 100 events"):
            write(trail[0], tmp_path / "bundle")
        assert limits.EVENTS == 100_000

    def test_over_a_file_that_is_there(self, trail, tmp_path):
        (tmp_path / "bundle").write_bytes(b"mine")
        with pytest.raises(ConfigurationError, match="not overwritten"):
            write(trail[0], tmp_path / "bundle")
        assert (tmp_path / "bundle").read_bytes() == b"mine"

    def test_under_its_name_before_it_is_whole(self, trail, tmp_path, monkeypatch):
        """Who is killed in the midst leaves no half of a bundle that somebody could hand over."""
        path, seal_it = tmp_path / "bundle", archive._seal
        monkeypatch.setattr(archive, "_seal", lambda file: seal_it(file) if not path.exists() else None)
        assert check(write(trail[0], path, select(actor="bob")), KEY).verdict is Verdict.OK
        assert [one.name for one in tmp_path.iterdir()] == ["bundle"]

    def test_over_a_file_that_came_meanwhile(self, trail, tmp_path, monkeypatch):
        path, seal_it = tmp_path / "bundle", archive._seal
        monkeypatch.setattr(archive, "_seal", lambda file: (seal_it(file), path.write_bytes(b"mine")))
        with pytest.raises(ConfigurationError, match="not overwritten"):
            write(trail[0], path)
        assert (path.read_bytes(), [one.name for one in tmp_path.iterdir()]) == (b"mine", ["bundle"])

    def test_to_a_disk_that_is_full(self, trail, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("audit_core.evidence.archive._seal", full)
        with pytest.raises(OSError, match="No space"):
            write(trail[0], tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()


class TestProofsOfMany:
    @pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 300, 511, 512, 513, 700])
    def test_have_the_hashes_that_one_by_one_would_have(self, size):
        from audit_core.chain.subtrees import Subtrees
        from audit_core.integrity.merkle import subtree_root

        leaves = [sha256(str(number).encode()).digest() for number in range(size)]

        class Store:
            def leaf_hashes(self, start, stop):
                return [leaf.hex() for leaf in leaves[start:stop]]

            def kept_frontier(self, size):
                return None

        spans = {span for index in range(0, size, 7) for span in plan_inclusion(index, size)}
        subtrees = Subtrees(Store())
        subtrees.read(spans, size)
        assert all(subtrees.root(*span) == subtree_root(leaves[slice(*span)]) for span in spans)


@pytest.mark.skipif(bool(BY_HAND), reason=f"no {', '.join(BY_HAND)} on this machine")
class TestByHand:
    """The commands of README.txt, pasted."""

    @pytest.fixture(scope="class")
    @classmethod
    def unpacked(cls, trail, tmp_path_factory):
        folder = tmp_path_factory.mktemp("unpacked")
        path = write(trail[0], folder / "evidence.zip", select(actor="bob"), checkpoints=[trail[1]])
        for name, content in files_of(path).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def commands(self, number):
        (part,) = re.findall(rf"^{number}\. .*?\n\n(.*?)(?=^\d\. |^WHAT )", README, re.MULTILINE | re.DOTALL)
        return "".join(line for line in part.splitlines(keepends=True) if line.startswith("       "))

    def run(self, folder, script):
        return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)

    def test_the_sums_fit(self, unpacked):
        done = self.run(unpacked, self.commands(1))
        assert (done.returncode, "OK" in done.stdout) == (0, True), done.stderr

    def test_the_leaf_hash_of_a_record_is_the_trails(self, unpacked, trail):
        done = self.run(unpacked, self.commands(2))
        sequence = records({"records.jsonl": (unpacked / "records.jsonl").read_bytes()})[0]["sequence"]
        assert done.stdout.split()[0] == stored(trail[0], "event_hash")[sequence][0]

    @pytest.mark.parametrize("line", [1, 2, 77, 150])
    def test_a_record_is_in_the_tree(self, unpacked, line):
        script = self.commands(3)
        assert script.count("line=1\n") == 1
        done = self.run(unpacked, script.replace("line=1\n", f"line={line}\n"))
        assert re.fullmatch(r"event \d+ is in the tree\n", done.stdout), done.stderr

    def test_a_changed_record_is_not(self, unpacked, tmp_path):
        copy = shutil.copytree(unpacked, tmp_path / "copy")
        (copy / "records.jsonl").write_bytes((copy / "records.jsonl").read_bytes().replace(b'"bob"', b'"eve"', 1))
        done = self.run(copy, self.commands(3))
        assert done.stdout == ""

    def test_the_checkpoint_is_signed_with_the_key_and_with_no_other(self, unpacked, tmp_path):
        script = self.commands(4)
        done = self.run(unpacked, script.replace("NAME+HASH+KEY", str(KEY)))
        assert (done.returncode, "Verified Successfully" in done.stdout) == (0, True), done.stderr
        other = str(KEY).replace(str(KEY)[-8:], "AAAAAAAA")
        assert self.run(unpacked, script.replace("NAME+HASH+KEY", other)).returncode != 0

    def test_the_archive_ends_in_its_sum(self, unpacked):
        command = README.rstrip().splitlines()[-1].strip()
        printed = self.run(unpacked, command).stdout
        assert re.fullmatch(r"([0-9a-f]{64})  -\nsha256:\1", printed), printed


class TestTheCommands:
    @pytest.fixture
    def audit(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("AUDIT_KEY", "b29vb29vb29vb29vb29vb29vb29vb29vb29vb29vb28=")

        def run(*words):
            capsys.readouterr()
            return main([str(word) for word in words]), *capsys.readouterr()

        return run

    @pytest.fixture
    def bundle(self, audit, tmp_path):
        path, kept = clinic(tmp_path / "clinic.db")
        (tmp_path / "kept").write_text(kept)
        words = ["--url", f"sqlite:///{path}", "--bundle", tmp_path / "evidence.zip", "--checkpoint", tmp_path / "kept"]
        code, out, err = audit("export", *words, "--actor", "bob")
        assert (code, err) == (0, "")
        assert "3 events, proven under the checkpoint of 13 events" in out
        return tmp_path / "evidence.zip"

    def test_exporting_is_an_event(self, bundle, tmp_path):
        with make_trail(tmp_path / "clinic.db") as trail:
            newest = next(trail.events(action="trail.read"))
        assert newest.details == {"export": "bundle", "actor_id": "bob", "tree_size": 13}
        assert newest.actor_type == "admin"

    def test_a_good_bundle(self, audit, bundle, tmp_path):
        code, out, _ = audit("check-bundle", bundle, "--key", KEY, "--checkpoint", tmp_path / "kept")
        assert code == 0
        assert out.startswith("OK: 3 events of example.com/clinic, as they were sealed")
        assert "That no further event matches what was asked for is not shown." in out
        assert "The checkpoint that you gave vouches for the first 7 events." in out

    def test_without_a_key_it_is_never_ok(self, audit, bundle):
        code, out, _ = audit("check-bundle", bundle)
        assert (code, out.split(":")[0]) == (3, "UNTRUSTED")
        assert "you have not said which key you trust" in out

    def test_a_damaged_one_names_what_and_where(self, audit, bundle):
        content = bytearray(bundle.read_bytes())
        content[content.index(b"records.jsonl") + 60] ^= 1
        bundle.write_bytes(content)
        code, out, _ = audit("check-bundle", bundle, "--key", KEY)
        assert code == 1
        assert "records.jsonl: " in out
        assert "FAILED" in out
        assert "not shown" not in out

    def test_as_json(self, audit, bundle):
        code, out, _ = audit("check-bundle", bundle, "--key", KEY, "--json")
        found = json.loads(out)
        assert (code, found["result"], found["exit_code"], found["events"]) == (0, "ok", 0, 3)
        assert (found["faults"], found["kept"][0][0]) == ([], 7)

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["export"], "Name a file: --bundle evidence.zip"),
            (["export", "--bundle", "x.zip", "--sample", "5"], "both --sample and --seed"),
            (["export", "--bundle", "x.zip", "--sample", "5", "--seed", "a", "--actor", "bob"], "of all events"),
            (["check-bundle", "README.md"], "is not what `audit export --bundle` writes"),
            (["check-bundle", "nowhere.zip"], "No such file"),
        ],
    )
    def test_what_cannot_be_done_is_one_sentence(self, audit, words, sentence):
        code, out, err = audit(*words)
        assert (code, out) == (2, "")
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
