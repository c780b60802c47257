"""docs/formats.md is enough: a verifier that was written from it alone, and each of its tables against the code."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta  # noqa: F401 - for the page's values
from decimal import Decimal  # noqa: F401
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID  # noqa: F401

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.canonical import FORMAT_VERSION, MAX_RECORD_BYTES, NULLABLE, RECORD_COLUMNS, encode, encode_record
from audit_core.clean import MAX_NODES, TOO_DEEP, TOO_MANY, clean
from audit_core.integrity.merkle import Frontier
from audit_core.keys import LocalSigner
from audit_core.normalise import DETAILS_BUDGET, FIELD_LIMITS, clean_text, fit
from audit_core.outbox.spill import SpillFile
from audit_core.retention.policies import Retention
from audit_core.retention.purging import Purger
from audit_core.rows import to_json
from audit_core.sqlite import SqliteDatabase
from audit_core.stores.sqlite import SqliteStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from audit_core.testing.making import EDGES, NOON
from tests.attacks import test_erasure as erasure
from tests.attacks.attacker import put_back, steal
from tests.chain import test_life as life
from tests.retention.scenes import archive, make_year, opened, put

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "formats.md").read_text()
VERIFIER = DOCS / "verify_without_us.py"
LIMIT = "Whether the end was cut off only a kept checkpoint can tell."
ANOTHER = "(SELECT max(signature) FROM audit_checkpoints c WHERE c.tree_size <> audit_checkpoints.tree_size)"


def table(heading):
    """The cells of the table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows[2:]]


def verify(path, key, *more):
    return subprocess.run(
        [sys.executable, "-I", VERIFIER, path, key, *more], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A trail of every edge of the format, over several batches; its path and verifier key."""
    path = tmp_path_factory.mktemp("formats") / "trail.db"
    store = SqliteStore(SqliteDatabase(path))
    store.create()
    chain = make_chain(store)
    seal(chain, sorted(EDGES.values(), key=lambda event: event is not EDGES["the longest record"]))
    for batch in (1, 300, 7):
        seal(chain, [make_event(n, resource_type="patient", resource_id=str(n)) for n in range(batch)])
    key = str(chain.key)
    store.close()
    return path, key


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    """A year whose first three months are archived, the first of them purged: URL, key, folder, names of objects."""
    folder = tmp_path_factory.mktemp("archived")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_STATE_DIR", str(folder / "state"))
        url, place = f"sqlite:///{folder / 'clinic.db'}", (folder / "archive").as_uri()
        with opened(url, erasable=True) as trail:
            event = trail.event("patient.read", details={"email": "ada@secret.example"})
            put(trail, [replace(event, timestamp=datetime(2025, 2, 9, tzinfo=UTC))])
        key = make_year(url)
        objects = [one.object for one in archive(url, place)]
        with opened(url) as trail:
            list(
                Purger(trail.chain, trail.event, Retention.parse("13m", datetime(2026, 3, 15, tzinfo=UTC))).run("over")
            )
    return url, key, folder / "archive", objects


@pytest.fixture
def copy(original, tmp_path):
    path, key = original
    (tmp_path / "copy.db").write_bytes(path.read_bytes())
    return tmp_path / "copy.db", key


def tamper(path, *statements):
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DROP INDEX audit_events_event_id")
    for statement in statements:
        assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()


class TestAVerifierThatIsNotOurs:
    def test_it_has_nothing_of_ours(self):
        imported = re.findall(r"^(?:import|from) (\w+)", VERIFIER.read_text(), re.MULTILINE)
        assert set(imported) <= {*sys.stdlib_module_names, "cryptography"}

    def test_it_finds_that_an_honest_trail_fits(self, original):
        done = verify(*original)
        assert (done.returncode, done.stdout) == (
            0,
            f"{1 + len(EDGES) + 308} events fit. Whether the end was cut off only a kept checkpoint can tell.\n",
        ), done.stderr

    def test_it_finds_that_a_day_of_an_application_fits(self, tmp_path):
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
            for number in range(20):
                trail.record("invoice.approve", resource=("invoice", number), details={"total": 9.5})
        done = verify(tmp_path / "trail.db", str(trail.chain.key))
        trail.close()
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("statement", "word"),
        [
            ("UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 30", "event 30 was changed"),
            ("UPDATE audit_events SET user_agent = '' WHERE sequence = 30", "event 30 was changed"),
            ("UPDATE audit_events SET details = '{ }' WHERE sequence = 30", "not canonical"),
            ("UPDATE audit_events SET actor_id = x'65' WHERE sequence = 30", "bytes"),
            ("UPDATE audit_events SET previous_hash = event_hash WHERE sequence = 30", "does not follow"),
            ("DELETE FROM audit_events WHERE sequence = 30", "event 30 is missing"),
            ("DELETE FROM audit_events WHERE sequence > 325", "is missing"),
            ("DELETE FROM audit_checkpoints WHERE tree_size = 20", "no checkpoint from 19 on"),
            ("DELETE FROM audit_checkpoints WHERE tree_size > 300", "no checkpoint covers"),
            ("UPDATE audit_checkpoints SET root = 'AAAA' || substr(root, 5) WHERE tree_size = 20", "root"),
            ("UPDATE audit_checkpoints SET frontier = x'00' WHERE frontier IS NOT NULL", "frontier"),
            ("UPDATE audit_checkpoints SET signature = " + ANOTHER, "signature does not verify"),
            ("DELETE FROM audit_checkpoints", "no checkpoint covers the event 0"),
            ("UPDATE audit_events SET user_agent = CAST(x'ff' AS TEXT) WHERE sequence = 30", "tampered"),
        ],
    )
    def test_it_finds_what_was_tampered_with(self, copy, statement, word):
        tamper(copy[0], statement)
        done = verify(*copy)
        assert done.returncode == 1
        assert word in done.stderr

    @pytest.mark.parametrize("arguments", [[], ["{path}"], ["{path}", "key.txt"], ["nowhere.db", "{key}"]])
    def test_used_wrongly_it_accuses_nobody(self, copy, arguments):
        path, key = copy
        given = [argument.format(path=path, key=key) for argument in arguments]
        done = subprocess.run([sys.executable, "-I", VERIFIER, *given], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1

    def test_it_reads_archived_months_and_tells_of_those_whose_records_it_has_not(self, archived):
        url, key, folder, objects = archived
        path = urlsplit(url).path
        done = verify(path, key, folder)
        assert (done.returncode, done.stdout.count("hashes alone")) == (0, 1), done.stderr
        assert "2025-01 was purged by event" in done.stdout
        done = verify(path, key)
        assert (done.returncode, done.stdout.count("hashes alone")) == (0, 3), done.stderr
        assert (
            f"2025-02 is archived: 5 events were compared by their hashes alone; give the folder with {objects[1]}."
            in (done.stdout)
        )

    @pytest.mark.parametrize(("attack", "word"), [
        (f"UPDATE audit_archived SET event_hash = '{'0' * 64}' WHERE sequence = 7", "root of the first"),
        ("UPDATE audit_archived SET event_id = 'x' WHERE sequence = 7", "of 2025-02 another archive is signed"),
        ("UPDATE audit_archived SET archive = 99 WHERE sequence IN (1, 6, 7, 8, 9)", "no signed statement says"),
        ("DELETE FROM audit_archived WHERE sequence = 3", "event 3 is missing"),
        ("UPDATE audit_private SET value = '\"eve\"' WHERE sequence = 1", "value /details/email of the event 1 was"),
        ("DELETE FROM audit_private WHERE sequence = 1", "of the event 1 is gone"),
        ("INSERT INTO audit_private VALUES (2, '/details/email', '', '')", "a month that was purged"),
    ])  # fmt: skip
    def test_it_finds_what_was_changed_of_archived_months(self, archived, tmp_path, attack, word):
        url, key, folder, _ = archived
        (copy := tmp_path / "copy.db").write_bytes(Path(urlsplit(url).path).read_bytes())
        tamper(copy, attack)
        done = verify(copy, key, folder)
        assert (done.returncode, word in done.stderr) == (1, True), (done.stdout, done.stderr)

    def test_it_finds_another_object_and_asks_for_one_that_is_not_there(self, archived, tmp_path):
        url, key, folder, objects = archived
        copied = tmp_path / "copied"
        shutil.copytree(folder, copied)
        (copied / objects[2]).chmod(0o600)
        content = (copied / objects[2]).read_bytes()
        (copied / objects[2]).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        done = verify(urlsplit(url).path, key, copied)
        assert (done.returncode, f"{objects[2]} is another one than was archived" in done.stderr) == (1, True)
        (copied / objects[2]).unlink()
        done = verify(urlsplit(url).path, key, copied)
        assert (done.returncode, f"There is no {objects[2]} in" in done.stderr) == (2, True)

    def test_it_takes_no_other_key(self, original):
        path, key = original
        other = make_chain(SqliteStore(SqliteDatabase(path))).key
        assert str(other) == key
        done = verify(path, str(VerifierKey(ORIGIN, LocalSigner(b"t" * 32).public_key)))
        assert done.returncode == 1
        assert "or you gave that of another trail" in done.stderr

    @pytest.mark.parametrize("slip", [
        lambda key: key[:-8], lambda key: key[:-3], lambda key: f"{key[:-5]}XXXX{key[-1]}", lambda key: f"x{key}",
        lambda key: key.replace(key.split("+")[1], "0" * 8),
    ])  # fmt: skip
    def test_a_key_that_was_not_copied_whole_accuses_nobody(self, original, slip):
        path, key = original
        done = verify(path, slip(key))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "The key that you gave is not whole: copy it again.\n"

    @pytest.mark.parametrize("content", [b"no database " * 99, b""])
    def test_a_file_that_is_no_trail_accuses_nobody(self, original, tmp_path, content):
        (tmp_path / "other.db").write_bytes(content)
        done = verify(tmp_path / "other.db", original[1])
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("This file cannot be read as a trail: ")


class TestAVerifierThatIsNotOursWithACheckpointThatWasKept:
    @pytest.fixture
    def kept(self, copy, tmp_path):
        """Of the first 20 events."""
        path, _ = copy
        with closing(sqlite3.connect(path)) as connection:
            root, signature = connection.execute(
                "SELECT root, signature FROM audit_checkpoints WHERE tree_size = 20"
            ).fetchone()
        (tmp_path / "kept").write_text(f"{ORIGIN}\n20\n{root}\n\n— {ORIGIN} {signature}\n", encoding="utf-8")
        return tmp_path / "kept"

    def test_it_says_how_far_that_vouches(self, copy, kept):
        done = verify(*copy, kept)
        assert (done.returncode, "The first 20 are those of your checkpoint" in done.stdout) == (0, True), done.stderr

    def test_it_takes_what_audit_checkpoint_prints(self, copy, tmp_path):
        store = SqliteStore(SqliteDatabase(copy[0]))
        (tmp_path / "kept").write_text(make_chain(store).checkpoint_note(), encoding="utf-8")
        store.close()
        assert verify(*copy, tmp_path / "kept").returncode == 0

    def test_it_finds_an_end_that_was_cut_off(self, copy, kept):
        tamper(
            copy[0],
            "DELETE FROM audit_events WHERE sequence >= 19",
            "DELETE FROM audit_checkpoints WHERE tree_size > 19",
        )
        assert verify(*copy).returncode == 0, "nobody else can see it"
        done = verify(*copy, kept)
        assert done.returncode == 1
        assert "ends after 19 events, and the checkpoint that you kept has 20" in done.stderr

    def test_it_finds_a_trail_that_was_made_anew_with_the_stolen_key(self, copy, kept, tmp_path):
        store = SqliteStore(SqliteDatabase(tmp_path / "forged.db"))
        store.create()
        chain = make_chain(store)
        seal(chain, [make_event(number) for number in range(30)])
        store.close()
        done = verify(tmp_path / "forged.db", copy[1], kept)
        assert (done.returncode, "the first 20 events are not those" in done.stderr) == (1, True)

    @pytest.mark.parametrize("change", [
        lambda text: "", lambda text: "no checkpoint\n", lambda text: text.replace("\n20\n", "\n19\n"),
        lambda text: text.replace(ORIGIN, "example.com/other"), lambda text: text[:-9], lambda text: f"{text}\n\n",
    ])  # fmt: skip
    def test_one_that_is_none_or_of_another_trail_accuses_nobody(self, copy, kept, change):
        kept.write_text(change(kept.read_text(encoding="utf-8")), encoding="utf-8")
        done = verify(*copy, kept)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("The checkpoint that you gave ")

    def test_a_file_that_is_not_there_accuses_nobody(self, copy, tmp_path):
        assert verify(*copy, tmp_path / "nowhere").returncode == 2


class TestThePage:
    def test_it_has_every_member_of_the_record_with_type_null_and_limit(self):
        rows = table("Record")
        names = [row[0].strip("`") for row in rows]
        assert names == sorted([*RECORD_COLUMNS, "log", "v"])
        assert {name for name, row in zip(names, rows, strict=True) if row[2] == "yes"} == set(NULLABLE)
        assert {row[0].strip("`"): int(row[3].replace(",", "")) for row in rows if row[3]} == FIELD_LIMITS
        assert {row[0].strip("`") for row in rows if row[1] == "integer"} == {"sequence", "v"}
        assert FORMAT_VERSION == 1
        assert f"{MAX_RECORD_BYTES:,} bytes" in PAGE

    @pytest.mark.parametrize(("value", "written"), [row[:2] for row in table("Values")])
    def test_each_value_is_written_as_it_says(self, value, written):
        cleaned = clean(eval(value.strip("`")))  # noqa: S307 - the page is our own
        assert encode(cleaned) == encode(json.loads(written.strip("`")))

    @pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
    def test_the_hash_of_a_record_in_a_file_is_what_its_command_prints(self, original, tmp_path):
        store = SqliteStore(SqliteDatabase(original[0]))
        row = store.row(5)
        (tmp_path / "record.json").write_bytes(encode_record(row[:-1], ORIGIN))
        store.close()
        (command,) = re.findall(r"^\$ (.*sha256sum)$", PAGE, re.MULTILINE)
        printed = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert printed.stdout.split()[0] == row[-1]

    def test_what_is_too_deep_or_too_much_is_marked_as_it_says(self):
        assert f'"{TOO_DEEP}"' in PAGE
        assert f'"{TOO_MANY}"' in PAGE
        assert clean(list(range(MAX_NODES + 9)))[-1] == TOO_MANY
        assert f"{MAX_NODES:,}th value" in PAGE

    def test_a_long_text_is_cut_as_it_says(self):
        text = "é" * 600
        marker = f"…[cut: 1200 bytes, sha256:{sha256(text.encode()).hexdigest()}]"
        assert clean_text(text) == "é" * (512 - len(marker)) + marker

    def test_long_details_are_cut_as_it_says(self):
        assert f"{DETAILS_BUDGET:,} bytes" in PAGE
        text = "x" * 40_000
        marker = f"…[cut: 40000 bytes, sha256:{sha256(text.encode()).hexdigest()}]"
        assert fit({"a": text, "b": "y" * 1024}, DETAILS_BUDGET) == {"a": "x" * 256 + marker, "b": "y" * 1024}
        many = {f"k{n}": "x" * 100 for n in range(400)}
        cut = fit(many, DETAILS_BUDGET)["cut"]
        assert (cut["bytes"], cut["sha256"]) == (len(encode(many)), sha256(encode(many)).hexdigest())
        assert cut["keys"] == list(many)[: len(cut["keys"])]

    def test_it_has_every_column_of_the_checkpoints(self, original):
        with sqlite3.connect(original[0]) as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(audit_checkpoints)")]
        connection.close()
        assert [row[0].strip("`") for row in table("Checkpoint")] == columns

    def test_the_frontier_has_a_hash_for_each_bit_the_largest_first(self):
        leaves = [bytes([n]) * 32 for n in range(5)]
        tree = Frontier()
        tree.extend(leaves)
        left, right = (sha256(b"\1" + leaves[n] + leaves[n + 1]).digest() for n in (0, 2))
        assert tree.to_bytes() == sha256(b"\1" + left + right).digest() + leaves[4]

    def test_what_waits_is_the_record_without_its_place(self, tmp_path):
        event = make_event(actor_id="42")
        assert set(json.loads(to_json(event))) == {*RECORD_COLUMNS} - {"previous_hash", "sequence"}
        spill = SpillFile(tmp_path)
        spill.append([event])
        (file,) = tmp_path.glob("*.spill")
        assert file.read_text() == f"{zlib.crc32(to_json(event).encode()):08x} {to_json(event)}\n"
        spill.remove({event.event_id})


class TestAVerifierThatIsNotOursAfterRotations:
    @pytest.fixture
    def rotated(self, tmp_path):
        """A trail under three keys; its path, the keys, and the checkpoints of each time."""
        store = SqliteStore(SqliteDatabase(tmp_path / "trail.db"))
        store.create()
        chain, kept = life.made_by(0, store), []
        for number in (0, 1, 2):
            chain = life.turn(chain, number) if number else chain
            seal(chain, [make_event(n) for n in range(3)])
            kept.append(tmp_path / f"{number}.checkpoint")
            kept[-1].write_text(chain.checkpoint_note(), encoding="utf-8")
        yield chain, tmp_path / "trail.db", kept
        store.close()

    def test_any_key_of_the_trail_and_any_checkpoint_of_its_time_will_do(self, rotated):
        _, path, kept = rotated
        for key, file in zip(life.KEYS[:3], reversed(kept), strict=True):
            assert verify(path, str(key), file).returncode == 0
        done = verify(path, str(life.THIEFS))
        assert (done.returncode, "names another key" in done.stderr) == (1, True)

    def test_a_statement_that_nobody_may_make_is_an_event_as_any_other(self, rotated):
        chain, path, _ = rotated
        for details in ({}, {"says": 7, "signatures": None}, {"says": {"old": str(life.THIRD)}, "signatures": ["?"]}):
            event = make_event(action="key.rotated", resource_type="trail", resource_id=chain.origin, details=details)
            seal(chain, [event])
        assert verify(path, str(life.FIRST)).returncode == 0

    def test_a_key_that_was_lost_checks_nothing_any_more(self, rotated):
        chain, path, _ = rotated
        seal(life.turn(life.made_by(3, chain.store), 3, lost=True), [make_event()])
        assert verify(path, str(life.THIEFS)).returncode == 0, "whoever has it says so"
        done = verify(path, str(life.THIRD))
        assert (done.returncode, "lost since" in done.stderr) == (1, True)

    def test_checkpoints_signed_by_a_key_after_its_time_do_not_fit(self, rotated):
        chain, path, _ = rotated
        loot = steal(chain.store)
        loot.resign(chain.origin, life.SIGNERS[0])
        put_back(chain.store, loot)
        done = verify(path, str(life.FIRST))
        assert (done.returncode, "the checkpoint of 8 events is not by the trail's key" in done.stderr) == (1, True)

    def test_a_checkpoint_that_a_restored_backup_lacks_is_told_of(self, rotated, tmp_path):
        chain, path, _ = rotated
        backup = steal(chain.store)
        seal(chain, [make_event(n) for n in range(5)])
        (tmp_path / "lost").write_text(chain.checkpoint_note(), encoding="utf-8")
        note = chain.checkpoint_note()
        put_back(chain.store, backup)
        assert verify(path, str(life.FIRST), tmp_path / "lost").returncode == 1
        chain = life.made_by(2, chain.store)
        life.say_restored(chain, [life.answer(note)])
        life.stolen(chain, NOON, key=life.SECOND)
        done = verify(path, str(life.FIRST), tmp_path / "lost")
        assert (done.returncode, "5 events from 12 on are lost" in done.stdout) == (0, True), done
        assert "was stolen" in done.stdout


class TestValuesBesideTheRecord:
    """What formats.md says of them is what we write, and whoever reads only that finds what is done to them."""

    @pytest.fixture
    def chain(self, tmp_path):
        store = SqliteStore(SqliteDatabase(tmp_path / "trail.db"))
        store.create()
        yield erasure.grow(make_chain(store))
        store.close()

    def said(self, chain):
        done = verify(chain.store.database.path, str(chain.key))
        return done.returncode, done.stdout + done.stderr

    def test_an_erasure_is_accepted_and_told(self, chain):
        assert self.said(chain)[0] == 0
        erasure.forget(chain, resources=[("patient", "2")])
        code, text = self.said(chain)
        assert (code, "Values were erased by event 10: GDPR" in text) == (0, True)

    @pytest.mark.parametrize("attack", erasure.ATTACKS)
    def test_every_attack_on_them_is_found(self, chain, attack):
        erasure.ATTACKS[attack][0](chain)
        assert self.said(chain)[0] == 1

    @pytest.mark.parametrize("attack", erasure.AFTERWARDS)
    def test_so_is_every_attack_after_an_erasure(self, chain, attack):
        old = erasure.value(chain, 1, erasure.NEW)
        erasure.forget(chain, resources=[("patient", "1")])
        erasure.AFTERWARDS[attack][0](chain, old)
        assert self.said(chain)[0] == 1
