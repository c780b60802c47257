"""``audit check-bundle``: whatever is changed in a bundle is found, and no key but the auditor's makes it right."""

import io
import json
import random
import struct
import zipfile
from zlib import crc32

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.cli.bundles import limits, summary
from audit_core.errors import AuditError, ConfigurationError, IntegrityError
from audit_core.evidence import check_events, check_kept, opened
from audit_core.evidence.checked import Verdict, read_json
from audit_core.integrity.checkpoint import Checkpoint
from audit_core.integrity.link import leaf_hash
from audit_core.integrity.merkle import plan_inclusion, subtree_root
from audit_core.integrity.note import encode_base64
from tests.evidence.bundles import (
    HEAD,
    KEY,
    TAIL,
    changed,
    check,
    clinic,
    data_of,
    files_of,
    joined,
    lines,
    packed,
    page_of,
    sealed,
    select,
    write,
)
from tests.reports.trails import ORIGIN, OURS, THEIRS, about, make_trail, seal

_read = check_events._read_record
STRANGER = VerifierKey(KEY.name, THEIRS.public_key)
FACTS = ("bundle.json", "checkpoint.txt", "keys.jsonl", "consistency.jsonl", "records.jsonl", "proofs.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of every kind of selection, one bundle of one trail, with a checkpoint that was kept."""
    folder = tmp_path_factory.mktemp("bundles")
    trail, kept = clinic(folder / "clinic.db")
    selections = {
        "whole": select(), "actor": select(actor="amina"), "sample": select(5, "tuesday"),
        "time": select(since=about("", 3).timestamp, until=about("", 6).timestamp),
    }  # fmt: skip
    paths = {name: write(trail, folder / name, one, checkpoints=[kept]) for name, one in selections.items()}
    return paths, kept


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """As small as a bundle gets that has everything."""
    folder = tmp_path_factory.mktemp("small")
    trail = make_trail(folder / "clinic.db")
    seal(trail, [about("1")])
    kept = trail.chain.checkpoint_note()
    seal(trail, [about("2")])
    trail.close()
    return write(folder / "clinic.db", folder / "small", select(resource_id="2"), checkpoints=[kept])


def found(archive, *keys):
    """What is wrong, in words; nothing makes the checker break."""
    try:
        return [str(fault) for fault in check(archive, *keys).faults]
    except AuditError as error:
        return [str(error)]


class TestAnHonestBundle:
    @pytest.mark.parametrize("kind", ["whole", "actor", "sample", "time"])
    def test_is_ok_with_the_auditors_key(self, made, kind):
        checked = check(made[0][kind], KEY, kept=[made[1]])
        assert (checked.verdict, checked.faults, checked.strange) == (Verdict.OK, [], [])
        assert (checked.tree_size, checked.vouched) == (13, 7)

    @pytest.mark.parametrize("kind", ["whole", "actor", "sample", "time"])
    def test_is_never_ok_without_a_key(self, made, kind):
        assert check(made[0][kind]).verdict is Verdict.UNTRUSTED

    def test_is_ok_where_its_key_is_one_of_several(self, made):
        assert check(made[0]["whole"], STRANGER, KEY).verdict is Verdict.OK

    def test_says_which_sequences_have_no_gap(self, made):
        assert check(made[0]["whole"]).ranges == [(0, 12)]
        assert check(made[0]["time"]).ranges == [(3, 7)]  # those of the time, and one on either side
        assert len(check(made[0]["actor"]).ranges) > 1


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (lambda files: files["records.jsonl"].replace(b'"bob"', b'"eve"', 1), "1 event not as the trail has signed"),
        (lambda files: files["records.jsonl"].replace(b"amina", b"malory"), "events not as the trail has signed them"),
    ],
)
def test_one_sentence_says_at_the_end_what_it_comes_to(made, attack, said):
    files = files_of(made[0]["whole"])
    checked = check(packed(files | {"records.jsonl": attack(files)}), KEY)
    assert said in summary(checked)
    assert summary(checked).endswith(".")
    assert summary(check(made[0]["whole"], KEY)) is None
    assert "somebody else than the holder of your key" in summary(check(made[0]["whole"], STRANGER))


class TestAWrongKey:
    @pytest.mark.parametrize("kind", ["whole", "actor", "sample", "time"])
    def test_never_passes(self, made, kind):
        checked = check(made[0][kind], STRANGER)
        assert checked.verdict is Verdict.FAILED
        assert str(STRANGER) in str(checked.faults[-1])

    def test_of_another_trail_is_a_question_unless_something_is_wrong(self, made, small):
        other = VerifierKey("example.com/other", OURS.public_key)
        with pytest.raises(
            ConfigurationError, match=f"is of the trail {ORIGIN}, and the key that you gave of {other.name}"
        ):
            check(made[0]["whole"], other)
        (said,) = found(made[0]["whole"], other)
        assert 0 < said.index("you were given another") < said.index("give the key"), "a cure that only suits a forger"
        assert check(made[0]["whole"], other, KEY).verdict is Verdict.OK
        assert found(packed(files_of(small) | {"README.txt": b""}, add_sums=False, show=False), other)

    def test_of_a_trail_that_looks_like_this_one_is_told_apart(self, made):
        with pytest.raises(ConfigurationError, match=r"and the key that you gave of example.com/\\u0441linic\."):
            check(made[0]["whole"], VerifierKey("example.com/\u0441linic", OURS.public_key))

    def test_never_passes_in_any_of_its_bits(self, made):
        for bit in range(256):
            public = bytearray(KEY.public_key)
            public[bit // 8] ^= 1 << bit % 8
            assert check(made[0]["sample"], VerifierKey(KEY.name, bytes(public))).verdict is Verdict.FAILED

    def test_in_the_bundle_makes_it_somebody_elses(self, made, tmp_path):
        """Who forges a whole trail signs it with a key of his own: without the auditor's key nobody sees it."""
        with AuditTrail(f"sqlite:///{tmp_path}/forged.db", origin=ORIGIN, signer=THEIRS, lifecycle=False) as forger:
            seal(forger, [about("1", actor_id="eve")])
            path = write(forger, tmp_path / "forged.zip")
        assert check(path).verdict is Verdict.UNTRUSTED
        assert check(path, KEY).verdict is Verdict.FAILED


class TestEveryBit:
    """Of a bundle as it lies there, and of what is in it, by somebody who mends all sums and the page after it."""

    def test_of_every_byte_one_bit(self, small):
        content, chance = small.read_bytes(), random.Random(1)
        missed = [at for at in range(len(content)) if not _flipped(content, at, chance.randrange(8), quick=True)]
        assert missed == []

    def test_some_of_them_by_the_whole_check(self, small):
        content, chance = small.read_bytes(), random.Random(2)
        for at in chance.sample(range(len(content)), 150):
            assert _flipped(content, at, chance.randrange(8)), at

    @pytest.mark.parametrize("name", FACTS)
    def test_of_every_byte_of_a_file_one_bit_with_all_sums_mended(self, small, name):
        files, chance = files_of(small), random.Random(3)
        for at in range(0, len(files[name]), 3):
            assert _flipped_inside(files, name, at, chance.randrange(8)), (name, at)

    @pytest.mark.long
    def test_every_single_one_as_it_lies_there(self, small):
        content = small.read_bytes()
        missed = [(at, bit) for at in range(len(content)) for bit in range(8) if not _flipped(content, at, bit)]
        assert missed == []

    @pytest.mark.long
    @pytest.mark.timeout(1200)
    @pytest.mark.parametrize("name", FACTS)
    def test_every_single_one_of_a_file_with_all_sums_mended(self, small, name):
        files = files_of(small)
        every = [(at, bit) for at in range(len(files[name])) for bit in range(8)]
        assert [place for place in every if not _flipped_inside(files, name, *place)] == []


def _flipped(content, at, bit, *, quick=False):
    from audit_core.evidence.opened import OpenedBundle

    flipped = bytearray(content)
    flipped[at] ^= 1 << bit
    if not quick:
        return found(bytes(flipped), KEY)
    try:
        return list(OpenedBundle(io.BytesIO(flipped)).faults())
    except IntegrityError as error:
        return [str(error)]


def _flipped_inside(files, name, at, bit):
    content = bytearray(files[name])
    content[at] ^= 1 << bit
    try:
        archive = packed(files | {name: bytes(content)})
    except UnicodeDecodeError:
        archive = packed(files | {name: bytes(content)}, show=False)
    return found(archive, KEY)


def _with_line(content, number, change):
    some = lines(content)
    some[number] = change(some[number])
    return joined(some)


def _exchanged(content):
    some = lines(content)
    some[2], some[3] = some[3], some[2]
    return joined(some)


ATTACKS = {
    "a value in a record": (
        "whole", {"records.jsonl": lambda c: c.replace(b'"amina"', b'"emina"', 1)}, "event 1: leaf 1 is not in the tree"
    ),
    "a record left out": (
        "actor",
        {"records.jsonl": lambda c: joined(lines(c)[1:]), "proofs.jsonl": lambda c: joined(lines(c)[1:])},
        "it names 9 events, and there are 8",
    ),
    "a record without its proof": ("actor", {"proofs.jsonl": lambda c: joined(lines(c)[:-1])}, "it has no proof"),
    "a proof without its record": ("actor", {"records.jsonl": lambda c: joined(lines(c)[:-1])}, "and no record"),
    "a record twice": (
        "actor",
        {"records.jsonl": lambda c: joined([lines(c)[0], *lines(c)]),
         "proofs.jsonl": lambda c: joined([lines(c)[0], *lines(c)])},
        "it stands after the event 1",
    ),
    "two records exchanged": (
        "whole", {"records.jsonl": _exchanged, "proofs.jsonl": _exchanged}, "event 2: it stands after the event 3"
    ),
    "the proof of another event": ("actor", {"proofs.jsonl": _exchanged}, "its proof is of the event"),
    "a hash of a proof": (
        "actor",
        {"proofs.jsonl": lambda c: _with_line(c, 2, lambda line: line.replace(line[-10:-6], "AAAA"))},
        "event 4",
    ),
    "a hash that is not canonical base64": (
        "whole", {"proofs.jsonl": lambda c: _with_line(c, 0, lambda line: line.replace('="', '= "'))}, "event 0"
    ),
    "a record of other spaces": (
        "whole", {"records.jsonl": lambda c: c.replace(b'":"', b'": "', 1)}, "canonical form"
    ),
    "the tree size of the checkpoint": (
        "whole", {"checkpoint.txt": lambda c: c.replace(b"\n13\n", b"\n12\n")}, "does not verify"
    ),
    "the signature": ("whole", {"checkpoint.txt": lambda c: c[:-8] + b"AAAAAA=\n"}, "checkpoint.txt"),
    "an older checkpoint in its place": (
        "whole", {"checkpoint.txt": None}, "it names a tree of 13, and not of 7"
    ),
    "the key": (
        "whole",
        {"keys.jsonl": lambda c: changed(c, key=str(STRANGER)) + b"\n"},
        "no signature by the expected key",
    ),
    "a key from later on": (
        "whole", {"keys.jsonl": lambda c: changed(c, **{"from": 2}) + b"\n"}, "keys.jsonl: a key begins at 2"
    ),
    "whom it is about": (
        "actor",
        {"bundle.json": lambda c: changed(c, selection={"actor_id": "bob"})},
        "does not match what was asked for: actor_id is 'amina'",
    ),
    "the time that it is about": (
        "time",
        {"bundle.json": lambda c: changed(c, selection={"since": "2026-01-31T12:00:04.000000Z"})},
        "it is not of the time that was asked for",
    ),
    "what was asked for, so that it is the whole trail": (
        "actor", {"bundle.json": lambda c: changed(c, selection={})}, "events are missing"
    ),
    "what was asked for in words to come": (
        "actor", {"bundle.json": lambda c: changed(c, selection={"mood": "good"})}, "does not know: mood"
    ),
    "what stands beside the events": ("time", {"bundle.json": lambda c: changed(c, besides=[3])}, "event 7"),
    "the seed": (
        "sample", {"bundle.json": lambda c: changed(c, selection={"sample": 5, "seed": "monday"})}, "by the seed"
    ),
    "the size of the sample": (
        "sample",
        {"bundle.json": lambda c: changed(c, selection={"sample": 6, "seed": "tuesday"}, events=5)},
        "was drawn by the seed, and is not there",
    ),
    "the consistency proof": (
        "whole",
        {"consistency.jsonl": lambda c: changed(c, hashes=json.loads(c)["hashes"][:-1]) + b"\n"},
        "expected 5 hashes, got 4",
    ),
    "the sizes of the consistency proof": (
        "whole", {"consistency.jsonl": lambda c: changed(c, first=6) + b"\n"}, "of other trees"
    ),
    "a kept checkpoint": ("whole", {"kept/1-7.checkpoint": lambda c: c.replace(b"\n7\n", b"\n6\n")}, "kept/1-7"),
    "a kept checkpoint of which nothing is said": ("whole", {"consistency.jsonl": lambda _: b""}, "says nothing of it"),
    "a member named twice": (
        "whole", {"bundle.json": lambda c: c.replace(b'"events"', b'"events": 1, "events"')}, "named twice"
    ),
}  # fmt: skip


class TestAnAttackerWhoMendsEverySum:
    def test_cannot_have_more_drawn_than_any_bundle_has(self, made, monkeypatch):
        files, drawn = files_of(made[0]["sample"]), []
        monkeypatch.setattr(check_events, "_draw", lambda seed, size, count: drawn.append(count) or set())
        files["bundle.json"] = changed(files["bundle.json"], selection={"sample": 10**12, "seed": "tuesday"})
        expected = "bundle.json: no sample has 1,000,000,000,000 events: it was not drawn again"
        assert expected in found(packed(files), KEY)
        assert drawn == []

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_is_found_and_it_is_said_where(self, made, attack):
        kind, changes, expected = ATTACKS[attack]
        files = files_of(made[0][kind])
        for name, change in changes.items():
            files[name] = files["kept/1-7.checkpoint"] if change is None else change(files[name])
        faults = found(packed(files), KEY)
        assert any(expected in fault for fault in faults), faults

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda data: data["records"].pop(), "it does not show the records"),
            (lambda data: data["records"].__setitem__(1, data["records"][1].replace("amina", "emina")), "the records"),
            (lambda data: data["nodes"].pop(), "its proofs are not those"),
            (lambda data: data["files"].pop("keys.jsonl"), "the files that are in the bundle"),
            (lambda data: data["files"].update(extra="1"), "the files that are in the bundle"),
            (lambda data: data.update(more=1), "other data"),
        ],
    )
    def test_cannot_have_the_page_show_something_else(self, made, change, expected):
        files = files_of(made[0]["whole"])
        data = data_of(files)
        change(data)
        faults = found(packed(files | {"evidence.html": page_of(data)}, show=False), KEY)
        assert any("evidence.html" in fault and expected in fault for fault in faults), faults

    def test_cannot_have_a_browser_show_html_out_of_its_data(self, tmp_path):
        trail = make_trail(tmp_path / "clinic.db")
        seal(trail, [about("1", user_agent="</script><h2>OK: 9,999 events as they were sealed</h2><!--")])
        trail.close()
        files = files_of(write(tmp_path / "clinic.db", tmp_path / "bundle"))
        assert not found(packed(files, show=False), KEY)
        files["evidence.html"] = f"{HEAD}{json.dumps(data_of(files), ensure_ascii=False)}{TAIL}".encode()
        (fault,) = found(packed(files, show=False), KEY)
        assert fault.startswith("evidence.html: there is HTML in its data")

    @pytest.mark.parametrize("name", ["evidence.html", "README.txt"])
    def test_a_page_or_readme_of_another_version_is_named_and_accuses_nobody(self, made, name):
        files = files_of(made[0]["whole"])
        files[name] = files[name].replace(b"audit trail", b"other trail").replace(b"AUDIT TRAIL", b"OTHER")
        checked = check(packed(files, show=False), KEY)
        assert (checked.verdict, checked.strange) == (Verdict.OK, [name])

    def test_left_out_events_that_nothing_shows_are_not_claimed_to_be_shown(self, made):
        """What the limits say: without a range nobody can see that an event is not in the bundle."""
        files = files_of(made[0]["actor"])
        for name in ("records.jsonl", "proofs.jsonl"):
            files[name] = joined(lines(files[name])[:-1])
        files["bundle.json"] = changed(files["bundle.json"], events=8)
        shown = packed(files)
        again = files_of(io.BytesIO(shown))
        data = data_of(again)
        spans = {tuple(node[:2]) for node in data["nodes"]}
        needed = set()
        for line in lines(files["proofs.jsonl"]):
            needed |= set(plan_inclusion(json.loads(line)["index"], 13))
        data["nodes"] = [node for node in data["nodes"] if tuple(node[:2]) in needed]
        assert needed <= spans
        checked = check(packed(again | {"evidence.html": page_of(data)}, show=False), KEY)
        assert (checked.verdict, checked.events) == (Verdict.OK, 8)
        assert len(checked.ranges) > 1


def test_events_that_do_not_follow_each_other_are_found_whoever_signed_them(made):
    """The holder of the key can sign a tree of records that are no chain."""
    files = files_of(made[0]["whole"])
    records = lines(files["records.jsonl"])
    records[5] = records[5].replace(json.loads(records[5])["previous_hash"], "0" * 64)
    leaves = [leaf_hash(record.encode()) for record in records]
    head = Checkpoint(KEY.name, 13, subtree_root(leaves))
    nodes = {
        span: encode_base64(subtree_root(leaves[slice(*span)])) for n in range(13) for span in plan_inclusion(n, 13)
    }
    proofs = [{"index": n, "hashes": [nodes[span] for span in plan_inclusion(n, 13)]} for n in range(13)]
    data = data_of(files) | {"nodes": [[*span, text] for span, text in sorted(nodes.items())]}
    files = {name: content for name, content in files.items() if not name.startswith("kept/")} | {
        "records.jsonl": joined(records), "proofs.jsonl": joined(map(json.dumps, proofs)), "consistency.jsonl": b"",
        "checkpoint.txt": head.note(head.sign(OURS)).encode(),
    }  # fmt: skip
    data["files"] = {name: text for name, text in data["files"].items() if name in files}
    faults = found(packed(files | {"evidence.html": page_of(data)}), KEY)
    assert faults == ["event 5: it does not follow the event 4", "event 6: it does not follow the event 5"]


def zipped(files, change=lambda info: None):
    """The archive of these files, compressed; without its sum."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"sha256:" + b"0" * 64
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, content)
    return out.getvalue()


def large_end(count, size, start, end):
    """What a large archive has between its directory, which ends there, and its end record."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)


TWO_READINGS = {  # a byte of the header before a file, or (below zero) of the end, and what is changed in it
    "flags": (6, 1),
    "method": (8, 8),
    "checksum": (14, 1),
    "compressed size": (18, 1),
    "size": (22, 1),
    "this part of several": (-4, 1),
    "files in this part": (-8, 1),
    "files": (-10, 1),
}


class TestAnArchiveThatIsReadInTwoWays:
    def test_a_file_twice(self, small):
        out = io.BytesIO(small.read_bytes())
        with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
            archive.writestr("records.jsonl", b"")
        assert any("is there 2 times" in fault for fault in found(sealed(out.getvalue()), KEY))

    def test_a_file_that_does_not_belong_there(self, small):
        files = files_of(small) | {"../../etc/passwd": b"x"}
        assert any("does not belong" in fault for fault in found(packed(files), KEY))

    @pytest.mark.parametrize("name", [*FACTS, "evidence.html", "README.txt"])
    def test_a_file_that_is_not_there(self, small, name):
        files = files_of(small)
        del files[name]
        assert any(f"the file {name} is missing" in fault for fault in found(packed(files, show=False), KEY))

    def test_bytes_before_the_first_file(self, small):
        assert any("more than its files" in fault for fault in found(sealed(b"before" + small.read_bytes()), KEY))

    def test_bytes_between_files_and_directory(self, small):
        with zipfile.ZipFile(small) as archive:
            start = archive.start_dir
        content = small.read_bytes()
        assert found(sealed(content[:start] + b"between" + content[start:]), KEY)

    @pytest.mark.parametrize("what", TWO_READINGS)
    def test_headers_that_show_other_programs_another_file(self, small, what):
        content = bytearray(zipped(files_of(small)))
        assert not found(sealed(bytes(content)), KEY)
        place, change = TWO_READINGS[what]
        start = content.rfind(b"PK\5\6") if place < 0 else content.find(b"records.jsonl") - 30
        content[start + abs(place)] ^= change
        assert any("other programs" in fault or "its end says" in fault for fault in found(sealed(bytes(content)), KEY))

    def test_a_second_name_that_some_programs_take_in_place_of_the_first(self, small):
        def renamed(info):
            if info.filename == "evidence.html":  # Info-ZIP's Unicode path: this is README.txt for who believes it
                name = b"README.txt"
                info.extra = struct.pack("<HHBI", 0x7075, 5 + len(name), 1, crc32(info.filename.encode())) + name

        faults = found(sealed(zipped(files_of(small), renamed)), KEY)
        assert "archive: the file evidence.html is another one for other programs: its headers disagree" in faults

    def test_a_link_in_the_place_of_a_file(self, small):
        def link(info):
            info.external_attr = 0o120777 << 16

        assert any("other programs" in fault for fault in found(sealed(zipped(files_of(small), link)), KEY))

    def test_a_second_directory_in_what_the_first_one_says_of_a_file(self, small):
        """Info-ZIP reads the second: the end record leads there. Python believes the end record of large archives."""
        content = bytearray(zipped(files_of(small)))
        end, start = content.rfind(b"PK\5\6"), content.find(b"PK\1\2")
        listed = bytes(content[start:end])
        last = listed.rfind(b"PK\1\2")
        there = bytearray(listed)
        there[last + 32 : last + 34] = struct.pack("<H", len(listed))  # of its comment
        count = len(files_of(small))
        said = large_end(count, 2 * len(listed), start, start + 2 * len(listed))
        second = struct.pack("<4s4H2I", b"PK\5\6", 0, 0, count, count, len(listed), start + len(listed))
        archive = sealed(bytes(content[:start] + there + listed + said + second + content[end + 20 :]))
        assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == list(files_of(small)), "it can be read"
        assert "archive: its directory holds more than its files" in found(archive, KEY)

    @pytest.mark.parametrize("place", [12, 16])  # of its size, and of where it begins, in the end record
    @pytest.mark.parametrize("is_large", [False, True])
    def test_an_end_that_leads_to_another_directory(self, small, place, is_large):
        content = bytearray(zipped(files_of(small)))
        end, start = content.rfind(b"PK\5\6"), content.find(b"PK\1\2")
        if is_large:
            content[end:end] = large_end(len(files_of(small)), end - start, start, end)
            assert not found(sealed(bytes(content)), KEY)
            end = content.rfind(b"PK\5\6")
        content[end + place] ^= 1
        assert found(sealed(bytes(content)), KEY)

    @pytest.mark.parametrize("place", [*range(24, 60), 64])
    def test_two_ends_that_disagree(self, small, place):
        content = bytearray(zipped(files_of(small)))
        end, start = content.rfind(b"PK\5\6"), content.find(b"PK\1\2")
        said = bytearray(large_end(len(files_of(small)), end - start, start, end))
        said[place] ^= 1
        content[end:end] = said
        assert found(sealed(bytes(content)), KEY)

    def test_bytes_between_directory_and_end(self, small):
        content = zipped(files_of(small))
        end = content.rfind(b"PK\5\6")
        assert found(sealed(content[:end] + b"between" + content[end:]), KEY)

    def test_a_comment_of_a_file_that_is_not_there(self, small):
        content = bytearray(zipped(files_of(small)))
        content[content.rfind(b"PK\1\2") + 32] = 9
        assert any("its directory holds" in fault for fault in found(sealed(bytes(content)), KEY))

    def test_an_archive_that_is_written_as_a_large_one_is_read_in_one_way(self, small, monkeypatch):
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
        assert not found(sealed(zipped(files_of(small))), KEY)

    def test_a_file_that_has_not_its_sum(self, small):
        files = files_of(small)
        files["README.txt"] += b"Believe all of it.\n"
        (fault,) = found(packed(files, show=False, add_sums=False), KEY)
        assert fault.startswith("README.txt: it is not the file that was written")

    def test_no_sum_at_its_end(self, small):
        out = io.BytesIO(small.read_bytes())
        with zipfile.ZipFile(out, "a") as archive:
            archive.comment = b"hello"
        assert any("no sum at its end" in fault for fault in found(out.getvalue(), KEY))

    def test_a_bomb_is_not_unpacked(self, small):
        files = files_of(small) | {"bundle.json": b" " * (17 << 20)}
        assert any("has 17,825,792 bytes, more than" in fault for fault in found(packed(files, show=False), KEY))

    @pytest.mark.parametrize("name", ["records.jsonl", "proofs.jsonl", "evidence.html", "README.txt"])
    def test_a_bomb_that_says_how_large_it_is_is_not_even_begun(self, small, name, monkeypatch):
        monkeypatch.setattr(opened, "_MOST", {})
        monkeypatch.setattr(opened, "SMALL", 1 << 20)
        files = files_of(small) | {name: b"\n" * (2 << 20)}
        monkeypatch.setattr(opened.OpenedBundle, "digest", None)
        (fault,) = found(packed(files, show=False), KEY)
        assert fault.startswith(f"archive: the file {name} has 2,097,152 bytes")

    def test_more_files_than_any_bundle_has_are_not_even_looked_at(self, small, monkeypatch):
        files = files_of(small) | {f"kept/{n}-7.checkpoint": b"x" for n in range(1, 2_002)}
        monkeypatch.setattr(opened.OpenedBundle, "digest", None)
        (fault,) = found(packed(files, show=False), KEY)
        assert fault.startswith("archive: it has 2,011 files")

    @pytest.mark.parametrize("name", ["kept/1-7.checkpoint", "kept/1-7.tsr"])
    def test_a_large_time_stamp_is_not_unpacked_for_each_of_many_lines(self, small, name, monkeypatch):
        files = files_of(small) | {name: b"\0" * ((1 << 20) + 1)}
        monkeypatch.setattr(opened.OpenedBundle, "digest", None)
        assert [f"archive: the file {name} has" in fault for fault in found(packed(files, show=False), KEY)] == [True]

    def test_a_checkpoint_that_is_named_for_ever_is_not_unpacked_for_ever(self, small, monkeypatch):
        files = files_of(small)
        files["consistency.jsonl"] *= 5
        monkeypatch.setattr(check_kept, "KEPT", 3)
        faults = found(packed(files), KEY)
        assert faults == ["consistency.jsonl line 4: no bundle has more checkpoints: from here on nothing was read"]

    def test_a_kept_checkpoint_lies_with_the_others(self, small):
        files = files_of(small)
        files["consistency.jsonl"] = changed(files["consistency.jsonl"], receipt="records.jsonl") + b"\n"
        assert any("it does not lie in kept/" in fault for fault in found(packed(files), KEY))

    def test_lines_that_are_no_events_are_not_read_to_their_end(self, small, monkeypatch):
        files = files_of(small) | {"records.jsonl": b"\n" * 50_000, "proofs.jsonl": b"\n" * 50_000}
        read = []
        monkeypatch.setattr(check_events, "_read_record", lambda line, origin: read.append(line) or _read(line, origin))
        faults = found(packed(files, show=False), KEY)
        assert len(read) < 1_001
        assert "records.jsonl line 1001: so much was wrong before it: from here on nothing was read" in faults
        monkeypatch.setattr(check_events, "EVENTS", 10)
        faults = found(packed(files, show=False), KEY)
        assert "records.jsonl line 11: no bundle has more events: from here on nothing was read" in faults


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**400])
def test_a_number_that_not_every_reader_reads_alike_is_in_no_bundle(small, number):
    files = files_of(small)
    files["records.jsonl"] = files["records.jsonl"].replace(b'"v":1', f'"v":{number}'.encode(), 1)
    assert any("is in no record" in fault or "is not JSON" in fault for fault in found(packed(files), KEY))
    assert read_json(f"[{2**53 - 1},{1 - 2**53}]") == [2**53 - 1, 1 - 2**53]


class TestWhatIsNoBundle:
    @pytest.mark.parametrize("content", [b"", b"no archive", b"PK\5\6" + b"\0" * 18])
    def test_accuses_nobody(self, content):
        with pytest.raises(IntegrityError):
            check(content, KEY)

    def test_one_of_a_format_to_come_is_a_question_of_the_version(self, small):
        files = files_of(small)
        files["bundle.json"] = changed(files["bundle.json"], format=2)
        with pytest.raises(ConfigurationError, match="a later audit-core checks it"):
            check(packed(files), KEY)


class TestACheckpointThatTheAuditorKept:
    def test_of_another_history_fails(self, made, tmp_path):
        _, kept = clinic(tmp_path / "other.db")
        checked = check(made[0]["whole"], KEY, kept=[kept])
        assert "of another history" in str(checked.faults)

    def test_that_another_key_signed_fails(self, made):
        other = Checkpoint(ORIGIN, 7, Checkpoint.parse(made[1].split("\n\n")[0] + "\n").root)
        checked = check(made[0]["whole"], KEY, kept=[other.note(other.sign(THEIRS))])
        assert "is signed with another key" in str(checked.faults)

    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda note: note.replace(note.split("\n")[2], encode_base64(b"x" * 32)), "is not as it was signed"),
            (lambda note: note.replace(ORIGIN, "example.com/other"), "is of the trail example.com/other"),
        ],
        ids=["damaged", "of another trail"],
    )
    def test_that_cannot_be_one_of_this_trail_is_a_question_and_accuses_nobody(self, made, damage, said):
        with pytest.raises(ConfigurationError, match=said):
            check(made[0]["whole"], KEY, kept=[damage(made[1])])
        assert check(made[0]["whole"], STRANGER, kept=[damage(made[1])]).verdict is Verdict.FAILED, "that counts first"

    @pytest.mark.parametrize(("more", "said"), [(0, "have it exported with --checkpoint"), (20, "was cut off")])
    def test_that_the_bundle_has_no_proof_from_accuses_nobody(self, made, tmp_path, more, said):
        trail = make_trail(tmp_path / "other.db")
        seal(trail, [about(str(number)) for number in range(1 + more)])
        note = trail.chain.checkpoint_note()
        trail.close()
        found = check(made[0]["whole"], KEY, kept=[note])
        assert (found.verdict, found.faults, found.vouched) == (Verdict.OK, [], 0), "nothing was changed"
        assert said in "".join(limits(found))
