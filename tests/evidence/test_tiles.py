"""A trail as a folder of tiles: others can read it, it grows, and a failure at any write leaves what there was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from audit_core.chain import AuditChain
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.evidence import tiles
from audit_core.evidence.tiles import Exported, export_tiles
from audit_core.integrity.note import VerifierKey
from audit_core.keys import LocalSigner
from audit_core.stores.memory import MemoryStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.attacks.attacker import put_back, steal
from tests.attacks.scenes import STORES, empty_store
from tests.evidence.reader import WrongError, files_in, path_of, verify

KEY = str(VerifierKey(ORIGIN, LocalSigner(b"k" * 32).public_key))


@pytest.fixture
def chain():
    """log.created and four events."""
    chain = make_chain(MemoryStore())
    grow(chain, 4)
    return chain


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tiles"


def grow(chain, count):
    seal(chain, [make_event(n, actor_id="42") for n in range(count)])


def read_all(folder):
    return verify(files_in(folder).__getitem__, KEY)


def hashes_of(store):
    return [row[-1] for row in store.rows()]


# --- What others see


@pytest.mark.parametrize("kind", STORES)
def test_a_reader_that_knows_the_specification_alone_verifies_it(kind, tmp_path, folder):
    with empty_store(kind, tmp_path) as store:
        chain = make_chain(store)
        for count in (3, 300):
            grow(chain, count)
            export_tiles(chain, folder)
            records = read_all(folder)
            assert [json.loads(record)["sequence"] for record in records] == list(range(store.extent().events))
            assert (folder / "checkpoint").read_text() == chain.checkpoint_note()


def test_it_grows_from_any_size_and_holds_nothing_that_is_not_needed(folder):
    chain = make_chain(MemoryStore())
    for count in (1, 1, 252, 1, 1, 1, 254, 1, 1, 600):
        grow(chain, count)
        size, before = chain.store.extent().events, len(files_in(folder)) if folder.exists() else 0
        assert export_tiles(chain, folder).size == size
        assert len(read_all(folder)) == size
        needed = {"checkpoint"}
        verify(lambda path, needed=needed: (needed.add(path), (folder / path).read_bytes())[1], KEY)
        assert files_in(folder).keys() == needed, before


def test_nothing_new_changes_nothing(chain, folder):
    assert export_tiles(chain, folder) == Exported(5, 0)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert export_tiles(chain, folder) == Exported(5, 5)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_came_since_is_all_that_is_read(chain, folder, monkeypatch):
    grow(chain, 300)
    export_tiles(chain, folder)
    grow(chain, 1)
    asked = []
    rows = chain.store.rows
    monkeypatch.setattr(chain.store, "rows", lambda start, stop: (asked.append((start, stop)), rows(start, stop))[1])
    export_tiles(chain, folder)
    assert asked == [(256, 306)]
    assert len(read_all(folder)) == 306


# --- Every bit


def flips(files, *, every):
    """Each bit of the checkpoint and of the tiles, and of the records each, or one of each byte."""
    for path, data in files.items():
        whole = every or "entries" not in path
        for place in range(len(data)):
            for bit in range(8) if whole else [place % 8]:
                yield path, place, bit


def find_every_flip(folder, *, every):
    files = files_in(folder)
    count = 0
    for path, place, bit in flips(files, every=every):
        flipped = bytearray(files[path])
        flipped[place] ^= 1 << bit
        count += 1
        with pytest.raises((WrongError, KeyError)):
            verify({**files, path: bytes(flipped)}.__getitem__, KEY)
    return count


def test_a_bit_that_is_flipped_anywhere_is_found(folder):
    chain = make_chain(MemoryStore())
    grow(chain, 2)
    export_tiles(chain, folder)
    assert find_every_flip(folder, every=False) > 3_500


@pytest.mark.long
def test_every_bit_of_tiles_on_two_levels_is_found(folder):
    chain = make_chain(MemoryStore())
    grow(chain, 4)
    export_tiles(chain, folder)
    assert find_every_flip(folder, every=True) > 20_000


# --- A failure at any write


class PowerCutError(Exception):
    """Nothing more is written."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("there", [0, 255, *(pytest.param(there, marks=pytest.mark.long) for there in (3, 300))])
def test_a_failure_at_any_step_leaves_what_there_was_and_the_next_run_completes_it(tmp_path, there, when, monkeypatch):
    chain = make_chain(MemoryStore())
    if there:
        grow(chain, there - 1)
        export_tiles(chain, tmp_path / "before")
    grow(chain, 520)
    steps = 0
    while True:
        folder = tmp_path / f"{steps}"
        if there:
            shutil.copytree(tmp_path / "before", folder)
        with monkeypatch.context() as patched:
            fail_at(patched, steps, when)
            try:
                export_tiles(chain, folder)
            except PowerCutError:
                sizes = {there, chain.store.extent().events} - {0}
                assert len(read_all(folder)) in sizes if (folder / "checkpoint").exists() else there == 0
            else:
                break
        export_tiles(chain, folder)
        assert len(read_all(folder)) == chain.store.extent().events
        steps += 1
    assert steps >= 8


def fail_at(patched, step, when):
    """At the ``step``-th file that gets its name or loses it."""
    left = [step]

    def failing(method):
        def call(self, *args, **kwargs):
            left[0] -= 1
            if left[0] < 0 and when == "before":
                raise PowerCutError
            method(self, *args, **kwargs)
            if left[0] < 0:
                raise PowerCutError

        return call

    for name in ("replace", "unlink"):
        patched.setattr(Path, name, failing(getattr(Path, name)))


def test_what_the_disk_did_not_keep_is_found_before_the_checkpoint_is_written(chain, folder, monkeypatch):
    put = tiles._put

    def lose(target, data, **durably):
        put(target, b"\x00" * len(data) if "entries" in str(target) else data, **durably)

    monkeypatch.setattr(tiles, "_put", lose)
    with pytest.raises(IntegrityError, match="check the disk"):
        export_tiles(chain, folder)
    assert not (folder / "checkpoint").exists()


# --- What is refused


def test_a_folder_that_holds_something_else_is_refused_and_not_touched(chain, folder):
    folder.mkdir()
    for name in ("notes.txt", "tile/readme"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
        with pytest.raises(ConfigurationError, match=f"holds {name}, which is no tile: give an empty folder"):
            export_tiles(chain, folder)
        assert files_in(folder) == {name: b"mine"}
        (folder / name).unlink()


def test_a_checkpoint_that_is_none_is_refused(chain, folder):
    folder.mkdir()
    for text in (b"saved game", b"\xff"):
        (folder / "checkpoint").write_bytes(text)
        with pytest.raises(ConfigurationError, match="is none of a trail"):
            export_tiles(chain, folder)


def test_the_tiles_of_another_trail_are_refused(chain, folder):
    other = AuditChain(MemoryStore(), lambda: LocalSigner(b"k" * 32), "example.com/other")
    grow(other, 2)
    export_tiles(other, folder)
    with pytest.raises(ConfigurationError, match=r"holds the trail example\.com/other, and this one is"):
        export_tiles(chain, folder)


@pytest.mark.parametrize("more", [0, 3])
def test_a_trail_that_was_written_anew_with_its_key_is_refused_by_the_tiles_that_there_are(chain, folder, more):
    export_tiles(chain, folder)
    before = files_in(folder)
    anew = make_chain(MemoryStore())
    grow(anew, 4 + more)
    with pytest.raises(IntegrityError, match="of another history of this trail"):
        export_tiles(anew, folder)
    assert files_in(folder) == before


def test_an_old_backup_is_refused_by_the_tiles_that_there_are(chain, folder):
    backup = steal(chain.store)
    grow(chain, 1)
    export_tiles(chain, folder)
    put_back(chain.store, backup)
    with pytest.raises(IntegrityError, match="of another history of this trail, of 6 events"):
        export_tiles(chain, folder)


@pytest.mark.parametrize("damage", ["removed", "longer", "changed"])
def test_tiles_that_somebody_damaged_are_refused(folder, damage):
    chain = make_chain(MemoryStore())
    grow(chain, 299)
    export_tiles(chain, folder)
    grow(chain, 1)
    for level in ("0", "1", "entries"):
        for number, width in ((0, 256), (1, 44)) if level != "1" else ((0, 1),):
            path = folder / path_of(level, number, width)
            whole = path.read_bytes()
            if damage == "changed" and (level == "entries" or width == 256):
                continue  # whoever reads them finds it
            _damage(path, whole, damage)
            if not (damage == "longer" and level == "entries"):
                with pytest.raises(ConfigurationError, match="somebody has changed them; give an empty folder"):
                    export_tiles(chain, folder)
            path.write_bytes(whole)
    export_tiles(chain, folder)
    assert len(read_all(folder)) == 301


def _damage(path, whole, how):
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(whole + b"x" if how == "longer" else bytes([whole[0] ^ 1]) + whole[1:])


def test_a_trail_that_was_edited_is_not_exported(chain, folder):
    grow(chain, 300)
    export_tiles(chain, folder)
    before = files_in(folder)
    grow(chain, 3)
    pristine = steal(chain.store)
    for place in (290, 307):  # one that was exported already, and one that was not
        loot = steal(chain.store)
        loot.edit(place, actor_id="43")
        put_back(chain.store, loot)
        with pytest.raises(IntegrityError, match="run `audit verify`"):
            export_tiles(chain, folder)
        assert before.items() <= files_in(folder).items()
        assert len(read_all(folder)) == 305
        put_back(chain.store, pristine)
    export_tiles(chain, folder)
    assert len(read_all(folder)) == 308


def test_a_row_that_is_no_record_is_one_sentence(chain, folder):
    loot = steal(chain.store)
    loot.edit(3, outcome=5)
    put_back(chain.store, loot)
    with pytest.raises(IntegrityError, match="is no record: run `audit verify`"):
        export_tiles(chain, folder)


def test_of_two_exports_at_once_the_second_is_told(chain, folder):
    folder.mkdir()
    with tiles._locked(folder), pytest.raises(ConfigurationError, match="Another export is writing"):
        export_tiles(chain, folder)


def test_an_export_that_began_before_another_one_ended_accuses_nobody(chain, folder, monkeypatch):
    lock = tiles._locked

    def wait(folder):
        monkeypatch.setattr(tiles, "_locked", lock)
        grow(chain, 1)
        export_tiles(chain, folder)
        return lock(folder)

    monkeypatch.setattr(tiles, "_locked", wait)
    assert export_tiles(chain, folder) == Exported(6, 6)


# --- The command


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clinic.db"


def test_the_command_exports_and_leaves_an_event_of_it(audit, folder, path, state):
    code, _, err = audit("export", "--tiles", folder)
    assert (code, folder.exists()) == (2, False), err
    audit("init", "--origin", ORIGIN)
    code, out, err = audit("export", "--tiles", folder)
    assert (code, err) == (0, "")
    assert "verifier key by another way" in out
    key = audit("keygen", "--verifier", "--origin", ORIGIN)[1].strip()
    (created, read) = map(json.loads, verify(files_in(folder).__getitem__, key))
    assert (created["action"], read["action"], read["details"]) == ("log.created", "trail.read", {"exported": "tiles"})
    assert "3 events in" in audit("export", "--tiles", folder)[1]
    assert audit("export")[0] == 2
    (folder / "mine").touch()
    code, out, err = audit("export", "--tiles", folder)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert len(verify(files_in(folder).__getitem__, key)) == 3
