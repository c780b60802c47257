"""What the reports say, against trails made by hand."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from audit_core import AuditPolicy, AuditTrail, Redactor
from audit_core.cli import main
from audit_core.errors import ConfigurationError, IntegrityError
from audit_core.history import History
from audit_core.query import EventQuery
from audit_core.reports import AuditReporter, EventRow
from audit_core.requests.checks import checked_trail
from tests.reports.trails import (
    NOON,
    OURS,
    about,
    as_nobody,
    event,
    let_everybody_in,
    make_trail,
    seal,
    started,
    tamper,
)

HOUR = timedelta(hours=1)


@pytest.fixture
def reporter(trail):
    return AuditReporter(trail)


class TestWhoLookedAtOrChangedAResource:
    def test_every_event_of_the_resource_and_no_other_oldest_first(self, trail, reporter):
        first, _, _, last = seal(trail, [
            about("42", 1), about("43", 2), event(3), about("42", 0, action="update", actor_id="eve")
        ])  # fmt: skip
        assert [row.event_id for row in reporter.access_report("patient", "42")] == [last.event_id, first.event_id]

    def test_a_row_has_the_fields_of_its_event(self, trail, reporter):
        changes = {"changes": {"name": {"old": "A", "new": "B"}}}
        made = about("42", action="update", on_behalf_of="7", ip_address="192.0.2.1", details=changes, outcome="denied")
        seal(trail, [made])
        (row,) = reporter.access_report("patient", 42)
        assert isinstance(row, EventRow)
        assert (row.timestamp, row.actor_id, row.on_behalf_of, row.action) == (NOON, "amina", "7", "update")
        assert (row.resource_type, row.resource_id, row.outcome) == ("patient", "42", "denied")
        assert (row.ip_address, row.details, row.sequence, row.event_id) == ("192.0.2.1", changes, 1, made.event_id)

    def test_the_start_is_included_and_the_end_is_not(self, trail, reporter):
        seal(trail, [about("42", second) for second in (0, 1, 2, 3)])
        rows = reporter.access_report("patient", "42", NOON + timedelta(seconds=1), NOON + timedelta(seconds=3))
        assert [row.timestamp.second for row in rows] == [1, 2]

    def test_a_time_without_a_zone_is_utc(self, trail, reporter):
        seal(trail, [about("42")])
        naive = NOON.replace(tzinfo=None)
        assert len(list(reporter.access_report("patient", "42", naive, naive + HOUR))) == 1
        assert not list(reporter.access_report("patient", "42", naive + HOUR))

    def test_without_an_id_it_is_about_all_of_the_type(self, trail, reporter):
        seal(trail, [about("42"), about("43", 1), about("1", 2, resource_type="invoice")])
        assert [row.resource_id for row in reporter.access_report("patient")] == ["42", "43"]

    def test_an_event_that_waits_is_in_it_and_says_so(self, trail, reporter):
        seal(trail, [about("42")])
        with trail.store.transaction() as connection:
            trail.outboxes[0].put([about("42", 1)], connection)
        with closing(sqlite3.connect(trail.store.database.path)) as holder:
            holder.execute("BEGIN IMMEDIATE")  # nobody can seal it meanwhile
            report = reporter.access_report("patient", "42")
            assert [row.sequence for row in report] == [1, None]
            assert report.coverage.waiting >= 1


class TestAllActionsOfAdministrators:
    def test_administrators_and_nobody_else(self, trail, reporter):
        seal(trail, [event(n, actor_id=kind, actor_type=kind) for n, kind in enumerate(
            ("user", "admin", "service", "system", "anonymous"))])  # fmt: skip
        assert [row.actor_type for row in reporter.privileged_action_report(None, NOON + HOUR)] == ["admin"]

    def test_interactive_use_of_service_and_system_accounts(self, trail, reporter):
        seal(trail, [
            event(0, "import.run", actor_id="nightly", actor_type="service"),
            event(1, "import.run", actor_id="nightly", actor_type="service", on_behalf_of="amina"),
            event(2, "shell.open", actor_type="system", session_id="s1"),
        ])  # fmt: skip
        rows = list(reporter.privileged_action_report(None, NOON + HOUR))
        assert [row.action for row in rows] == ["import.run", "shell.open"]
        assert rows[0].on_behalf_of == "amina"

    def test_commands_and_shells_of_an_account_of_the_operating_system(self, trail, reporter):
        seal(trail, [
            event(0, "delete", actor_id="os:amina", actor_type="system", details={"command": "shell"}),
            event(1, "delete", actor_id="ossip", actor_type="system"),
            event(2, "delete", actor_id="os:amina", actor_type="user"),
        ])  # fmt: skip
        assert [row.sequence for row in reporter.privileged_action_report(None, NOON + HOUR)] == [1]


class TestRepeatedFailures:
    def test_by_actor_and_by_address_with_first_and_last_time(self, trail, reporter):
        made = seal(trail, [
            event(n, actor_id="eve", ip_address="192.0.2.9", outcome="denied" if n % 2 else "failure") for n in range(6)
        ])  # fmt: skip
        rows = list(reporter.failed_access_report(None, None))
        assert [(row.by, row.who) for row in rows] == [("actor", "eve"), ("address", "192.0.2.9")]
        for row in rows:
            assert (row.failures, row.denied, row.failed) == (6, 3, 3)
            assert (row.first, row.last) == (NOON, NOON + timedelta(seconds=5))
            assert (row.last_action, row.last_event_id) == (made[-1].action, made[-1].event_id)
            assert trail.find(row.last_sequence).event_id == row.last_event_id

    def test_fewer_than_asked_for_are_left_out(self, trail, reporter):
        seal(trail, [event(n, actor_id="eve", outcome="denied") for n in range(4)])
        assert not list(reporter.failed_access_report(None, None))
        assert [row.failures for row in reporter.failed_access_report(None, None, min_failures=4)] == [4]

    def test_many_accounts_tried_from_one_address(self, trail, reporter):
        seal(trail, [event(n, "POST /login", ip_address="2001:db8::1", outcome="denied",
                           details={"account": f"guess{n}"}) for n in range(5)])  # fmt: skip
        assert [(row.by, row.who) for row in reporter.failed_access_report(None, None)] == [("address", "2001:db8::1")]

    def test_one_account_tried_from_many_addresses(self, trail, reporter):
        seal(trail, [event(n, "POST /login", ip_address=f"192.0.2.{n}", outcome="denied",
                           details={"account": "amina"}) for n in range(5)])  # fmt: skip
        assert [(row.by, row.who) for row in reporter.failed_access_report(None, None)] == [("account", "amina")]

    def test_most_failures_come_first(self, trail, reporter):
        seal(trail, [event(n, actor_id="eve" if n < 6 else "mallory", outcome="denied") for n in range(20)])
        assert [row.who for row in reporter.failed_access_report(None, None)] == ["mallory", "eve"]

    def test_success_and_the_trails_own_troubles_are_no_failed_access(self, trail, reporter):
        seal(trail, [
            event(0, actor_id="amina"),
            event(1, "trail.gap", actor_type="system", outcome="failure"),
            event(2, "response.broken", actor_id="amina", outcome="failure"),
        ])  # fmt: skip
        assert not list(reporter.failed_access_report(None, None, min_failures=1))

    def test_outside_the_interval_nothing_counts(self, trail, reporter):
        seal(trail, [event(n, actor_id="eve", outcome="denied") for n in range(10)])
        rows = reporter.failed_access_report(NOON + timedelta(seconds=2), NOON + timedelta(seconds=7))
        assert [row.failures for row in rows] == [5]


ASKING = [
    lambda reporter: reporter.access_report("patient", "42"),
    lambda reporter: reporter.privileged_action_report(),
    lambda reporter: reporter.failed_access_report(),
]


class TestReadingIsAnEvent:
    @pytest.mark.parametrize("ask", ASKING)
    def test_it_is_recorded_before_the_first_row(self, trail, reporter, ask):
        seal(trail, [about("42")])
        with trail.actor("auditor"):
            report = ask(reporter)
        (read,) = trail.events(action="trail.read")
        assert (read.actor_id, read.details["report"]) == ("auditor", report.name)
        assert report.coverage.noted

    def test_it_names_the_resource_and_the_interval(self, trail, reporter):
        seal(trail, [about("42")])
        reporter.access_report("patient", "42", NOON, None)
        (read,) = trail.events(action="trail.read")
        assert read.details["resource"] == "patient:42"
        assert (read.details["since"], read.details["until"]) == ("2026-01-31T12:00:00.000000Z", None)

    def test_who_may_not_write_reads_and_is_told_so(self, trail, path):
        seal(trail, [about("42")])
        let_everybody_in(path)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        trail.close()

        def read() -> int:
            report = AuditReporter(make_reader(path)).access_report("patient", "42")
            said = "That the trail was read is not recorded in it: this user cannot write to it."
            told = report.coverage.sentences()[-1] == said and not report.coverage.noted
            return 0 if told and len(list(report)) == 1 else 1

        assert as_nobody(read) == 0
        path.parent.chmod(0o755)

    def test_a_database_that_is_not_there_is_not_made(self, tmp_path):
        missing = tmp_path / "missing.db"
        with pytest.raises(ConfigurationError, match="audit init"):
            AuditReporter(make_reader(missing)).access_report("patient", "42")
        assert not missing.exists()


class TestHowCompleteItIs:
    def test_controls_are_evidenced_with_figures_and_never_called_compliant(self, trail, reporter):
        seal(trail, [started(), about("42"), about("42", 1)])
        report = reporter.access_report("patient", "42")
        list(report)
        assert "PCI DSS 4.0.1 10.2.1.1: evidenced (2 events)" in map(str, report.statements)
        assert any("HIPAA 164.312(b)" in control for control in report.controls)
        said = "\n".join([report.title, *report.coverage.sentences(), *map(str, report.statements)])
        assert "complian" not in said.lower()

    def test_no_event_is_no_evidence(self, trail, reporter):
        seal(trail, [about("42")])
        report = reporter.access_report("patient", "43")
        assert not list(report)
        assert {statement.status for statement in report.statements} == {"not evidenced"}

    def test_a_type_that_the_trail_does_not_know_is_named_and_one_that_is_only_quiet_is_not(self, trail, reporter):
        seal(trail, [about("42")])
        misspelt = reporter.access_report("patinet", "42")
        assert not list(misspelt)
        assert "no event of this trail is about a resource of the type 'patinet'" in str(misspelt.statements[0])
        assert any("'patinet'" in line for line in misspelt.coverage.sentences())
        quiet = reporter.access_report("patient", "43")
        assert "of the type" not in "".join([*quiet.coverage.sentences(), *map(str, quiet.statements)])
        assert reporter.privileged_action_report().coverage.unknown is None

    def test_what_was_lost_in_a_gap_makes_it_partial(self, trail, reporter):
        lost = {"lost": 3, "since": "2026-01-31T12:00:01.000000Z", "until": "2026-01-31T12:00:09.000000Z"}
        seal(trail, [about("42"), event(60, "trail.gap", actor_type="system", outcome="failure", details=lost)])
        begins = {"start": NOON, "end": NOON + timedelta(seconds=5)}
        report = reporter.access_report("patient", "42", **begins)
        list(report)
        assert (report.coverage.lost, report.coverage.gaps) == (3, 1)
        assert {statement.status for statement in report.statements} == {"partly"}
        assert any("3 events" in line for line in report.coverage.sentences())
        assert not reporter.access_report("patient", "42", NOON + HOUR).coverage.lost

    def test_a_gap_of_which_nobody_knows_how_much_was_lost_makes_it_partial_too(self, trail, reporter):
        unknown = {"lost": None, "since": "2026-01-31T12:00:01.000000Z", "until": "2026-01-31T12:00:09.000000Z"}
        known = {**unknown, "lost": 3}
        more = {"actor_type": "system", "outcome": "failure"}
        seal(trail, [about("42"), *(event(60, "trail.gap", details=one, **more) for one in (unknown, known))])
        report = reporter.access_report("patient", "42", NOON, NOON + timedelta(seconds=5))
        list(report)
        assert (report.coverage.lost, report.coverage.gaps, report.coverage.uncounted) == (3, 2, 1)
        (statement, *_) = report.statements
        assert statement.status == "partly"
        assert (
            "3 events of the interval were lost in 1 gap; how much was lost in 1 gap of the interval nobody knows"
            in (statement.figures)
        )
        assert not reporter.access_report("patient", "42", NOON + HOUR).coverage.gaps

    def test_an_interval_from_before_the_trail_is_partial(self, trail, reporter):
        seal(trail, [about("42")])  # log.created bears the time of the clock
        report = reporter.access_report("patient", "42", datetime(2020, 1, 1, tzinfo=UTC))
        list(report)
        assert {statement.status for statement in report.statements} == {"partly"}
        assert any("begins only at" in line for line in report.coverage.sentences())

    def test_a_row_that_is_no_event_is_one_sentence(self, trail, path, reporter):
        seal(trail, [about("42")])
        tamper(path, "UPDATE audit_events SET details = 'no json' WHERE sequence = 1")
        with pytest.raises(IntegrityError, match="audit verify"):
            list(reporter.access_report("patient", "42"))


class TestWhetherReadsWereAudited:
    """PCI DSS 10.2.1.1 is about all individual access, and changes alone are no evidence of that."""

    @pytest.fixture
    def said(self, trail, reporter):
        def ask(*events, start=None):
            seal(trail, [*events, about("42", 5)])
            report = reporter.access_report("patient", "42", start)
            list(report)
            (status,) = {statement.status for statement in report.statements}
            return status, "; ".join(report.coverage.reads)

        return ask

    def test_a_policy_that_audits_them_leaves_nothing_to_say(self, said):
        assert said(started(0), started(1, ["room", "patient"])) == ("evidenced", "")

    def test_a_policy_that_does_not_makes_it_partial(self, said):
        status, why = said(started(reads=[]))
        assert status == "partly"
        assert why == "reads of 'patient' were not audited, except at routes that are marked one by one"

    def test_where_nobody_said_so_it_is_not_known(self, said):
        older = event(0, "trail.started", actor_type="system", details={"host": "h", "pid": 1})
        assert said(older) == ("partly", "whether reads of 'patient' were audited is not known")

    def test_one_process_that_does_not_is_enough_to_doubt(self, said):
        status, why = said(started(0), started(1, []), started(2))
        assert status == "partly"
        assert why.endswith("by 1 of 3 processes that started, the last at 2026-01-31T12:00:01.000000Z")

    def test_before_the_interval_only_the_newest_start_counts(self, said):
        assert said(started(0, []), started(1), started(3), start=NOON + timedelta(seconds=2))[1] == ""

    def test_and_it_counts_although_it_was_before_the_interval(self, said):
        assert "were not audited" in said(started(0), started(1, []), start=NOON + timedelta(seconds=2))[1]

    def test_routes_that_are_audited_one_by_one_are_named(self, said):
        rules = [
            {"route": "/patients/{patient_id}", "action": "chart.read", "resource": None, "methods": ["GET"]},
            {"route": "/chart/{id}", "action": None, "resource": "patient:{id}", "methods": []},
            {"route": "/patients/{patient_id}/move", "action": None, "resource": None, "methods": ["POST"]},
            {"route": "/rooms/{room_id}", "action": None, "resource": None, "methods": []},
        ]
        why = said(started(reads=["/patients/*"], rules=rules))[1]
        assert "only at /patients/*, /patients/{patient_id}, /chart/{id}, and at" in why

    def test_paths_that_were_skipped_are_named(self, said):
        assert said(started(skip=["/health", "/patients/*"])) == (
            "partly", "requests to /patients/* were not audited"
        )  # fmt: skip

    @pytest.mark.parametrize("details", [{"rules": 7}, {"rules": [7, {"route": 7}]}, {"skip": [7, "/patients"]}])
    def test_nonsense_in_it_is_no_error(self, said, details):
        assert said(started(reads=[7, None], **details))[0] == "partly"

    @pytest.mark.parametrize(("reads", "status"), [(["patient"], "evidenced"), ([], "partly")])
    def test_a_trail_says_by_itself_what_its_policy_audits(self, path, reads, status):
        with AuditTrail(f"sqlite:///{path}", signer=OURS, policy=AuditPolicy(reads=reads)) as trail:
            trail.record("chart.read", resource="patient:42")
            report = AuditReporter(trail).access_report("patient", "42")
            list(report)
        assert report.statements[0].status == status

    @pytest.mark.parametrize(("serves", "known"), [(True, True), (False, False)])
    def test_without_a_policy_it_says_so_only_where_it_serves_requests(self, path, serves, known):
        with AuditTrail(f"sqlite:///{path}", signer=OURS) as trail:
            if serves:
                checked_trail(trail)
            trail.record("chart.read", resource="patient:42")
            (why,) = AuditReporter(trail).access_report("patient", "42").coverage.reads
        assert ("is not known" in why) is not known


def test_reading_while_others_write_neither_fails_nor_repeats(trail, path, reporter):
    seal(trail, [about("42", n / 100) for n in range(500)])
    stop = threading.Event()

    def write() -> None:
        with make_trail(path) as other:
            while not stop.is_set():
                other.record("patient.read", resource="patient:42")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            ids = [row.event_id for row in reporter.access_report("patient", "42")]
            assert len(ids) == len(set(ids)) >= 500
    finally:
        stop.set()
        writer.join()


def make_reader(path) -> AuditTrail:
    return AuditTrail(f"sqlite:///{path}", create=False, lifecycle=False)


def test_a_log_in_that_failed_is_one_failure_though_its_request_leaves_an_event_too():
    from audit_core.reports.failures import group_failures
    from audit_core.testing import make_event

    events = [
        make_event(n, action=action, outcome="denied", ip_address="192.0.2.1", request_id=f"request-{n}")
        for n in range(5)
        for action in ("user.login_failed", "POST /login")
    ]
    (group,) = group_failures(iter(events), 5)
    assert group.failures == 5
    assert list(group_failures(iter(events), 6)) == []


def test_an_empty_trail_is_said_to_be_empty_and_not_to_be_out_of_reach(tmp_path):
    with make_trail(tmp_path / "empty.db") as trail:
        report = AuditReporter(trail).access_report("patient")
        assert list(report) == []
    said = report.coverage.sentences()
    assert "Incomplete: the trail is empty, and the first event begins it." in said
    assert not any("signing key" in line or "cannot be read" in line for line in said)
    (statement, *_) = report.statements
    assert statement.status == "not evidenced"


def test_a_trail_without_its_first_record_is_not_said_to_be_empty(tmp_path):
    with make_trail(tmp_path / "trail.db") as trail:
        seal(trail, [about("42")])
        tamper(tmp_path / "trail.db", "DELETE FROM audit_events WHERE sequence = 0")
        report = AuditReporter(trail).access_report("patient")
    assert "Incomplete: when the trail begins cannot be read." in report.coverage.sentences()


class TestIdsThatAreSecrets:
    SECRET = "wAtch-me-go-by"

    @pytest.fixture
    def own(self, tmp_path, state):
        """A trail whose process has its keys in the state directory, as a command has that the same user runs."""
        return lambda **rules: AuditTrail(f"sqlite:///{tmp_path}/own.db", redact=rules, lifecycle=False)

    def asking(self, trail):
        resource = ("api_token", self.SECRET)
        yield list(trail.events(resource=resource))
        yield list(AuditReporter(trail).access_report(*resource))
        yield list(AuditReporter(trail).subject_report(resources=[resource]))
        query = EventQuery(resource_type=resource[0], resource_id=resource[1])
        yield list(AuditReporter(trail).newest_events_report(query, 9))

    def test_what_was_done_to_a_token_is_found_by_the_token_which_no_reading_leaves_in_the_trail(self, own):
        with own() as trail:
            trail.record("token.revoked", resource=("api_token", self.SECRET))
            trail.record("token.revoked", resource=("api_token", "another"))
            for found in self.asking(trail):
                assert [event.action for event in found if event.action != "trail.read"] == ["token.revoked"]
            trail.flush()
            assert len(list(trail.events(action="trail.read"))) == 3
            assert self.SECRET not in repr(list(trail.events()))

    def test_a_rule_that_keeps_it_keeps_it_findable_for_a_command_without_the_rule_too(self, own, tmp_path, capsys):
        with own(api_token="keep") as trail:
            trail.record("token.revoked", resource=("api_token", self.SECRET))
            for found in self.asking(trail):
                assert found
        assert main(["events", "--resource", f"api_token:{self.SECRET}", "--url", f"sqlite:///{tmp_path}/own.db"]) == 0
        assert "token.revoked" in capsys.readouterr().out

    def test_events_from_before_and_after_a_rule_that_keeps_it_are_all_found(self, own):
        for rules in ({}, {"api_token": "keep"}):
            with own(**rules) as trail:
                trail.record("token.revoked", resource=("api_token", self.SECRET))
        for rules in ({}, {"api_token": "keep"}):
            with own(**rules) as trail:
                for found in self.asking(trail):
                    assert [event.action for event in found if event.action != "trail.read"] == ["token.revoked"] * 2

    def test_events_of_which_only_the_type_is_known_are_in_no_report_about_one_token_but_named(self, trail):
        seal(trail, [event(1, resource_type="api_token", resource_id="[redacted]")])
        for rules, said in (({"hash_key": b"k"}, ["nobody can tell"]), ({}, ["set AUDIT_HASH_KEY", "nobody can tell"])):
            trail._redactor = Redactor(**rules)
            access = AuditReporter(trail).access_report("api_token", self.SECRET)
            subject = AuditReporter(trail).subject_report(resources=[("api_token", self.SECRET)])
            assert [row.action for row in (*access, *subject) if row.action != "trail.read"] == []
            for report in (access, subject):
                assert len(report.coverage.unnamed) == len(said)
                assert all(word in one for word, one in zip(said, report.coverage.unnamed, strict=True))

    def test_only_what_is_asked_for_is_read(self, own, monkeypatch):
        with own() as trail:
            asked, select = [], History.select
            monkeypatch.setattr(History, "select", lambda self, query: asked.append(query) or select(self, query))
            assert list(trail.events(resource=("api_token", self.SECRET), since=NOON)) == []
        assert [query.since for query in asked] == [NOON]

    def test_a_command_finds_it_with_the_key_and_makes_none(self, own, tmp_path, state, monkeypatch, capsys):
        said = []

        def rows(*more):
            words = ["events", "--format", "csv", "--resource", f"api_token:{self.SECRET}", "--url"]
            assert main([*words, f"sqlite:///{tmp_path}/own.db", *more]) == 0
            out, err = capsys.readouterr()
            assert self.SECRET not in out + err
            said.append(err)
            return len(out.splitlines()) - 1

        with own() as trail:
            trail.record("token.revoked", resource=("api_token", self.SECRET))
        assert rows() == 1
        signing_key = (state / "signing.key").read_text()
        monkeypatch.setenv("AUDIT_STATE_DIR", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("AUDIT_KEY", signing_key)
        assert rows() == 0
        assert "set AUDIT_HASH_KEY" in said[-1]
        assert not (tmp_path / "elsewhere").exists()
        with AuditTrail(f"sqlite:///{tmp_path}/own.db", create=False, lifecycle=False) as trail:
            assert self.SECRET not in repr(list(trail.events()))

    def test_a_bundle_is_of_the_one_id_that_events_have_and_of_two_is_none(self, own, tmp_path, capsys):
        def export(name):
            words = ["export", "--resource", f"api_token:{self.SECRET}", "--url", f"sqlite:///{tmp_path}/own.db"]
            code = main([*words, "--bundle", str(tmp_path / name)])
            return code, "".join(capsys.readouterr())

        with own() as trail:
            trail.record("token.revoked", resource=("api_token", self.SECRET))
        code, said = export("one.zip")
        assert (code, "1 event, proven" in said) == (0, True)
        with own(api_token="keep") as trail:
            trail.record("token.revoked", resource=("api_token", self.SECRET))
        code, said = export("two.zip")
        assert (code, "some its hash" in said) == (2, True)
