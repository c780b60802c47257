"""A trail that keeps personal values outside of its records, from the application to the certificate."""

import json
import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_core import AuditTrail, Redactor
from audit_core.canonical import MAX_RECORD_BYTES, encode_record
from audit_core.chain.keys import read_keyring
from audit_core.chain.values import fill as fill_in
from audit_core.cli import main
from audit_core.compose import compose
from audit_core.context import AuditContext
from audit_core.coverage import personal
from audit_core.draft import aside_of, event_of, parse_draft, place
from audit_core.errors import ConfigurationError, StoreUnavailableError
from audit_core.event import AuditEvent
from audit_core.integrity.link import GENESIS_HASH
from audit_core.integrity.verify import Result
from audit_core.normalise import FIELD_LIMITS
from audit_core.orm.changes import updated
from audit_core.private import PRIVATE, VALUES_AT_MOST
from audit_core.process.threads import wait_until
from audit_core.query import EventQuery
from audit_core.redaction import redacted
from audit_core.reports import AuditReporter, write_csv
from audit_core.rows import from_row, to_json
from audit_core.telling import events_as_json
from audit_core.triggers.context import context_text
from audit_core.triggers.rules import _by_name
from audit_core.waiting import read_waiting
from tests import warm
from tests.postgres.server import as_role, new_database

APART = Redactor({"patient.ward": "private", "patient.city": "keep"}, b"k" * 32, erasable=True)
WHO = AuditContext(ip_address="192.0.2.7", user_agent="Secret Agent")
DETAILS = {
    "changes": {
        "email": {"old": "old@secret.example", "new": None},
        "ward": {"old": "secret 3", "new": "secret 4"},
        "city": {"old": "Ulm", "new": "Bern"},
        "password": {"old": "x", "new": "y"},
    },
    "visits": [{"phone": "secret 555", "a/b~c": {"address": {"street": "secret 1"}}}],
    "note": "stays",
}
ROOT = Path(__file__).parents[1]
BASIS = ("--basis", "GDPR Art. 17", "--approved-by", "officer")


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def event(details=DETAILS, redactor=APART):
    return compose("update", ("patient", 7), "success", details, context=WHO, source=None, redactor=redactor)


def test_what_is_personal_waits_beside_the_record_and_not_in_it():
    made = event()
    assert (made.ip_address, made.details["visits"][0]["phone"]) == ("192.0.2.7", "secret 555")
    waiting = json.loads(to_json(made))
    aside = waiting.pop("aside")
    assert not any(secret in json.dumps(waiting) for secret in ("secret", "192.0.2", "Agent"))
    assert aside.keys() == {
        "/ip_address", "/user_agent", "/details/changes/email/old", "/details/changes/ward/old",
        "/details/changes/ward/new", "/details/visits/0/phone", "/details/visits/0/a~1b~0c/address",
    }  # fmt: skip
    assert waiting["details"]["changes"]["email"] == {"old": PRIVATE, "new": None}
    assert waiting["details"]["changes"]["city"] == {"old": "Ulm", "new": "Bern"}
    assert waiting["details"]["changes"]["password"] == {"old": "[redacted]", "new": "[redacted]"}


def test_what_waits_is_read_whole_and_sealed_the_same_however_often_it_is_tried():
    made = event()
    again = read_waiting(to_json(made))
    assert (again, again.salts) == (made, made.salts)
    assert parse_draft(to_json(again)) == parse_draft(to_json(made))
    assert event_of(parse_draft(to_json(made))) == made


names = st.sampled_from(["email", "phone", "note", "changes", "a/b", "~", "old", "new", "", "address"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(names, inside, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(names, values, max_size=5))
def test_any_details_are_read_as_they_were(details):
    made = event(details)
    draft = parse_draft(to_json(made))
    assert event_of(draft) == made
    assert read_waiting(to_json(made)) == made
    assert len(aside_of(draft)) <= VALUES_AT_MOST


@pytest.mark.parametrize(
    "details",
    [
        {"people": [{"email": str(n)} for n in range(200)]},
        {"address" + "\u20ac" * 500: {f"email{n}": "x" for n in range(60)}, "a" * 300: {"b" * 3000: {"email": "x"}}},
        {f"email {n}" + "\x01" * 120: "x" * 400 for n in range(60)},
        {"email": "x" * 60_000},
    ],
)
def test_many_values_or_long_names_still_fit_into_a_record_with_the_longest_fields(details):
    longest = {name: "\x01" * limit for name, limit in FIELD_LIMITS.items()}
    context = AuditContext(ip_address="::1", user_agent=longest["user_agent"], request_id=longest["request_id"])
    context.session_id, context.tenant_id = longest["session_id"], longest["tenant_id"]
    made = compose(
        longest["action"], (longest["resource_type"], longest["resource_id"]), "success", details, context=context,
        source=longest["source"], redactor=APART,
    )  # fmt: skip
    draft = parse_draft(to_json(made))
    assert draft[0] == longest["action"], "it can be sealed"
    assert len(encode_record(place(draft, 10**18, GENESIS_HASH), "\x01" * 200)) <= MAX_RECORD_BYTES
    assert event_of(draft) == made


FORGED = [
    {}, {"/ip_address": []}, {"/actor_id": ["salt", "x"]}, {"/details/none": ["salt", "x"]}, {"/details": ["salt", 1]},
    {"/ip_address": ["salt", 1.5]}, {"/ip_address": ["A" * 42 + "=", "x"]}, {"ip_address": ["salt", "x"]},
    {"/details/email/0": ["salt", "x"]}, {"": ["salt", "x"]}, {"/ip_address/x": ["salt", "x"]}, [], "x", None,
    {f"/details/{n}": ["salt", "x"] for n in range(65)}, {"/ip_address": ["salt", "\ud800"]},
]  # fmt: skip


@pytest.mark.parametrize("aside", FORGED)
def test_what_somebody_else_puts_beside_a_record_is_no_event(aside):
    waiting = json.loads(to_json(event({"email": "x"})))
    text = json.dumps({**waiting, "aside": aside}).replace('"salt"', json.dumps("A" * 43 + "="))
    with pytest.raises(ValueError, match=r".+"):
        parse_draft(text)
    with pytest.raises(ValueError, match="commitments"):
        parse_draft(json.dumps({**waiting, "private": '{"/ip_address":"x"}'}))


def test_orm_changes_are_kept_apart_like_all_others():
    change = updated("patient", [7], {"email": "a@secret.example", "ward": 1}, {"email": None, "ward": 2})
    (text,) = events_as_json([change], {"database": "x"}, context=WHO, source=None, redactor=APART)
    made = read_waiting(text)
    assert "secret" not in json.dumps({k: v for k, v in json.loads(text).items() if k != "aside"})
    assert made.details["changes"]["email"] == {"old": "a@secret.example", "new": None}
    assert set(made.salts) == {"/ip_address", "/user_agent", *(f"/details/changes/{name}" for name in (
        "email/old", "ward/old", "ward/new"))}  # fmt: skip


def test_triggers_are_told_nothing_that_they_could_not_keep_apart():
    assert "192.0.2.7" in context_text(WHO)
    assert "192.0.2.7" not in context_text(WHO, erasable=True)
    assert "Agent" not in context_text(WHO, erasable=True)


def test_a_trail_that_is_not_erasable_writes_as_before():
    plain = Redactor({"patient.ward": "private"}, b"k" * 32)
    made = event(redactor=plain)
    assert not made.salts
    assert "aside" not in json.loads(to_json(made))
    assert made.details["changes"]["ward"] == {"old": "[redacted]", "new": "[redacted]"}
    assert made.details["changes"]["email"]["old"] == "old@secret.example"


def test_settings_that_cannot_work_are_refused_in_one_sentence(state):
    url = f"sqlite:///{state}/a.db"
    for options, sentence in [
        ({"redact": {"ward": "private"}}, "can only be kept apart with erasable=True"),
        ({"redactor": Redactor(), "erasable": True}, "Give erasable=True to the redactor, too"),
    ]:
        with pytest.raises(ConfigurationError, match=sentence):
            AuditTrail(url, **options)
    with pytest.raises(ConfigurationError, match="What a bucket has locked cannot be erased"):
        AuditTrail("s3://bucket/audit", outbox=url, erasable=True)


def test_a_class_says_which_of_its_fields_are_private(state):
    @redacted(shoe="private")
    class Cobbler:
        pass

    with AuditTrail(f"sqlite:///{state}/a.db", erasable=True, lifecycle=False) as trail:
        made = trail.event("update", resource=("cobbler", 1), details={"shoe": 43})
    assert set(made.salts) == {"/details/shoe"}
    del Cobbler


# --- A whole trail


@pytest.fixture
def trail(state):
    with AuditTrail(f"sqlite:///{state}/a.db", erasable=True, lifecycle=False) as trail:
        fill(trail)
        yield trail


def fill(trail):
    for number in range(4):
        with trail.actor(f"actor {number % 2}"):
            change = {"email": {"old": None, "new": f"{number}@secret.example"}}
            trail.record("update", resource=("patient", number // 2), details={"changes": change})
    trail.flush()


def run(capsys, *words):
    capsys.readouterr()
    code = main([*map(str, words)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def test_after_an_erasure_no_command_and_no_report_shows_what_was_there(trail, state, capsys):
    url, certificate = f"sqlite:///{state}/a.db", state / "certificate.json"
    code, out, err = run(
        capsys, "erase", "--url", url, "--resource", "patient:0", *BASIS, "--out", certificate, "--vacuum"
    )
    assert (code, "2 values of 2 events erased" in out) == (0, True), out + err
    everything = []
    for words in (["events", "--format", "json"], ["events", "--format", "csv"], ["events"], ["show", "1"],
                  ["report", "access", "patient", "--format", "json"], ["prove", "1"], ["prove", "2"]):  # fmt: skip
        code, out, err = run(capsys, *words, "--url", url)
        assert code == 0
        everything += [out, err]
    report = AuditReporter(trail).access_report("patient")
    with (state / "report.csv").open("w") as file:
        write_csv(report, file)
    everything += [(state / "report.csv").read_text(), certificate.read_text()]
    assert not any("0@secret" in text or "1@secret" in text for text in everything)
    assert "2@secret.example" in (state / "report.csv").read_text()
    assert "[erased]" in everything[0]
    assert not any(b"1@secret" in path.read_bytes() for path in state.rglob("*") if path.is_file())
    code, out, err = run(capsys, "verify", "--url", url, "--json")
    assert json.loads(out)["findings"] == []
    assert "Personal values were erased by 1 statement of the trail" in run(capsys, "verify", "--url", url)[1]


def test_nothing_is_erased_without_a_reason_or_a_place_for_the_certificate_and_a_misspelt_name_is_told(
    trail, state, capsys
):
    words = ["erase", "--url", f"sqlite:///{state}/a.db", "--resource"]
    out = ["--out", state / "certificate.json"]
    for basis, by in (("", "officer"), ("Art. 17", " ")):
        code, _, err = run(capsys, *words, "patient:0", "--basis", basis, "--approved-by", by, *out)
        assert (code, "say on which basis, and who has approved it" in err) == (2, True)
    code, _, err = run(capsys, *words, "patient:0", *BASIS, "--out", state / "nowhere" / "certificate.json")
    assert (code, "There is no folder" in err) == (2, True)
    code, _, err = run(capsys, *words, "patient:00", *BASIS, "--actor", "ACTOR 1", *out)
    told = [
        f"No event is about {name}: is it misspelt?" in err for name in ("the actor ACTOR 1", "the resource patient:00")
    ]
    assert (code, told) == (0, [True, True])
    assert list(trail.events(action="trail.erased")) == []
    assert "0@secret.example" in repr(list(trail.events(resource="patient:0")))


def test_what_is_erased_while_somebody_reads_is_not_called_missing(trail):
    reading = trail.events(resource="patient:0", newest_first=False)
    assert "0@secret.example" in str(next(reading).details)
    trail.erase(resources="patient:0", basis="Art. 17", approved_by="officer")
    assert "[erased]" in str(next(reading).details)


def test_the_certificate_lists_what_was_erased_and_proves_that_the_trail_says_so(trail, state, capsys):
    url, file = f"sqlite:///{state}/a.db", state / "certificate.json"
    assert (
        run(capsys, "erase", "--url", url, "--resource", "patient:0", "--actor", "actor 1", *BASIS, "--out", file)[0]
        == 0
    )
    found = json.loads(file.read_text())
    assert (found["certificate"], found["origin"], found["values"]) == ("audit-core erasure v1", trail.chain.origin, 2)
    assert (found["erased"], found["basis"], found["approved_by"]) == (
        {"/details": [[1, 2]]},
        "GDPR Art. 17",
        "officer",
    )
    (state / "key").write_text(str(trail.chain.key))
    for statement in found["statements"]:
        (state / "proof.json").write_text(json.dumps(statement))
        code, out, _ = run(capsys, "check-proof", state / "proof.json", "--key", state / "key")
        assert (code, '"erased"' in out) == (0, True)
    code, _, err = run(capsys, "erase", "--url", url, "--resource", "patient:0", *BASIS, "--out", file)
    assert (code, "is there already" in err) == (2, True)
    code, out, _ = run(capsys, "erase", "--url", url, "--resource", "patient:0", *BASIS, "--out", state / "second")
    assert (code, "it was erased before, by event 5, and nothing was erased now" in out) == (0, True), out
    assert "given now are not recorded" in out
    again = json.loads((state / "second").read_text())
    assert (again["values"], again["erased"], again["basis"]) == (0, found["erased"], found["basis"])
    assert [one["index"] for one in again["statements"]] == [one["index"] for one in found["statements"]]
    code, out, _ = run(capsys, "erase", "--url", url, "--resource", "patient:9", *BASIS, "--out", state / "third")
    assert (code, "nothing was erased, and no event says so" in out, (state / "third").exists()) == (0, True, False)


def wait_until_alone(url):
    """A busy server takes its time to see that somebody has died, whose locks are there until then."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        assert wait_until(lambda: connection.execute(query).fetchone() == (0,), 30)


DYING = """
import os, signal, sys
from audit_core.chain import AuditChain, erasing
from audit_core.cli import erasing as command, main

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, count=1):
    called, calls = getattr(owner, name), []
    def call(*args, **more):
        result = called(*args, **more)
        calls.append(1)
        if len(calls) == count:
            die()
        return result
    setattr(owner, name, call)

erasing.RANGES_AT_ONCE = 1
{
    "nothing is stated": lambda: setattr(AuditChain, "state", die),
    "it is half stated": lambda: after(AuditChain, "state"),
    "it is stated": lambda: setattr(erasing, "_remove", die),
    "the values are removed": lambda: after(erasing, "_remove"),
    "it is committed": lambda: setattr(command, "write_document", die),
}[sys.argv[1]]()
main(sys.argv[2:])
"""
MOMENTS = ["nothing is stated", "it is half stated", "it is stated", "the values are removed", "it is committed"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_an_erasure_that_is_killed_at_any_moment_is_completed_by_the_same_command(kind, state, capsys):
    """One after another on the same trail: what each leaves the next one meets."""
    url = f"sqlite:///{state}/a.db" if kind == "sqlite" else new_database()
    with AuditTrail(url, erasable=True, lifecycle=False) as trail:
        for number in range(4):  # every second is about the patient, so that there are several statements
            trail.record("update", resource=("patient", number % 2), details={"email": f"{number}@secret.example"})
        trail.flush()
    words = ["erase", "--url", url, "--resource", "patient:0", *BASIS, "--out", str(state / "certificate.json")]
    for moment in MOMENTS:
        done = warm.run(["-c", DYING, moment, *words], ("tests.all_commands", "audit_core.stores.sqlite"), cwd=ROOT)
        assert done.returncode == -9, (moment, done.stdout, done.stderr)
        if kind == "postgres":
            wait_until_alone(url)
        with AuditTrail(url, lifecycle=False) as trail:
            found = trail.verify()
            left = sum(1 for value in trail.store.values.values())
        is_done = moment == MOMENTS[-1]
        assert (found.findings, found.erasures, left) == ((), 2 if is_done else 0, 2 if is_done else 4), moment
    code, out, err = run(capsys, *words)
    assert (code, "it was erased before" in out) == (0, True), out + err
    found = json.loads((state / "certificate.json").read_text())
    assert (found["erased"], len(found["statements"])) == ({"/details": [[1, 1], [3, 3]]}, 2)


def test_bundles_from_before_and_after_hold_with_nothing_of_the_values_in_them(trail, state, capsys):
    url, key = f"sqlite:///{state}/a.db", state / "key"
    key.write_text(str(trail.chain.key))
    for name in ("before", "after"):
        assert run(capsys, "export", "--url", url, "--bundle", state / name, "--resource", "patient:0")[0] == 0
        trail.erase(resources=["patient:0"], basis="b", approved_by="c")
    for name in ("before", "after"):
        assert run(capsys, "check-bundle", state / name, "--key", key)[0] == 0
        with zipfile.ZipFile(state / name) as bundle:
            held = b"".join(map(bundle.read, bundle.namelist()))
            assert b"[private]" in bundle.read("records.jsonl")
        assert b"@secret.example" not in held


def test_a_check_asks_nobody_to_decide_on_what_is_kept_apart():
    fields = {"patient": ["email", "ward"]}
    assert personal(Redactor(), fields) == ["patient.email"]
    assert personal(APART, fields) == []


def test_a_command_of_triggers_tells_what_would_be_kept_apart_as_redacted():
    assert [_by_name(redactor, "email", "text", "patient") for redactor in (Redactor(), APART)] == ["tell", "replace"]


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM audit_private WHERE sequence = 1", "values beside the events removed"),
        ("INSERT INTO audit_private VALUES (2, '/x', '', '')", "values put in beside events"),
    ],
)
def test_the_verdict_says_in_words_what_was_done_to_values(trail, state, capsys, statement, sentence):
    with trail.store.transaction() as connection:
        connection.execute(statement)
    code, out, _ = run(capsys, "verify", "--url", f"sqlite:///{state}/a.db")
    assert (code, f"This trail is not what was recorded: {sentence}." in out) == (1, True), out
    assert "secret" not in out


def test_an_address_that_was_erased_is_nobodys_in_the_report_on_failures(state):
    with AuditTrail(f"sqlite:///{state}/a.db", erasable=True, lifecycle=False) as trail:
        for number in range(4):
            event = trail.event("GET /x", outcome="denied", context=AuditContext(ip_address=f"192.0.2.{number % 2}"))
            trail._submit(event).result()
        trail.flush()
        rows = list(AuditReporter(trail).failed_access_report(min_failures=2))
        assert [(row.by, row.who, row.failures) for row in rows] == [
            ("address", "192.0.2.0", 2), ("address", "192.0.2.1", 2)
        ]  # fmt: skip
        with trail.store.transaction() as connection:
            connection.execute("DELETE FROM audit_private")
        assert list(AuditReporter(trail).failed_access_report(min_failures=2)) == []


@pytest.mark.parametrize("count", [0, 1, 5, 1100])
def test_what_came_before_an_archive_that_cannot_be_had_is_read_and_no_more_is_asked_for_than_is_wanted(
    count, tmp_path
):
    asked = []

    def stored():
        for number in range(count):
            asked.append(number)
            yield replace(event(), sequence=number, private="{}" if number % 3 else "")
        raise StoreUnavailableError("an archive")

    with AuditTrail(f"sqlite:///{tmp_path / 'clinic.db'}", erasable=True, lifecycle=False) as trail:
        reading = fill_in(stored(), trail.store)
        for number in range(count):
            assert next(reading).sequence == number
            assert len(asked) <= 2 * number + 2
        with pytest.raises(StoreUnavailableError):
            next(reading)


def test_nothing_is_shown_twice_where_what_was_erased_cannot_be_read_any_more(trail, monkeypatch):
    stored = [one for one in map(from_row, trail.store.select(EventQuery(newest_first=False))) if one.private][:3]
    with trail.store.transaction() as connection:
        connection.execute("DELETE FROM audit_private WHERE sequence = ?", (stored[2].sequence,))
    answers = iter([read_keyring(trail.store)])

    def read(_):
        if (answer := next(answers, None)) is None:
            raise StoreUnavailableError("the disk")
        return answer

    monkeypatch.setattr("audit_core.chain.values.read_keyring", read)
    shown = []
    with pytest.raises(StoreUnavailableError, match="the disk"):
        shown.extend(fill_in(iter(stored), trail.store))
    assert [one.sequence for one in shown] == [one.sequence for one in stored[:2]]


def test_a_trail_from_before_has_no_table_until_it_is_erasable(state):
    path = state / "a.db"
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
        trail.record("a.b", details={"email": "stays@example.com"})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE audit_private")
    with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
        trail.record("a.b", details={"email": "stays@example.com"})
        assert trail.verify().findings == ()
        assert not trail.store.values.is_created()
        with pytest.raises(ConfigurationError, match="keeps no values outside"):
            trail.erase(actor="x", basis="b", approved_by="c")
    with AuditTrail(f"sqlite:///{path}", erasable=True, lifecycle=False) as trail:
        fill(trail)
        assert trail.verify().result is Result.UNANCHORED
        assert [event.details["email"] for event in trail.events(action="a.b")] == ["stays@example.com"] * 2
        assert len(trail.erase(resources=["patient:0"], basis="b", approved_by="c").statements) == 1


def test_an_event_is_changed_by_nobody_who_reads_it():
    made = event()
    to_json(made)
    assert isinstance(made, AuditEvent)
    assert made == event_of(parse_draft(to_json(made)))


# --- PostgreSQL


def test_on_postgresql_who_erases_has_a_role_of_its_own_and_the_trails_key(state, capsys):
    url = new_database()
    with AuditTrail(url, lifecycle=False) as trail:
        trail.record("a.b")
        trail.flush()
        trail.store.database.run("postgres_roles.sql")
    application, sealer, eraser = (as_role(url, f"audit_{name}") for name in ("application", "sealer", "eraser"))
    with AuditTrail(application, erasable=True, create=False, lifecycle=False) as trail:
        for number in range(3):
            details = {"changes": {"email": {"old": None, "new": f"{number}@secret.example"}}}
            trail.submit("update", resource=("patient", number), details=details).result()
    with AuditTrail(sealer, create=False, lifecycle=False) as trail:
        trail.flush()
        assert trail.verify().findings == ()
    for login in (application, sealer):
        with psycopg.connect(login) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM audit.audit_private")
        with psycopg.connect(login) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE audit.audit_private SET value = ''")
    code, _, err = run(capsys, "erase", "--url", sealer, "--resource", "patient:1", *BASIS, "--out", state / "no")
    assert (code, "audit_eraser" in err) == (2, True)
    code, out, err = run(capsys, "erase", "--url", eraser, "--resource", "patient:1", *BASIS, "--out", state / "c")
    assert (code, "1 value of 1 event erased" in out) == (0, True), out + err
    assert "runs VACUUM" in err
    with AuditTrail(url, create=False, lifecycle=False) as trail:
        assert trail.verify().findings == ()
        news = {e.resource_id: e.details["changes"]["email"]["new"] for e in trail.events(action="update")}
    assert news == {"0": "0@secret.example", "1": "[erased]", "2": "2@secret.example"}


def test_what_was_done_to_a_secret_is_erased_by_the_secret(state):
    url, token = f"sqlite:///{state}/clinic.db", "wAtch-me-go-by"
    for rules in ({}, {"api_token": "keep"}):
        with AuditTrail(url, erasable=True, redact=rules, lifecycle=False) as trail:
            trail.record("token.given", resource=("api_token", token), details={"email": "ada@secret.example"})
    with AuditTrail(url, erasable=True, lifecycle=False) as trail:
        assert trail.erase(resources=[("api_token", token)], basis="x", approved_by="y").values == 2
        trail._redactor = Redactor(erasable=True)
        (state / "state" / "hash.key").unlink()
        with pytest.raises(ConfigurationError, match="set AUDIT_HASH_KEY"):
            trail.erase(resources=[("api_token", token)], basis="x", approved_by="y")


def test_a_certificate_of_what_was_erased_before_has_the_reason_of_each_statement_and_not_the_one_given_now(
    state, capsys
):
    url, why = f"sqlite:///{state}/clinic.db", [("a court", "ada"), ("a request", "ben")]
    with AuditTrail(url, erasable=True, lifecycle=False) as trail:
        for basis, approved_by in why:
            trail.record("update", resource=("patient", "7"), details={"email": "ada@secret.example"})
            assert trail.erase(resources=["patient:7"], basis=basis, approved_by=approved_by).reasons == [
                (basis, approved_by)
            ]
    file = state / "certificate.json"
    code, out, _ = run(capsys, "erase", "--url", url, "--resource", "patient:7", *BASIS, "--out", file)
    found = json.loads(file.read_text())
    assert (code, found["basis"], found["approved_by"], "officer" in out) == (0, None, None, False)
    assert [(one["basis"], one["approved_by"]) for one in found["reasons"]] == why
    assert [one["statement"] for one in found["reasons"]] == [one["index"] for one in found["statements"]]
