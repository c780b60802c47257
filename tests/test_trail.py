import asyncio
import itertools
import re
import sqlite3
import threading
import time
from contextlib import closing
from datetime import datetime
from inspect import ismodule
from pathlib import Path

import pytest

import audit_core
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.integrity.note import VerifierKey
from audit_core.integrity.verify import Result
from audit_core.keys import LocalSigner, generate_key, load_signer
from audit_core.redaction import Redactor
from audit_core.trail import AuditTrail
from audit_core.writing.inbox import Inbox
from tests.attacks.attacker import AT


@pytest.fixture(params=["memory:", "sqlite"])
def trail(request, tmp_path):
    url = f"sqlite:///{tmp_path}/trail.db" if request.param == "sqlite" else request.param
    trail = AuditTrail(url)
    yield trail
    trail.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trail.db"


@pytest.fixture
def on_file(path):
    with AuditTrail(f"sqlite:///{path}") as trail:
        yield trail


def actions(trail, **query):
    return [event.action for event in trail.events(newest_first=False, **query)]


class Ambiguous:
    """As an array of numpy or a table of pandas is."""

    def __bool__(self):
        raise ValueError("The truth value of an array is ambiguous.")


class TestRecording:
    def test_what_is_recorded_is_read_back(self, trail):
        event = trail.record("invoice.approve", resource=("invoice", 42), details={"total": "99.00"})
        (read,) = trail.events(action="invoice.approve")
        assert read.event_id == event.event_id
        assert (read.resource_type, read.resource_id) == ("invoice", "42")
        assert read.details == {"total": "99.00"}
        assert read.sealed
        assert read.actor_type == "system"

    def test_a_resource_may_be_written_as_text(self, trail):
        trail.record("note.read", resource="note:7:b")
        trail.record("list.read", resource="note")
        assert [(e.resource_type, e.resource_id) for e in trail.events(resource="note", newest_first=False)] == [
            ("note", "7:b"),
            ("note", None),
        ]

    def test_the_start_and_the_orderly_stop_of_a_process_are_events(self, path):
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.record("a.b")
        again = AuditTrail(f"sqlite:///{path}", create=False)
        assert [e.action for e in sorted(again.events(), key=lambda e: e.sequence)] == [
            "log.created",
            "trail.started",
            "a.b",
            "trail.stopped",
        ]
        assert all(event.sealed for event in again.events())
        again.close()

    def test_a_trail_that_only_reads_leaves_no_event(self, on_file, path):
        on_file.record("a.b")
        on_file.close()
        reader = AuditTrail(f"sqlite:///{path}")
        before = len(list(reader.events()))
        reader.close()
        assert len(list(AuditTrail(f"sqlite:///{path}").events())) == before

    def test_an_unknown_outcome_is_a_clear_error_of_the_caller(self, trail):
        with pytest.raises(ValueError, match="sucess"):
            trail.record("a.b", outcome="sucess")

    def test_secrets_never_enter(self, trail):
        trail.record("user.create", details={"user": {"password": "hunter2", "name": "Ada"}})
        (event,) = trail.events(action="user.create")
        assert event.details == {"user": {"password": "[redacted]", "name": "Ada"}}

    def test_details_of_any_kind_never_raise(self, trail):
        cycle: list = []
        cycle.append(cycle)
        trail.record(
            "a.b", resource=("x", b"\xff"), details={1: cycle, "n": float("nan"), "s": "\ud800\0", "h": 10**5000}
        )
        trail.record("a.c", details=Ambiguous())
        assert trail.verify().findings == ()

    @pytest.mark.parametrize("resource", [42, b"invoice:42", ("invoice",), ("invoice", "42", "7"), {"invoice": "42"}])
    def test_what_is_no_resource_is_refused_with_what_is_one(self, trail, resource):
        with pytest.raises(ValueError, match="invoice:42"):
            trail.record("a.b", resource=resource)

    def test_an_actor_named_for_a_block_nests_and_is_restored(self, trail):
        with trail.actor("import", type="service"):
            trail.record("a.one")
            with trail.actor("42", on_behalf_of="7"):
                trail.record("a.two")
            trail.record("a.three")
        trail.record("a.four")
        read = [
            (e.actor_id, e.actor_type, e.on_behalf_of)
            for e in trail.events(newest_first=False)
            if e.action.startswith("a.")
        ]
        assert read == [
            ("import", "service", None),
            ("42", "user", "7"),
            ("import", "service", None),
            (None, "system", None),
        ]

    def test_setting_an_actor_outside_of_a_request_names_the_cure(self):
        with pytest.raises(LookupError, match=r"with trail\.actor"):
            audit_core.set_actor("42")

    def test_async_callers_await_the_future(self, trail):
        async def main():
            return await asyncio.gather(
                *(asyncio.wrap_future(trail.submit("a.b", details={"n": n})) for n in range(50))
            )

        events = asyncio.run(main())
        assert {e.event_id for e in trail.events(action="a.b")} == {e.event_id for e in events}

    def test_a_buffered_trail_loses_nothing_on_an_orderly_stop(self, path):
        trail = AuditTrail(f"sqlite:///{path}", durable=False)
        for number in range(2_000):
            trail.record("a.b", details={"n": number})
        trail.close()
        again = AuditTrail(f"sqlite:///{path}")
        assert len(actions(again, action="a.b")) == 2_000
        assert again.verify().findings == ()
        again.close()

    def test_a_full_queue_makes_callers_wait_and_loses_nothing(self, path, monkeypatch):
        monkeypatch.setattr(Inbox.__init__, "__defaults__", (3,))
        with AuditTrail(f"sqlite:///{path}", durable=False) as trail:
            trail.flush()
            may_write, real = threading.Event(), trail.chain.append_drafts
            monkeypatch.setattr(trail.chain, "append_drafts", lambda *of: may_write.wait(10) and real(*of))
            thread = threading.Thread(target=lambda: [trail.record("a.b") for _ in range(20)])
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            may_write.set()
            thread.join(10)
            trail.flush()
            assert len(actions(trail, action="a.b")) == 20

    def test_many_threads_record_at_once_and_each_event_is_there_once(self, trail):
        def work(name):
            for number in range(50):
                trail.record("a.b", resource=("thread", f"{name}-{number}"))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(e.resource_id for e in trail.events(action="a.b")) == sorted(
            f"{t}-{n}" for t in range(8) for n in range(50)
        )
        assert trail.verify().findings == ()


class TestReading:
    @pytest.fixture
    def full(self, trail):
        for number in range(25):
            with trail.actor(f"u{number % 2}"):
                trail.record("a.b", resource=("x", number % 5), outcome="denied" if number % 3 else "success")
        return trail

    def test_pages_join_without_gap_or_repeat_in_both_directions(self, full):
        for newest_first in (True, False):
            pages, after = [], None
            while page := list(itertools.islice(full.events(action="a.b", newest_first=newest_first, after=after), 4)):
                pages += page
                after = page[-1].event_id
            assert [e.event_id for e in pages] == [
                e.event_id for e in full.events(action="a.b", newest_first=newest_first)
            ]
            assert len(pages) == 25

    def test_an_event_has_to_match_every_filter(self, full):
        found = list(full.events(actor="u1", resource=("x", 3), outcome="denied"))
        assert found
        assert all((e.actor_id, e.resource_id, e.outcome) == ("u1", "3", "denied") for e in found)

    def test_an_interval_includes_its_beginning_and_not_its_end(self, full):
        middle = list(full.events(action="a.b", newest_first=False))[10]
        since = list(full.events(action="a.b", since=middle.timestamp))
        until = list(full.events(action="a.b", until=middle.timestamp))
        assert len(since) + len(until) == 25
        assert middle.event_id in {e.event_id for e in since}

    def test_a_moment_without_a_time_zone_is_refused_and_not_guessed(self, full):
        with pytest.raises(ValueError, match="time zone"):
            list(full.events(since=datetime(2026, 1, 1)))  # noqa: DTZ001

    def test_an_unknown_event_to_begin_after_is_an_error(self, full):
        with pytest.raises(LookupError):
            full.events(after="nothing")

    def test_what_waits_is_read_too_and_says_that_it_is_not_sealed(self, on_file):
        on_file.record("a.sealed")
        on_file.opened()
        on_file.record("a.waiting")
        newest, before, *_ = on_file.events()
        assert (newest.action, newest.sealed) == ("a.waiting", False)
        assert before.sealed
        assert next(on_file.events(after=newest.event_id)).event_id == before.event_id
        on_file.closed()
        on_file.flush()
        assert next(on_file.events()).sealed


class TestKeys:
    def test_a_process_with_another_key_does_not_seal_says_so_and_loses_nothing(self, path, monkeypatch, caplog):
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.record("a.b")
        stranger = AuditTrail(f"sqlite:///{path}", signer=LocalSigner(b"x" * 32))
        stranger.record("from.elsewhere")
        status = stranger.status()
        assert not status["key_is_ours"]
        assert "AUDIT_KEY" in status["trouble"]
        assert "AUDIT_KEY" in caplog.text
        assert status["waiting"] >= 2
        stranger.close()
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.flush()
            assert [e.sealed for e in trail.events(action="from.elsewhere")] == [True]
            assert trail.verify().findings == ()

    def test_the_key_is_made_once_for_nobody_else_to_read_and_not_beside_the_database(self, state, path):
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.record("a.b")
        assert (state / "signing.key").stat().st_mode & 0o777 == 0o600
        assert not list(path.parent.glob("*.key"))

    def test_the_key_may_be_given_itself_or_as_a_file(self, tmp_path):
        key = generate_key()
        (tmp_path / "key").write_text(key + "\n")
        one = load_signer({"AUDIT_KEY": key})
        two = load_signer({"AUDIT_KEY": str(tmp_path / "key")})
        assert one.public_key == two.public_key

    @pytest.mark.parametrize("setting", ["nonsense", "/nowhere/key", "AAAA", "../\0"])
    def test_a_key_that_is_none_names_the_cure(self, setting):
        with pytest.raises(ConfigurationError, match="audit keygen"):
            load_signer({"AUDIT_KEY": setting})

    def test_a_state_directory_that_cannot_be_made_names_the_cure(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="AUDIT_STATE_DIR"):
            load_signer({"AUDIT_STATE_DIR": str(tmp_path / "file" / "x")})


class TestSettings:
    @pytest.mark.parametrize(
        "url", ["", "clinic.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://x/y", "sqlite:x"]
    )
    def test_a_url_that_is_none_of_ours_says_what_one_looks_like(self, url):
        with pytest.raises(ConfigurationError, match="sqlite:///"):
            AuditTrail(url)

    @pytest.mark.parametrize("options", ["?check_same_thread=false", "?mode=ro&uri=true"])
    def test_options_of_sqlalchemy_in_a_url_are_refused_and_no_file_of_that_name_is_made(self, path, options):
        with pytest.raises(ConfigurationError, match="no options"):
            AuditTrail(f"sqlite:///{path}{options}")
        assert not list(path.parent.glob("*[?]*"))

    @pytest.mark.parametrize("signer", ["c2VjcmV0", b"k" * 32, 5])
    def test_a_signer_that_is_none_is_refused_at_once_and_not_shown(self, signer):
        with pytest.raises(ConfigurationError, match="AUDIT_KEY") as refusal:
            AuditTrail("memory:", signer=signer)
        assert str(signer) not in str(refusal.value)

    @pytest.mark.parametrize("url", [None, Path("clinic.db"), 5, b"memory:"])
    def test_a_url_that_is_no_text_says_what_one_looks_like(self, url):
        with pytest.raises(ConfigurationError, match="sqlite:///") as refusal:
            AuditTrail(url)
        assert str(refusal.value).endswith(f"not {url!r}.")

    @pytest.mark.parametrize(
        ("setting", "given", "sentence"),
        [
            ("policy", {"reads": ["patient"]}, r"The policy is an AuditPolicy, .*: give policy=AuditPolicy\(reads="),
            ("redact", ["patient.name"], r'Rules are by field, \{"patient.phone": "mask"\}, and not \[.patient.name'),
            ("redact", "patient.name", "Rules are by field"),
            ("redact", {5: "mask"}, "A rule is for a field like patient.phone, not for 5"),
            ("redact", {"name": ["mask"]}, "choose from replace, mask"),
            ("redactor", {"name": "mask"}, "redactor is a Redactor, not a dict: give the rules as redact="),
            ("origin", 5, "An origin is a name like clinic.example/audit"),
            ("outbox", Path("clinic.db"), "outbox is a list of strings, and not PosixPath"),
            ("outbox", None, "outbox is a list of strings, and not None"),
            ("queue", 5, "The URL of a queue is redis://"),
            ("archives", [None], "archives is a list of strings, and not None"),
            ("trusted_proxies", [5], "trusted_proxies is a list of strings, and not 5"),
            ("trusted_proxies", None, "trusted_proxies is a list of strings"),
            ("proxy_header", None, "X-Forwarded-For or Forwarded, not None"),
            ("anchors", Path("anchors"), "anchors is a list of URLs, not PosixPath"),
            ("anchors", [None], r"An anchor is its URL, or has keep\(\) and kept\(\), unlike None"),
            ("anchor_every", "60", "anchor_every is a number of seconds above 0, not '60'"),
            *(
                ("anchor_every", wrong, f"anchor_every is a number of seconds above 0, not {wrong!r}")
                for wrong in (0, -5, True, float("nan"))
            ),
            ("on_failure", ["block"], 'on_failure is "spill" or "block"'),
        ],
    )
    def test_a_setting_of_a_wrong_type_is_refused_at_once_and_not_at_each_request(self, setting, given, sentence):
        with pytest.raises(ConfigurationError, match=sentence):
            AuditTrail("memory:", **{setting: given})

    def test_a_misspelt_failure_mode_is_refused(self):
        with pytest.raises(ConfigurationError, match="spill"):
            AuditTrail("memory:", on_failure="blok")

    def test_a_folder_that_is_not_there_is_one_clear_sentence(self, tmp_path):
        with pytest.raises(StoreUnavailableError, match="unable to open"):
            AuditTrail(f"sqlite:///{tmp_path}/nowhere/trail.db")

    def test_a_file_that_is_no_database_is_one_clear_sentence(self, path):
        path.write_text("not a database, but long enough to be mistaken for one " * 100)
        with pytest.raises(StoreUnavailableError, match="is it a SQLite database"):
            AuditTrail(f"sqlite:///{path}")

    @pytest.mark.parametrize("origin", ["", " ", "a b", "a+b", "x\n"])
    def test_an_origin_that_cannot_stand_in_a_checkpoint_is_refused_at_once(self, origin):
        with pytest.raises(ConfigurationError, match="origin"):
            AuditTrail("memory:", origin=origin)

    def test_an_origin_may_be_chosen(self):
        with AuditTrail("memory:", origin="clinic.example/audit") as trail:
            trail.record("a.b")
            assert trail.verify().origin == "clinic.example/audit"


FORGED_ID = '{"event_id":[1],"timestamp":"2026-01-01T00:00:00.000000Z","action":"a.b"}'


class TestCarrying:
    """What an ORM hook does: events on the application's own connection."""

    @pytest.fixture
    def connection(self, on_file, path):
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE patient (name)")
        yield connection
        connection.close()

    def change(self, trail, connection, name):
        connection.execute("INSERT INTO patient VALUES (?)", (name,))
        trail.carry([trail.event("create", resource=("patient", name))], connection, "app")

    def test_a_change_and_its_sealed_event_commit_together(self, on_file, connection):
        self.change(on_file, connection, "Ada")
        assert actions(on_file, resource="patient") == []
        connection.commit()
        (event,) = on_file.events(resource="patient")
        assert event.sealed

    def test_a_rollback_undoes_both_and_the_chain_goes_on(self, on_file, connection):
        self.change(on_file, connection, "Ada")
        connection.rollback()
        self.change(on_file, connection, "Eve")
        connection.commit()
        assert [e.resource_id for e in on_file.events(resource="patient")] == ["Eve"]
        assert on_file.verify().findings == ()

    def test_the_row_factory_of_the_application_does_not_matter(self, on_file, connection):
        connection.row_factory = lambda cursor, row: dict(zip([c[0] for c in cursor.description], row, strict=True))
        self.change(on_file, connection, "Ada")
        connection.commit()
        assert [e.sealed for e in on_file.events(resource="patient")] == [True]

    def test_a_savepoint_undoes_its_own_and_nothing_else(self, on_file, connection):
        self.change(on_file, connection, "Ada")
        connection.execute("SAVEPOINT one")
        self.change(on_file, connection, "Eve")
        connection.execute("ROLLBACK TO SAVEPOINT one")
        self.change(on_file, connection, "Bob")
        connection.commit()
        assert [e.resource_id for e in on_file.events(resource="patient", newest_first=False)] == ["Ada", "Bob"]
        assert on_file.verify().findings == ()

    def test_a_rolled_back_first_event_does_not_fix_the_origin(self, path):
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            connection = sqlite3.connect(path)
            for end in (connection.rollback, connection.commit):
                connection.execute("CREATE TABLE IF NOT EXISTS patient (name)")
                self.change(trail, connection, "Ada")
                self.change(trail, connection, "Eve")
                end()
            connection.close()
            assert trail.verify().findings == ()
            assert trail.verify().size >= 3

    def test_what_was_spilled_goes_along_with_the_next_change_and_is_there_once(self, on_file, connection):
        on_file.opened()
        for number in range(5):
            on_file.record("while.busy", resource=("n", number))
        self.change(on_file, connection, "Ada")
        connection.commit()
        assert [e.sealed for e in on_file.events(action="while.busy")] == [True] * 5
        on_file.closed()
        on_file.flush()
        assert len(actions(on_file, action="while.busy")) == 5
        assert on_file.verify().findings == ()

    def test_what_was_spilled_survives_the_rollback_of_the_change_that_took_it_along(self, on_file, connection):
        on_file.opened()
        on_file.record("while.busy")
        self.change(on_file, connection, "Ada")
        connection.rollback()
        on_file.closed()
        on_file.flush()
        assert [e.sealed for e in on_file.events(action="while.busy")] == [True]

    def test_a_database_that_the_trail_does_not_drain_is_named_with_the_cure(self, on_file, tmp_path):
        other = sqlite3.connect(tmp_path / "other.db")
        with pytest.raises(ConfigurationError, match="outbox="):
            on_file.carry([on_file.event("create")], other, "other")
        other.close()

    def test_the_cure_can_be_pasted_where_a_framework_has_a_folder_of_its_own_for_the_same_name(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "instance").mkdir()
        with AuditTrail("sqlite:///clinic.db", lifecycle=False) as trail:
            monkeypatch.chdir(tmp_path / "instance")  # a server that changes its folder once it has started
            with closing(sqlite3.connect("clinic.db")) as other, pytest.raises(ConfigurationError) as refused:
                trail.carry([trail.event("create")], other, "other")
        there, said = f"sqlite:///{tmp_path}/instance/clinic.db", str(refused.value)
        assert said.startswith(f"This change is in {there}, which the trail sqlite:///{tmp_path}/clinic.db does not")
        (cure,) = re.findall(r'outbox=\["(.*)"\]', said)
        with (
            AuditTrail(f"sqlite:///{tmp_path}/clinic.db", outbox=[cure], lifecycle=False) as trail,
            closing(sqlite3.connect("clinic.db")) as other,
        ):
            trail.carry([trail.event("create")], other, "other")

    def test_a_change_in_memory_is_named_as_that(self, on_file):
        with (
            closing(sqlite3.connect(":memory:")) as other,
            pytest.raises(ConfigurationError, match="in a database in memory"),
        ):
            on_file.carry([on_file.event("create")], other, "other")

    def test_another_database_is_drained_when_it_is_named(self, tmp_path):
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db", outbox=f"sqlite:///{tmp_path}/other.db") as trail:
            other = sqlite3.connect(tmp_path / "other.db")
            trail.carry([trail.event("create", resource=("patient", 1))], other, "other")
            other.rollback()
            trail.carry([trail.event("create", resource=("patient", 2))], other, "other")
            other.commit()
            other.close()
            trail.flush()
            assert [(e.resource_id, e.sealed) for e in trail.events(resource="patient")] == [("2", True)]
            assert list(trail.outboxes[1].waiting()) == []

    def test_what_a_dead_process_left_in_another_database_is_sealed_by_the_next_one(self, tmp_path):
        urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("trail", "other")]
        with AuditTrail(urls[0], outbox=urls[1]) as trail:
            left = trail.event("create", resource=("patient", 1))
            other = sqlite3.connect(tmp_path / "other.db")
            trail.outboxes[1].put([left], other)
            other.commit()
            other.close()
        with AuditTrail(urls[0], outbox=urls[1]) as trail:
            trail.record("a.b")
            deadline = time.monotonic() + 10
            while [(e.event_id, e.sealed) for e in trail.events(resource="patient")] != [(left.event_id, True)]:
                assert time.monotonic() < deadline, "nobody sealed it"
                time.sleep(0.02)

    def test_another_database_waits_while_the_trail_is_locked_and_is_sealed_afterwards(self, tmp_path):
        with AuditTrail(f"sqlite:///{tmp_path}/trail.db", outbox=f"sqlite:///{tmp_path}/other.db") as trail:
            trail.record("a.b")
            holder = sqlite3.connect(tmp_path / "trail.db", isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            other = sqlite3.connect(tmp_path / "other.db")
            trail.carry([trail.event("create", resource=("patient", 1))], other, "other")
            other.commit()
            other.close()
            with pytest.raises(StoreUnavailableError):
                trail.flush(timeout=0.3)
            holder.close()
            trail.flush()
            assert [e.sealed for e in trail.events(resource="patient")] == [True]

    def test_a_forged_outbox_row_becomes_an_event_that_says_so_and_holds_up_nobody(self, on_file, connection):
        for text in ("{", "[]", FORGED_ID, "x" * 70_000, b"\xff"):
            connection.execute("INSERT INTO audit_outbox (event) VALUES (CAST(? AS TEXT))", (text,))
        good = on_file.event("create", resource=("patient", 1))
        on_file.carry([good], connection, "app")
        connection.commit()
        assert actions(on_file, action="outbox.unreadable") == ["outbox.unreadable"] * 5
        assert actions(on_file, resource="patient") == ["create"]
        assert on_file.verify().findings == ()

    def test_a_trail_that_was_tampered_with_is_not_sealed_on_and_the_change_goes_on(self, path):
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.record("a.b")
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE patient (name)")
        connection.execute("DROP TRIGGER audit_events_no_update")
        connection.execute("UPDATE audit_events SET event_hash = previous_hash WHERE sequence = 2")
        connection.commit()
        with AuditTrail(f"sqlite:///{path}") as trail:
            self.change(trail, connection, "Ada")
            connection.commit()
            assert "audit verify" in trail.status()["trouble"]
            assert [e.sealed for e in trail.events(resource="patient")] == [False]
            assert trail.chain.verify().result is Result.FAILED
        connection.close()

    def test_a_signer_that_is_away_breaks_no_change_and_its_event_is_sealed_when_it_is_back(self, path):
        signer = AbsentSigner(b"k" * 32)
        with AuditTrail(f"sqlite:///{path}", signer=signer, lifecycle=False) as trail:
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE patient (name)")
            for name, signer.is_away in (("Ada", False), ("Bob", True)):
                self.change(trail, connection, name)
                connection.commit()
            connection.close()
            assert {e.resource_id: e.sealed for e in trail.events(action="create")} == {"Ada": True, "Bob": False}
            assert "the key service is away" in trail.status()["trouble"]
            signer.is_away = False
            trail.flush()
            assert all(e.sealed for e in trail.events())
            assert trail.status()["trouble"] is None


class AbsentSigner(LocalSigner):
    """A key service that is away at times."""

    is_away = False

    def sign(self, message):
        if self.is_away:
            raise ConnectionError("the key service is away")
        return super().sign(message)


class TestVerifying:
    def test_verification_is_itself_an_event(self, trail):
        trail.record("a.b")
        trail.verify()
        (event,) = trail.events(action="trail.verified")
        assert event.details["result"] == "unanchored"

    def test_this_process_key_is_what_the_trail_is_checked_with(self, on_file, path):
        on_file.record("a.b")
        on_file.flush()
        thief = LocalSigner(b"t" * 32)
        forged = AuditTrail("memory:", origin=on_file.chain.origin, signer=thief)
        forged.record("a.b")
        forged.flush()
        forged.signing_key._signer = on_file.signing_key.own
        with pytest.raises(ConfigurationError, match="not signed with"):
            forged.verify()
        forged.signing_key._signer = thief
        forged.close()

    def test_a_proof_needs_only_the_verifier_key(self, trail):
        events = [trail.record("a.b", details={"n": n}) for n in range(20)]
        key = trail.chain.key
        for event in events:
            proof = trail.prove(event.event_id)
            assert proof.check(key).size >= 20
            with pytest.raises(audit_core.AuditError):
                proof.check(VerifierKey(key.name, LocalSigner(b"t" * 32).public_key))
        with pytest.raises(LookupError):
            trail.prove("nothing")

    def test_progress_is_told_to_the_end(self, trail):
        trail.record("a.b")
        told = []
        trail.verify(progress=lambda done, total: told.append((done, total)))
        assert told[-1][0] == told[-1][1] > 0

    def test_verifying_while_others_write_never_cries_wolf(self, on_file):
        on_file.record("a.b")
        stop = threading.Event()

        def work():
            while not stop.is_set():
                on_file.record("a.b")

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                assert on_file.chain.verify().findings == ()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_proof_of_every_event_holds_over_many_batch_sizes():
    chance = iter([1, 2, 300, 5, 256, 1, 700, 31, 1, 1, 1200, 3])
    from audit_core.stores.memory import MemoryStore
    from audit_core.testing import make_chain, make_event, seal

    chain = make_chain(MemoryStore())
    for batch in chance:
        seal(chain, [make_event(n) for n in range(batch)])
    rows = list(chain.store.rows())
    for row in rows[::97]:
        proof = chain.prove(row[AT["event_id"]])
        proof.check(chain.key)


def test_closing_twice_or_without_use_is_nothing(tmp_path):
    trail = AuditTrail(f"sqlite:///{tmp_path}/trail.db")
    trail.close()
    trail.record("a.b")
    trail.close()
    trail.close()
    assert actions(AuditTrail(f"sqlite:///{tmp_path}/trail.db"))[-1] == "trail.stopped"


def test_the_front_door_is_small_and_complete():
    assert len(audit_core.__all__) <= 18
    public = {name for name, value in vars(audit_core).items() if not name.startswith("_") and not ismodule(value)}
    assert public == set(audit_core.__all__)
    assert all(getattr(audit_core, name).__doc__ for name in public)


def test_another_database_that_has_no_outbox_holds_up_nobody(tmp_path):
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("trail", "gone")]
    with AuditTrail(urls[0], outbox=urls[1]) as trail:
        (tmp_path / "gone.db").unlink()
        trail.record("a.b")
        trail.flush()
        assert [event.sealed for event in trail.events(action="a.b")] == [True]


def test_a_thread_that_ends_takes_its_connection_with_it(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db") as trail:
        trail.record("a.b")
        list(trail.events())
        before = len(trail.store.database._open)
        for _ in range(20):
            thread = threading.Thread(target=lambda: list(trail.events()))
            thread.start()
            thread.join()
        assert len(trail.store.database._open) == before


def test_rules_by_field_are_given_to_the_trail_itself(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db", redact={"patient.name": "hash", "note": "mask"}) as trail:
        details = trail.record("patient.read", resource="patient:1", details={"name": "Grace", "note": None}).details
        assert details["name"] == trail.redactor.keyed_hash("Grace")
    with pytest.raises(ConfigurationError, match="maks"):
        AuditTrail(f"sqlite:///{tmp_path}/trail.db", redact={"note": "maks"})
    with pytest.raises(ConfigurationError, match="not to both"):  # neither is left out without a word
        AuditTrail(f"sqlite:///{tmp_path}/trail.db", redact={"note": "mask"}, redactor=Redactor())


def test_whoever_only_reads_makes_no_key_for_the_rules(path, state):
    with AuditTrail(f"sqlite:///{path}", redact={"name": "hash"}, lifecycle=False) as trail:
        assert list(trail.events()) == []
        assert not (state / "hash.key").exists()
        trail.record("patient.read", details={"name": "Grace"})
    assert (state / "hash.key").exists()


def test_a_verification_is_true_only_where_it_is_ok(tmp_path):
    with AuditTrail(f"sqlite:///{tmp_path}/trail.db", anchors=[f"file://{tmp_path}/anchors"]) as trail:
        trail.record("chart.read")
        trail.flush()
        trail.anchor_now()
        assert trail.verify(), "OK"
        assert not trail.verify(anchors=[]), "nobody outside vouches for it"
        stranger = VerifierKey(trail.chain.key.name, LocalSigner(b"t" * 32).public_key)
        assert not trail.verify(stranger), "FAILED"
