"""A trail in a bucket: what somebody may do to it, two who seal at once, answers that are lost, and the mirror."""

import hashlib
import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from audit_core import AuditTrail, VerifierKey
from audit_core.anchors import reading
from audit_core.canonical import RECORD_COLUMNS
from audit_core.cli import main
from audit_core.errors import BusyError, ConfigurationError, IntegrityError, StoreUnavailableError
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.outbox.memory import MemoryOutbox
from audit_core.s3 import Bucket, open_bucket
from audit_core.stores.memory import MemoryStore
from audit_core.stores.s3 import S3AuditStore
from audit_core.stores.s3_objects import first_of, key_of, read_batch, write_batch
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from audit_core.urls import open_url
from audit_core.waiting import read_waiting
from audit_core.writing.sealer import Sealer
from audit_core.writing.tables import Tables
from tests.attacks.test_bits import Rotten
from tests.postgres.server import new_database
from tests.s3.server import KEYS, client, new_place

KEY = VerifierKey(ORIGIN, LocalSigner(b"k" * 32).public_key)


@pytest.fixture
def url():
    return new_place()


def open_store(url, path):
    bucket, prefix = open_bucket(url)
    return S3AuditStore(bucket, prefix, mirror=path)


@pytest.fixture
def chain(url, tmp_path):
    """log.created and four events, in objects that begin at 0 and 3."""
    chain = make_chain(open_store(url, tmp_path / "mirror.db"))
    seal(chain, [make_event(n) for n in range(2)])
    seal(chain, [make_event(n) for n in range(2)])
    yield chain
    chain.store.close()


def put(store, first, body=b"{}", **lock):
    client().put_object(Bucket=store._bucket.name, Key=f"{store._prefix}{key_of(first)}", Body=body, **lock)


def found_in(chain):
    found = chain.verify(KEY)
    return found.result, {(finding.kind, finding.sequence) for finding in found.findings}


# --- Whoever may write to the bucket


def test_a_later_version_and_a_delete_marker_change_no_event_and_are_findings(chain, tmp_path):
    store = chain.store
    before = list(store.rows())
    put(store, 3, b"nothing")
    client().delete_object(Bucket=store._bucket.name, Key=f"{store._prefix}{key_of(0)}")
    other = make_chain(open_store(store_url(store), tmp_path / "other.db"))  # who has seen nothing of it before
    assert list(other.store.rows()) == list(store.rows()) == before
    assert found_in(other) == found_in(chain) == (Result.FAILED, {("object", 0), ("object", 3)})
    seal(chain, [make_event()])
    assert chain.store.extent() == (6, 6)
    other.store.close()


def store_url(store):
    return f"s3://{store._bucket.name}/{store._prefix}?endpoint={store._bucket._where[0]}"


def test_an_object_at_the_next_place_stops_the_trail_and_is_told(chain):
    put(chain.store, 5, b'{"checkpoint":{}}\n')
    with pytest.raises(IntegrityError, match="leaves no place"):
        seal(chain, [make_event()])
    assert found_in(chain) == (Result.FAILED, {("object", 5), ("unlinked", 5), ("edited", 5), ("unsigned", 5)})


@pytest.mark.parametrize("body", [b"", b"{}", b"\n", b'{"checkpoint":{}}\n'])
def test_an_object_at_the_next_place_is_found_though_it_is_locked_and_holds_no_event(chain, body):
    until = datetime.now(UTC) + timedelta(days=9_999)
    put(chain.store, 5, body, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    assert found_in(chain) == (Result.FAILED, {("unlinked", 5), ("edited", 5), ("unsigned", 5)})


def test_a_lock_that_ends_before_long_is_none(chain, tmp_path, monkeypatch):
    """With the key somebody could seal what he means to exchange when nobody looks any more."""
    monkeypatch.setattr("audit_core.s3.years_later", lambda now, years: now + timedelta(days=90))
    seal(chain, [make_event()])
    other = make_chain(open_store(store_url(chain.store), tmp_path / "other.db"))
    assert found_in(other) == (Result.FAILED, {("object", 5)})
    other.store.close()


def test_the_folder_that_somebody_made_of_the_prefix_before_is_no_finding(chain):
    client().put_object(Bucket=chain.store._bucket.name, Key=chain.store._prefix, Body=b"")
    assert found_in(chain) == (Result.UNANCHORED, set())


def test_a_strange_object_is_a_finding(chain):
    client().put_object(Bucket=chain.store._bucket.name, Key=f"{chain.store._prefix}readme", Body=b"hello")
    assert found_in(chain) == (Result.FAILED, {("object", None)})


@pytest.mark.parametrize("name", [f"{2**63:020d}", "٠" * 20], ids=["2^63", "digits of another script"])
def test_an_object_with_a_number_that_no_event_has_stops_nobody_and_is_a_finding(chain, name):
    client().put_object(Bucket=chain.store._bucket.name, Key=f"{chain.store._prefix}{name}.jsonl", Body=b"{}")
    assert found_in(chain) == (Result.FAILED, {("object", None)})
    seal(chain, [make_event()])
    assert chain.store.extent() == (6, 6)


@pytest.mark.parametrize(("first", "body"), [(5_000, b"garbage"), (2**63 - 1, b"{}")])
def test_an_object_at_a_place_that_is_far_away_is_a_finding_and_no_crash(chain, first, body):
    put(chain.store, first, body)
    result, kinds = found_in(chain)
    assert (result, ("object", first) in kinds) == (Result.FAILED, True)


def test_a_bucket_without_object_lock_is_refused_at_the_start(state):
    with pytest.raises(ConfigurationError, match="lacks versioning and Object Lock"):
        AuditTrail(new_place(lock=False), outbox="memory:")


# --- Two who seal


def test_of_two_who_seal_at_one_place_one_is_told_and_goes_on_behind_the_other(chain, tmp_path):
    other = make_chain(open_store(store_url(chain.store), tmp_path / "other.db"))
    seal(other, [make_event(1)])
    head = other.store.head()
    seal(chain, [make_event(2)])
    other.store.head = lambda connection=None: head if connection else type(other.store).head(other.store)
    with pytest.raises(BusyError, match="sealed meanwhile"):
        seal(other, [make_event(3)])
    del other.store.head
    seal(other, [make_event(3)])
    assert found_in(chain) == (Result.UNANCHORED, set())
    assert chain.store.extent() == (8, 8)
    other.store.close()


class Unreliable:
    """A bucket whose answers are lost: after the object was written, or before."""

    def __init__(self, bucket, when):
        self._bucket, self._when = bucket, when

    def __getattr__(self, name):
        return getattr(self._bucket, name)

    def put_new(self, key, body):
        if self._when == "after":
            self._bucket.put_new(key, body)
        raise StoreUnavailableError("the answer was lost")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_answer_seals_each_event_once(chain, when):
    outbox, store = MemoryOutbox(), chain.store
    sealer = Sealer(chain, [outbox], Tables(chain.store, [outbox], own=False))
    outbox.put([make_event(n) for n in range(3)], None)
    reliable, store._bucket = store._bucket, Unreliable(store._bucket, when)
    with pytest.raises(StoreUnavailableError):
        sealer.seal()
    store._bucket = reliable
    outbox.put([make_event(9)], None)
    sealer.seal()
    assert list(outbox.waiting()) == []
    assert found_in(chain) == (Result.UNANCHORED, set())
    assert store.extent().events == 9


def test_a_batch_costs_one_request_that_lists_and_one_that_writes(chain):
    asked = []
    events = chain.store._bucket._client.meta.events
    events.register("before-send.s3", lambda request, **_: asked.append(request.method), unique_id="count")
    outbox = MemoryOutbox()
    sealer = Sealer(chain, [outbox], Tables(chain.store, [outbox], own=False))
    for n in range(3):
        outbox.put([make_event(n)], None)
        sealer.seal_some(100)
    events.unregister("before-send.s3", unique_id="count")
    assert asked == ["GET", "PUT"] * 3


def test_an_idle_look_asks_the_bucket_nothing(chain):
    asked = []
    events = chain.store._bucket._client.meta.events
    events.register("before-send.s3", lambda request, **_: asked.append(request.method), unique_id="count")
    Sealer(chain, [MemoryOutbox()], Tables(chain.store, [MemoryOutbox()], own=False)).seal_some(100)
    events.unregister("before-send.s3", unique_id="count")
    assert asked == []


# --- The mirror


def test_a_mirror_that_was_deleted_or_is_of_another_bucket_is_made_anew(chain, tmp_path):
    expected = list(chain.store.rows())
    other = make_chain(open_store(new_place(), tmp_path / "mirror of another.db"))
    seal(other, [make_event()])
    other.store.close()
    for name in ("not there yet.db", "mirror of another.db"):
        store = open_store(store_url(chain.store), tmp_path / name)
        assert store.head() == chain.store.head()
        assert list(store._mirror.rows()) == expected
        store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_events WHERE sequence > 2; DELETE FROM audit_checkpoints WHERE tree_size > 3",
        "DELETE FROM audit_events; DELETE FROM audit_checkpoints",
        "DELETE FROM objects WHERE first > 0; DELETE FROM audit_events WHERE sequence > 2",
        "UPDATE audit_events SET sequence = 900 WHERE sequence = 4",
        "UPDATE audit_checkpoints SET tree_size = 900 WHERE tree_size = 5",
    ],
)
def test_whoever_writes_the_mirror_hides_no_end_and_adds_none(chain, tmp_path, statement):
    note = chain.checkpoint_note()
    with closing(sqlite3.connect(tmp_path / "mirror.db")) as attacker, attacker:
        for (name,) in attacker.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            attacker.execute(f"DROP TRIGGER {name}")
        attacker.executescript(statement)
    assert chain.store.extent() == (5, 5)
    found = chain.verify(KEY, [note])
    assert (found.result, found.size, found.anchored) == (Result.OK, 5, 5)


def test_an_end_that_was_put_there_is_found_whatever_the_mirror_says(chain):
    """With the disks of the server somebody has put an event there that no checkpoint covers."""
    store = chain.store
    row = list(store.row(4))
    row[RECORD_COLUMNS.index("sequence")] = 5
    until = datetime.now(UTC) + timedelta(days=9_999)
    body = write_batch([tuple(row)], store.head(), ORIGIN).splitlines()[0]
    store.extent()
    put(store, 5, body, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    version = next(iter(store._bucket.objects(f"{store._prefix}{key_of(5)}")))[0]
    with store._mirror.database.transaction() as connection:
        connection.execute("INSERT INTO objects VALUES (5, ?, 1)", (version.id,))
    assert ("unsigned", 5) in found_in(chain)[1]


def fork_beside(work):
    """Whether another thread can fork while one is in the midst of ``work``, which waits for the event it is given."""
    inside, let_go, forked = threading.Event(), threading.Event(), threading.Event()

    def wait():
        inside.set()
        let_go.wait(20)

    def fork():
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        forked.set()

    one, other = threading.Thread(target=work, args=(wait,)), threading.Thread(target=fork)
    one.start()
    assert inside.wait(20)
    other.start()
    could = forked.wait(0.5)
    let_go.set()
    assert forked.wait(20)
    one.join()
    other.join()
    return could


def test_a_fork_waits_for_whoever_is_inside_of_the_mirror(chain):
    def be_inside(wait):
        with chain.store._mirror.database.transaction():
            wait()

    assert not fork_beside(be_inside)


def test_a_fork_waits_for_no_request_of_a_thread_that_anchors(chain, monkeypatch):
    objects = Bucket.objects

    def look(wait):
        monkeypatch.setattr(Bucket, "objects", lambda *args: (wait(), objects(*args))[1])
        with reading(chain):
            assert chain.checkpoint_note()

    assert fork_beside(look)


def test_a_record_that_names_another_log_is_found_by_whoever_has_no_mirror_yet(chain, tmp_path):
    other = make_chain(open_store(store_url(chain.store), tmp_path / "other.db"))
    bucket = other.store._bucket = Rotten(chain.store._bucket, chain.store._prefix)
    first, last = bucket.bodies
    read = bucket.read
    bucket.read = lambda versions: (versions[0].key == first and time.sleep(0.2), read(versions))[1]
    bucket.bodies[last] = bucket.bodies[last].replace(b'"log":"example.com/test"', b'"log":"example.com/tesu"', 1)
    assert found_in(other) == (Result.FAILED, {("edited", 3), ("unlinked", 3)})
    other.store.close()


# --- The format


def test_a_line_holds_the_record_byte_by_byte(chain):
    store = chain.store
    body = client().get_object(Bucket=store._bucket.name, Key=f"{store._prefix}{key_of(3)}")["Body"].read()
    *events, checkpoint = body.splitlines()
    for line in events:
        record = line.partition(b'"record":')[2][:-1]
        assert hashlib.sha256(b"\x00" + record).hexdigest() == json.loads(line)["event_hash"]
    assert json.loads(checkpoint)["checkpoint"]["tree_size"] == 5


@pytest.mark.parametrize("value", [None, [], {}, 2**70, 1.5, True, "\ud800"])
def test_nonsense_in_a_line_is_no_event_and_no_crash(value):
    chain = make_chain(MemoryStore())
    seal(chain, [make_event(actor_id="42")])
    first, second, *rest = write_batch(chain.store.events, chain.store.heads[0], ORIGIN).decode().splitlines()
    for member, before in json.loads(second)["record"].items():
        found = json.loads(second)
        found["record"][member] = value
        body = "\n".join([first, json.dumps(found), *rest]).encode()
        for log in (ORIGIN, None):
            chain.store.events, _ = read_batch(body, 0, log)
            same = type(before) is type(value) and before == value
            assert (chain.verify(KEY).result is Result.FAILED) != same, (member, log)


def test_every_byte_of_an_object_counts():
    chain = make_chain(MemoryStore())
    seal(chain, [make_event(n, actor_id="42") for n in range(2)])
    rows, head = chain.store.events, chain.store.heads[0]
    body = write_batch(rows, head, ORIGIN)
    assert read_batch(body, 0, ORIGIN) == (rows, head)
    sealed_at = body.index(b"sealed_at")  # which nobody signs
    for place in range(len(body)):
        if sealed_at - 1 <= place < sealed_at + 41 or body[place : place + 1] == b"\n":
            continue
        flipped = bytearray(body)
        flipped[place] ^= 1
        chain.store.events, checkpoint = read_batch(bytes(flipped), 0, ORIGIN)
        chain.store.heads = [checkpoint] if checkpoint else []
        assert chain.verify(KEY).result is Result.FAILED, flipped[place - 20 : place + 20]


def test_names_sort_as_sequences_do():
    assert [first_of(key_of(n)) for n in (0, 9, 10, 2**62)] == [0, 9, 10, 2**62]
    assert first_of("readme") is first_of("1.jsonl") is None


# --- A whole trail


@pytest.mark.parametrize("outbox", ["sqlite", "postgres"])
def test_what_an_application_records_is_sealed_into_the_bucket(url, outbox, tmp_path, state, capsys):
    waits = new_database() if outbox == "postgres" else f"sqlite:///{tmp_path}/app.db"
    with AuditTrail(url, outbox=waits) as trail:
        for n in range(20):
            trail.record("chart.read", resource=("patient", n))
        trail.flush()
        assert trail.store.extent().events == 22, "log.created and trail.started too"
        assert [event.resource_id for event in trail.events(resource="patient", newest_first=False)][-1] == "19"
        assert next(trail.waiting(), None) is None
        assert trail.verify().findings == ()
    capsys.readouterr()
    assert main(["verify", "--url", url]) == 3, "an auditor needs no outbox"
    assert "a consistent chain" in capsys.readouterr().out
    assert main(["events", "--url", url, "--limit", "1"]) == 0
    assert main(["verify", "--url", url, "--jobs", "2"]) == 3


def test_commands_are_told_of_the_outbox_of_a_trail_in_a_bucket(url, tmp_path, state, capsys):
    waits = f"sqlite:///{tmp_path}/app.db"
    with AuditTrail(url, outbox=waits, lifecycle=False) as trail:
        trail.record("chart.read")
        trail.flush()
    for words in (["key", "rotate"], ["seal"], ["export", "--bundle", str(tmp_path / "bundle.zip")]):
        assert main(["--outbox", waits, *words, "--url", url]) == 0, words
    new = capsys.readouterr().out.split()[2]
    assert main(["--outbox", waits, "verify", "--key", new, "--url", url]) == 3
    assert main(["check-bundle", str(tmp_path / "bundle.zip"), "--key", new]) == 0
    capsys.readouterr()
    assert main(["--outbox", f"sqlite:///{tmp_path}/nowhere.db", "seal", "--url", url]) == 2
    assert "nowhere.db" in capsys.readouterr().err


def test_a_trail_in_a_bucket_says_that_it_needs_an_outbox(url, state):
    with pytest.raises(ConfigurationError, match="Events wait for a bucket in a database"):
        AuditTrail(url)
    with pytest.raises(ConfigurationError, match="cannot wait in a bucket"):
        AuditTrail("memory:", outbox=url)


def test_an_application_that_starts_while_the_bucket_is_away_has_its_events_in_the_outbox_at_once(
    tmp_path, state, monkeypatch
):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    away = "s3://bucket/clinic/?endpoint=http://127.0.0.1:1&region=us-east-1"
    with AuditTrail(away, outbox=f"sqlite:///{tmp_path}/clinic.db", lifecycle=False) as trail:
        trail.record("work.done")
        assert [read_waiting(waiting.event).action for waiting in trail.outboxes[0].take(10)] == ["work.done"]
        assert trail.counters()["written"] == 1


def test_what_waited_for_a_bucket_that_was_away_at_the_start_is_sealed_when_it_is_back(
    url, tmp_path, state, monkeypatch
):
    def fail(_):
        raise StoreUnavailableError("the bucket is away")

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "check", fail)
        trail = AuditTrail(url, outbox=f"sqlite:///{tmp_path}/clinic.db", lifecycle=False)
        trail.record("work.done")
        assert len(list(trail.waiting())) == 1
    with trail:
        trail.flush()
        assert list(trail.waiting()) == []
        assert [event.action for event in trail.events()] == ["work.done", "log.created"]


def test_buckets_of_one_name_at_two_servers_have_spill_files_of_their_own(state):
    urls = [f"s3://bucket/clinic?endpoint=http://127.0.0.1:{port}" for port in (1, 2, 2)]
    first, second, again = (open_url(url).directory for url in urls)
    assert first != second == again


def test_a_mirror_that_cannot_be_made_is_one_sentence(url, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError, match="let this user write there"):
        open_store(url, tmp_path / "file" / "mirror.db").extent()
