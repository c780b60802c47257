"""Each kind of anchor: it vouches for an honest trail, and finds what only an anchor can find."""

import os
import sqlite3
import time
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit_core.anchors import ask, ask_all
from audit_core.anchors.anchoring import keep_now
from audit_core.anchors.opening import open_anchor
from audit_core.anchors.witness import WitnessAnchor
from audit_core.chain import AuditChain
from audit_core.chain.known import Answer, Kept
from audit_core.errors import ConfigurationError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner
from audit_core.s3 import open_bucket
from audit_core.stores.memory import MemoryStore
from audit_core.testing import ORIGIN, make_chain, make_event, seal
from tests.anchors.kinds import KINDS, an_anchor
from tests.anchors.servers import Authority, Witness, serving
from tests.attacks.attacker import AT, put_back, steal
from tests.s3.server import client

OURS, THIEFS = LocalSigner(b"k" * 32), LocalSigner(b"t" * 32)
KEY = VerifierKey(ORIGIN, OURS.public_key)
EARLIER = "2026-01-01T12:00:03.000000Z"  # when the events of these tests happened
TIMED = [kind for kind in KINDS if kind not in {"log", "witness"}]


@pytest.fixture
def chain():
    """13 events under checkpoints of 4, 8, 9 and 13."""
    chain = make_chain(MemoryStore())
    for batch in (3, 4, 1, 4):
        seal(chain, [make_event(n, actor_id="42") for n in range(batch)])
    return chain


@pytest.fixture(params=KINDS)
def anchor(request, tmp_path, chain):
    with an_anchor(request.param, tmp_path, str(KEY)) as (anchor, server):
        anchor.server, anchor.kind = server, request.param
        yield anchor


def verify(chain, *anchors, key=KEY, **options):
    return chain.verify(key, anchored=ask_all(anchors, chain, **options))


def keep(chain, *anchors):
    """As the trail does it; nothing of it may fail."""
    states = list(keep_now(chain, anchors))
    assert [state.trouble for state in states] == [None] * len(anchors)


def kinds(found):
    return {finding.kind for finding in found.findings}


def change(chain, change):
    loot = steal(chain.store)
    change(loot)
    put_back(chain.store, loot)


# --- An honest trail


def test_an_anchored_trail_is_ok_also_after_growth_and_restart_and_further_checkpoints(chain, anchor):
    keep(chain, anchor)
    found = verify(chain, anchor)
    assert (found.result, found.anchored, found.warnings) == (Result.OK, 13, ())
    seal(chain, [make_event(n) for n in range(300)])
    assert (verify(chain, anchor).result, verify(chain, anchor).findings) == (Result.OK, ())
    again = make_chain(chain.store)  # another process
    keep(again, anchor)
    seal(again, [make_event()])
    keep(again, anchor)
    found = verify(again, anchor)
    assert (found.result, found.anchored, found.findings, found.warnings) == (Result.OK, 314, (), ())


def test_an_anchor_that_holds_nothing_vouches_for_nothing(chain, anchor):
    assert verify(chain, anchor).result is Result.UNANCHORED


def test_what_is_kept_twice_is_there_once(chain, anchor):
    for _ in range(3):
        keep(chain, anchor)
    assert len(list(anchor.kept(chain))) == 1


def test_the_largest_tree_comes_first(chain, anchor):
    for _ in range(3):
        keep(chain, anchor)
        seal(chain, [make_event()])
    sizes = [int(kept.what.split("\n")[1]) for kept in anchor.kept(chain) if isinstance(kept.what, str)]
    assert sizes == ([] if anchor.kind == "witness" else [15, 14, 13])


# --- What only an anchor finds. The attacker holds the signing key


def test_a_cut_off_tail_is_found(chain, anchor):
    keep(chain, anchor)
    change(chain, lambda loot: (loot.rows.__delitem__(slice(9, None)), loot.heads.pop()))
    found = verify(chain, anchor)
    assert (found.result, kinds(found)) == (Result.FAILED, {"truncated"})
    assert found.findings[0].where == anchor.name
    assert verify(chain).result is Result.UNANCHORED, "without the anchor it is not found"


def test_everything_rewritten_with_the_key_is_found(chain, anchor):
    keep(chain, anchor)

    def rewrite(loot):
        loot.edit(5, actor_id="43")
        loot.relink(ORIGIN)
        loot.resign(ORIGIN, OURS)

    change(chain, rewrite)
    found = verify(chain, anchor)
    assert (found.result, kinds(found)) == (Result.FAILED, {"known"})
    assert verify(chain).result is Result.UNANCHORED


def test_another_history_that_has_grown_beyond_the_anchored_one_is_found(chain, anchor):
    backup = steal(chain.store)
    seal(chain, [make_event(1, actor_id="told to the auditor")])
    keep(chain, anchor)
    put_back(chain.store, backup)
    forked = make_chain(chain.store)
    seal(forked, [make_event(n, actor_id="told to the court") for n in range(5)])
    found = verify(forked, anchor)
    assert (found.result, kinds(found)) == (Result.FAILED, {"known"})
    assert verify(forked).result is Result.UNANCHORED


def test_an_emptied_trail_is_found_by_what_the_anchor_holds(chain, anchor):
    keep(chain, anchor)
    change(chain, lambda loot: (loot.rows.clear(), loot.heads.clear()))
    if anchor.kind == "witness":  # which is asked by showing it a checkpoint, and there is none
        with pytest.raises(ConfigurationError, match="nothing to verify"):
            verify(chain, anchor, key=None)
        assert verify(chain, anchor).result is Result.FAILED
    else:
        assert verify(chain, anchor, key=None).result is Result.FAILED


def test_a_trail_that_was_signed_anew_is_found_also_by_whoever_has_no_key(chain, anchor):
    keep(chain, anchor)

    def rewrite(loot):
        named = loot.rows[0][AT["details"]].replace(str(KEY), str(VerifierKey(ORIGIN, THIEFS.public_key)))
        loot.edit(0, details=named)
        loot.relink(ORIGIN)
        loot.resign(ORIGIN, THIEFS)

    change(chain, rewrite)
    found = verify(chain, anchor, key=None)
    if anchor.kind == "witness":  # it knows the key of the log, and cosigns nothing of another
        assert (found.result, [one.kind for one in found.warnings]) == (Result.UNANCHORED, ["anchor.unreachable"])
    else:
        assert (found.result, kinds(found)) == (Result.FAILED, {"known"})


@pytest.mark.parametrize("anchor", ["sqlite", "postgres", "s3", "tsa"], indirect=True)
def test_a_clock_that_was_turned_back_is_found_by_the_anchors_clock(chain, anchor):
    keep(chain, anchor)
    seal(chain, [make_event(-86_400)])
    change(chain, lambda loot: loot.heads.__setitem__(-1, loot.heads[-1]._replace(sealed_at=EARLIER)))
    found = verify(chain, anchor)
    assert (found.result, [(one.kind, one.sequence) for one in found.findings]) == (Result.FAILED, [("clock", 14)])


def test_an_event_that_is_sealed_late_accuses_no_clock(chain, anchor):
    keep(chain, anchor)
    seal(chain, [make_event(-86_400)])
    assert verify(chain, anchor).findings == ()


@pytest.mark.parametrize("anchor", TIMED, indirect=True)
def test_a_trail_that_was_stopped_is_found_by_the_age_of_what_is_anchored(chain, anchor):
    keep(chain, anchor)
    assert verify(chain, anchor, max_age=timedelta(hours=1)).result is Result.OK
    found = verify(chain, anchor, max_age=timedelta(0))
    assert (found.result, kinds(found)) == (Result.FAILED, {"silent"})


@pytest.mark.parametrize("anchor", ["folder"], indirect=True)
def test_a_trail_that_was_stopped_is_not_alive_by_what_else_is_put_into_its_anchor(chain, anchor):
    older = chain.checkpoint_note()
    seal(chain, [make_event()])
    keep(chain, anchor)
    (path,) = anchor.folder.glob("*.checkpoint")
    os.utime(path, (0, 0))
    other = AuditChain(MemoryStore(), lambda: THIEFS, ORIGIN)
    seal(other, [make_event(n) for n in range(30)])
    for number, note in enumerate([older, path.read_text(), "nonsense", other.checkpoint_note()]):
        (anchor.folder / f"{number + 90:020d}-{'a' * 16}.checkpoint").write_text(note)
    found = verify(chain, anchor, max_age=timedelta(hours=1))
    assert "silent" in kinds(found)


@pytest.mark.parametrize("anchor", ["log", "witness"], indirect=True)
def test_whether_a_trail_was_stopped_is_unknown_where_no_anchor_has_a_time_or_none_answers(chain, anchor, tmp_path):
    keep(chain, anchor)
    gone = open_anchor(f"file://{tmp_path}/gone")
    for anchors in ([anchor], [gone], [anchor, gone]):
        found = verify(chain, *anchors, max_age=timedelta(hours=1))
        assert (found.findings, found.warnings[-1].kind) == ((), "anchor.undated")
    empty = open_anchor(f"sqlite:///{tmp_path}/empty.db")
    keep(chain, empty)
    assert verify(chain, anchor, gone, empty, max_age=timedelta(hours=1)).findings == ()
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.executescript("DROP TRIGGER audit_anchors_no_delete; DELETE FROM audit_anchors")
    assert kinds(verify(chain, anchor, gone, empty, max_age=timedelta(hours=1))) == {"silent"}, "it had to have one"


@pytest.mark.parametrize("anchor", TIMED, indirect=True)
def test_a_copy_is_compared_with_what_was_anchored_when_it_was_made(chain, anchor):
    keep(chain, anchor)
    copy = make_chain(MemoryStore())
    put_back(copy.store, steal(chain.store))
    made = max(kept.kept_at for kept in anchor.kept(chain)) + timedelta(milliseconds=1)
    tick = 1 if anchor.kind in {"s3", "tsa"} else 0.05  # seconds that their clocks tell apart
    while datetime.now(UTC) <= made + timedelta(seconds=tick):
        time.sleep(0.01)
    seal(chain, [make_event()])
    keep(chain, anchor)
    assert verify(copy, anchor).result is Result.FAILED
    found = verify(copy, anchor, as_of=made)
    assert (found.result, found.anchored, found.findings) == (Result.OK, 13, ())


# --- An anchor that is down, slow, or lies


def break_down(anchor):
    if anchor.server:
        anchor.server.shutdown()
        anchor.server.server_close()
    elif anchor.kind == "folder":
        anchor.folder.parent.mkdir(exist_ok=True)
        anchor.folder.write_text("something else is mounted here")
    elif anchor.kind == "log":
        anchor._collected.unlink()
    elif anchor.kind == "s3":
        anchor._bucket = open_bucket(f"s3://{anchor._bucket.name}?endpoint=http://127.0.0.1:1")[0]
    elif anchor.kind == "sqlite":
        anchor._database._database.path.write_bytes(b"no database" * 100)
    else:
        anchor._database._database.conninfo = "postgresql://127.0.0.1:1/none"


@pytest.mark.parametrize("anchor", [kind for kind in KINDS if kind not in {"log", "tsa"}], indirect=True)
def test_an_anchor_that_is_down_is_a_warning_and_another_one_vouches_all_the_same(chain, anchor, tmp_path):
    other = open_anchor(f"file://{tmp_path}/another")
    keep(chain, other)
    break_down(anchor)
    found = verify(chain, anchor, other)
    assert (found.result, found.anchored, found.findings) == (Result.OK, 13, ())
    assert [(one.kind, one.where) for one in found.warnings] == [("anchor.unreachable", anchor.name)]
    alone = verify(chain, anchor)
    assert (alone.result, [one.kind for one in alone.warnings]) == (Result.UNANCHORED, ["anchor.unreachable"])
    (state,) = keep_now(chain, [anchor])
    assert state.trouble


def test_a_log_that_drops_its_lines_is_told_and_one_that_is_gone_is_a_warning(chain, tmp_path):
    (state,) = keep_now(chain, [open_anchor("log:")])
    assert "set its level" in state.trouble
    answer = ask(open_anchor(f"log:{tmp_path}/gone.log"), chain)
    assert "No such file" in answer.trouble
    assert "name that file" in ask(open_anchor("log:"), chain).trouble


@pytest.mark.parametrize("anchor", ["tsa"], indirect=True)
def test_without_its_authority_nothing_is_stamped_and_what_was_stamped_still_vouches(chain, anchor):
    keep(chain, anchor)
    break_down(anchor)
    assert verify(chain, anchor).result is Result.OK
    seal(chain, [make_event()])
    (state,) = keep_now(chain, [anchor])
    assert "does not answer" in state.trouble


SLOW = {
    "silent": (b"", b""),
    "a byte of its body at a time": (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
    "a byte of a header at a time": (b"HTTP/1.0 200 OK\r\nX-Slow: ", b"x"),
    "going on for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("anchor", ["tsa", "witness"], indirect=True)
@pytest.mark.parametrize(("first", "then"), SLOW.values(), ids=SLOW)
def test_a_slow_service_is_given_up_in_time(chain, anchor, first, then, monkeypatch):
    monkeypatch.setattr("audit_core.anchors.web.TIMEOUT_SECONDS", 0.2)

    def hang(handler, _):
        handler.wfile.write(first)
        for _ in range(400):
            time.sleep(0.05)
            handler.wfile.write(then)
        return "hung"

    anchor.server.hook, began = hang, time.monotonic()
    (state,) = keep_now(chain, [anchor])
    assert "does not answer" in state.trouble
    assert time.monotonic() - began < 10, "half as long as it would have hung"


LIES = {
    "an error": (500, b"out of order"),
    "a redirection to nowhere": (302, b""),
    "nothing": (200, b""),
    "nonsense": (200, b"\xff\x00" * 50),
    "a conflict of nothing": (409, b"all of it"),
    "a conflict without end": (409, b"9" * 5_000),
    "a conflict with more than any tree has": (409, b"9" * 19),
    "a conflict with what it was told": (409, b"0"),
    "a conflict with what it was told then": (409, b"4"),
    "that nothing is extended": (422, b""),
}


@pytest.mark.parametrize("anchor", ["tsa", "witness"], indirect=True)
@pytest.mark.parametrize("lie", LIES)
def test_a_service_that_answers_nonsense_has_kept_nothing_and_accuses_nobody(chain, anchor, lie):
    anchor.server.hook = lambda *_: LIES[lie]
    (state,) = keep_now(chain, [anchor])
    assert (state.size, bool(state.trouble)) == (0, True)
    assert verify(chain, anchor).result is Result.UNANCHORED


@pytest.mark.parametrize("anchor", ["folder", "tsa"], indirect=True)
def test_a_checkpoint_that_was_changed_in_the_anchor_vouches_for_nothing_and_accuses_nobody(chain, anchor):
    keep(chain, anchor)
    folder = getattr(anchor, "folder", None) or anchor._receipts.folder
    (path,) = folder.glob("*.checkpoint")
    path.chmod(0o600)
    path.write_text(path.read_text().replace("\n13\n", "\n12\n"))
    found = verify(chain, anchor)
    assert (found.result, found.findings) == (Result.UNANCHORED, ())
    assert [one.where for one in found.warnings] == [anchor.name]


def put_strange_things_into(anchor):
    """What whoever may write there, but holds no key, can put beside the checkpoints."""
    if anchor.kind in {"folder", "tsa"}:
        folder = getattr(anchor, "folder", None) or anchor._receipts.folder
        stem = f"{99:020d}-{'a' * 16}"
        (folder / f"{stem}.checkpoint").mkdir()
        (folder / f"{stem}.tsr").touch()
        os.mkfifo(folder / f"{97:020d}-{'a' * 16}.checkpoint")
        (folder / f"{97:020d}-{'a' * 16}.tsr").touch()
        (folder / f"{98:020d}-{'a' * 16}.tsr").touch()
    elif anchor.kind == "log":
        large = b64encode(f"{ORIGIN}\n{'9' * 5_000}\nAAAA\n".encode()).decode()
        with anchor._collected.open("a") as log:
            log.write(f'GET / "audit-checkpoint:AAAAA"\naudit-checkpoint:{large}\n')
    elif anchor.kind == "s3":
        there, name = client(), anchor._bucket.name
        there.delete_object(Bucket=name, Key=f"{anchor._prefix}{99:020d}-never-there.checkpoint")
        there.put_object(Bucket=name, Key=f"{anchor._prefix}{98:020d}-open.checkpoint", Body=b"x")
    elif anchor.kind == "sqlite":
        with anchor._database._database.transaction(1) as connection:
            insert = "INSERT INTO audit_anchors VALUES (?, ?, CAST(? AS TEXT), CAST(? AS TEXT))"
            connection.execute(insert, (99, "x", b"\xff", b"\xff"))
            connection.execute(insert, (98, "x", b"x", b"never"))
            connection.execute(insert, (97, "x", b"x", b"2026-01-01"))
    else:
        database = anchor._database._database
        with database.transaction() as connection:
            insert = f"INSERT INTO {database.table('audit_anchors')} VALUES (99, 'x', 'x', 'infinity')"
            database.execute(insert, (), connection)


@pytest.mark.parametrize("anchor", [kind for kind in KINDS if kind != "witness"], indirect=True)
def test_one_strange_entry_hides_no_checkpoint_beside_it(chain, anchor):
    keep(chain, anchor)
    put_strange_things_into(anchor)
    now = datetime.now(UTC) + timedelta(hours=1)
    found = verify(chain, anchor, as_of=now)
    assert (found.result, found.anchored, found.findings) == (Result.OK, 13, ())
    assert found.warnings, "what is strange is told"
    change(chain, lambda loot: (loot.rows.__delitem__(slice(9, None)), loot.heads.pop()))
    assert kinds(verify(chain, anchor, as_of=now)) == {"truncated"}


@pytest.mark.parametrize("anchor", ["s3"], indirect=True)
def test_a_delete_marker_where_nothing_was_is_no_trouble(chain, anchor):
    keep(chain, anchor)
    client().delete_object(Bucket=anchor._bucket.name, Key=f"{anchor._prefix}never-there.checkpoint")
    found = verify(chain, anchor)
    assert (found.result, found.anchored, found.warnings) == (Result.OK, 13, ())


@pytest.mark.parametrize("anchor", ["folder"], indirect=True)
def test_a_checkpoint_of_another_trail_in_the_anchor_is_a_question_and_no_accusation(chain, anchor):
    other = make_chain(MemoryStore())
    other._wanted_origin = "example.com/other"
    seal(other, [make_event()])
    keep(other, anchor)
    with pytest.raises(Exception, match=r"that the folder .* keeps is of the trail example\.com/other"):
        verify(chain, anchor)


class Raising:
    """An anchor of an application's own, with an error in it."""

    name = "ours"

    def keep(self, note, chain):
        raise ZeroDivisionError

    kept = keep


def test_an_error_in_an_anchor_of_the_application_is_told_and_breaks_nothing(chain):
    (state,) = keep_now(chain, [Raising()])
    assert state.trouble == "ZeroDivisionError: "
    anchor = Raising()
    anchor.kept = lambda chain: iter([1 / 0])
    answer = ask(anchor, chain)
    assert answer.trouble.startswith("ZeroDivisionError")


# --- An anchor that holds an older or a newer checkpoint than the store


def test_an_older_checkpoint_vouches_as_far_as_it_goes(chain, anchor):
    keep(chain, anchor)
    seal(chain, [make_event()])
    found = verify(chain, anchor)
    assert (found.result, found.anchored, found.size) == (Result.OK, 13, 14)


def test_a_newer_checkpoint_says_that_events_are_missing(chain, anchor):
    backup = steal(chain.store)
    seal(chain, [make_event()])
    keep(chain, anchor)
    put_back(chain.store, backup)
    assert kinds(verify(make_chain(chain.store), anchor)) == {"truncated"}


# --- What openssl and the witness say of it


@pytest.mark.parametrize("anchor", ["tsa"], indirect=True)
def test_openssl_agrees_with_our_time_stamps_and_with_no_other(chain, anchor):
    keep(chain, anchor)
    folder, ca = anchor._receipts.folder, Path(anchor._ca)
    (note,), (stamp,) = folder.glob("*.checkpoint"), folder.glob("*.tsr")
    from tests.anchors.kinds import _authority

    authority = _authority(ca.parent.parent)
    assert authority.agrees(note, stamp)
    other = folder / "other"
    other.write_text(note.read_text() + " ")
    assert not authority.agrees(other, stamp)


def test_a_stamp_holds_after_the_certificate_of_its_authority_has_ended(chain, tmp_path):
    authority = Authority(tmp_path / "authority")
    authority.end_at(end := datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3))
    with serving(authority.answer) as service:
        receipts = tmp_path / "receipts"
        anchor = open_anchor(f"tsa+{service.url}/tsr?ca={authority.ca}&receipts={receipts}")
        keep(chain, anchor)
        time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds() + 1))
        assert verify(chain, anchor).result is Result.OK
    (note,), (stamp,) = receipts.glob("*.checkpoint"), receipts.glob("*.tsr")
    assert not authority.agrees(note, stamp)
    assert authority.agrees(note, stamp, "-attime", int(end.timestamp()) - 1)


@pytest.mark.parametrize("anchor", ["tsa"], indirect=True)
def test_a_stamp_of_another_authority_is_none(chain, anchor, tmp_path):
    keep(chain, anchor)
    other = Authority(tmp_path / "other authority")
    anchor._ca = str(other.ca)
    found = verify(chain, anchor)
    assert (found.result, [one.kind for one in found.warnings]) == (Result.UNANCHORED, ["anchor.unreachable"])


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_the_witness_is_told_its_size_at_once_and_asked_for_it_after_a_restart(chain, anchor):
    for _ in range(2):
        keep(chain, anchor)
        seal(chain, [make_event(n) for n in range(10)])
    keep(chain, anchor)
    assert [body.split(b"\n")[0] for body in anchor.server.asked] == [b"old 0", b"old 13", b"old 23"]
    anchor.server.asked.clear()
    anchor._seen = 0
    seal(chain, [make_event()])
    keep(chain, anchor)
    assert [body.split(b"\n")[0] for body in anchor.server.asked] == [b"old 0", b"old 33"]
    assert anchor.server.witness.size == 34


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_a_witness_that_does_not_know_the_trail_is_told_with_the_cure(chain, anchor):
    anchor.server.witness.origin = "example.com/other"
    (state,) = keep_now(chain, [anchor])
    assert "does not know this trail: give its operator" in state.trouble


# --- URLs


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "The URL of an anchor is"),
        ("file://", "The URL of an anchor is"),
        ("sqlite:///", "The URL of an anchor is"),
        ("tsa+https://host/tsr", r"\?ca="),
        ("tsa+https://host/tsr?ca=x&size=9", "has the options ca, receipts"),
        ("witness+https://host", r"\?key="),
        ("witness+https://host?key=x", "The key of the witness"),
        (f"witness+https://host?key={KEY}", "is of type 04"),
    ],
)
def test_a_url_that_is_none_of_an_anchor_says_what_is_one(url, says):
    with pytest.raises(ConfigurationError, match=says):
        open_anchor(url)


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_a_cosignature_of_another_witness_is_none(chain, anchor):
    other = Witness(str(KEY), anchor.server.witness.name)
    other.key = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    anchor.server.answer = other.answer
    (state,) = keep_now(chain, [anchor])
    assert "answers with what is no cosignature" in state.trouble
    assert verify(chain, anchor).result is Result.UNANCHORED


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
@pytest.mark.parametrize("how", [verify, keep], ids=["verify", "keep"])
def test_another_process_that_shows_the_witness_more_meanwhile_accuses_nobody(chain, anchor, how):
    keep(chain, anchor)
    other = WitnessAnchor(anchor._url, anchor._key, anchor._receipts)

    def meanwhile(*_):
        anchor.server.hook = None
        grown = make_chain(chain.store)
        seal(grown, [make_event()])
        keep(grown, other)

    anchor.server.hook = meanwhile
    found = how(chain, anchor)
    assert found is None or (found.result, found.findings, found.warnings) == (Result.OK, (), ())
    assert anchor.server.witness.size == 14
    anchor._seen = 20  # by another thread, of more than this one is about to show
    keep(chain, anchor)


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_an_old_cosignature_that_is_shown_again_is_none_and_clocks_may_differ(chain, anchor):
    anchor.server.witness.behind = 3_600
    (state,) = keep_now(chain, [anchor])
    assert "an old cosignature" in state.trouble
    assert not list(anchor._receipts.folder.glob("*"))
    anchor.server.witness.behind = 300
    keep(chain, anchor)


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_a_cosignature_of_another_tree_is_none(chain, anchor):
    keep(chain, anchor)
    older = anchor.server.witness._cosign("example.com/test\n4\nAAAA\n")
    seal(chain, [make_event()])
    anchor.server.hook = lambda *_: (200, older.encode())
    (state,) = keep_now(chain, [anchor])
    assert "answers with what is no cosignature" in state.trouble


@pytest.mark.parametrize("anchor", ["witness"], indirect=True)
def test_a_witness_that_claims_to_have_seen_more_is_named_by_the_verdict(chain, anchor):
    anchor.server.hook = lambda *_: (409, b"14\n")
    found = verify(chain, anchor)
    assert [(one.kind, one.where) for one in found.findings] == [("truncated", "the witness witness.example/w1")]
    (state,) = keep_now(chain, [anchor])
    assert "has seen another history of this trail" in state.trouble


def test_a_checkpoint_that_an_anchor_got_after_a_larger_one_accuses_no_clock(chain):
    small = chain.checkpoint_note()
    seal(chain, [make_event()])
    large, now = chain.checkpoint_note(), datetime.now(UTC)
    late = Kept(small, now + timedelta(hours=1), is_attested=True)
    assert kinds(chain.verify(KEY, anchored=[Answer("the bank", [late])])) == {"clock"}, "alone it says so"
    for first in (large, small):  # or the same was kept before
        kept = [Kept(first, now, is_attested=True), late]
        assert chain.verify(KEY, anchored=[Answer("the bank", kept)]).findings == ()
        assert chain.verify(KEY, anchored=[Answer("the bank", kept[::-1])]).findings == ()


@pytest.mark.parametrize("anchor", ["sqlite"], indirect=True)
def test_a_checkpoint_that_was_kept_long_after_it_was_sealed_accuses_no_clock(chain, anchor):
    change(chain, lambda loot: loot.heads.__setitem__(-1, loot.heads[-1]._replace(sealed_at=EARLIER)))
    keep(chain, anchor)
    assert verify(chain, anchor).result is Result.OK
    seal(chain, [make_event()])
    assert verify(chain, anchor).findings == ()
