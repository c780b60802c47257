"""Everything about one person, and nothing about anybody else."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from datetime import timedelta
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from rich.console import Console

from audit_core.reports import AuditReporter, write_csv, write_json, write_page, write_table
from audit_core.reports.page import ROWS
from tests.evidence.browser import DEMANDED, find, running
from tests.reports.trails import NOON, about, event, seal, started

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202egpj\u2028&amp;\"'$title"
OTHER = "thirdperson"  # stands wherever something of somebody else stands
CHANGES = {"changes": {"phone": {"old": "0100", "new": "0199"}}}


@pytest.fixture
def reporter(trail):
    return AuditReporter(trail)


@pytest.fixture
def ask(reporter):
    """The report about a person who is the actor u7, patient 7 and user 7."""
    return lambda **more: reporter.subject_report(
        **{"actors": ["u7"], "resources": ["patient:7", ("user", 7)]} | more
    )  # fmt: skip


def as_table(report, stream):
    write_table(report, Console(file=stream, width=400, color_system=None))


def written(report, write):
    stream = io.StringIO()
    write(report, stream)
    return stream.getvalue()


class Elements(HTMLParser):
    """The elements of a page, and the text that a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.names, self.attributes, self.text = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


class TestWhoItIs:
    def test_one_text_is_one_name_and_its_letters_are_nobody(self, trail, reporter):
        secret = {"resource_type": "ord", "resource_id": OTHER, "details": {"not": OTHER}}
        seal(trail, [event(number, actor_id=actor, **secret) for number, actor in enumerate(("42", "4", "2"))])
        rows = list(reporter.subject_report(actors="42", open_types="order", open_details="note"))
        assert ([row.who for row in rows], OTHER in repr(rows)) == (["42"], False)
        seal(trail, [about("7", 9)])
        assert next(iter(reporter.subject_report(resources="patient:7"))).resource_id == "7"

    def test_every_name_of_the_person_is_looked_for_and_each_event_stands_once_by_time(self, trail, ask):
        mine = [
            event(4, actor_id="u7", resource_type="patient", resource_id="7"),
            about("7", 1),
            event(2, "user.login", actor_id="u7", resource_type="user", resource_id="7"),
            event(3, "order.create", actor_id="support", on_behalf_of="u7"),
        ]
        others = [about("8", 5), event(6, actor_id="u8"), event(7, actor_id="support", on_behalf_of="u8"), event(8)]
        seal(trail, [*mine, *others])
        rows = list(ask(end=NOON + timedelta(hours=1)))
        assert [(row.timestamp.second, row.relation) for row in rows] == [
            (1, "about"), (2, "both"), (3, "by"), (4, "both")
        ]  # fmt: skip
        assert [(row.is_self, row.in_their_name) for row in rows] == [
            (False, False), (True, False), (False, True), (True, False)
        ]  # fmt: skip

    def test_a_resource_of_the_same_id_and_another_type_is_somebody_else(self, trail, ask):
        seal(
            trail, [event(0, resource_type="doctor", resource_id="7"), event(1, resource_type="user", resource_id="8")]
        )
        assert list(ask(end=NOON + timedelta(hours=1))) == []

    def test_the_same_ids_of_another_tenant_are_another_person(self, trail, ask):
        for tenant in ("north", "south"):
            seal(trail, [about("7", tenant_id=tenant), event(0, actor_id="u7", tenant_id=tenant, action=tenant)])
        assert [row.action for row in ask(tenant="south")] == ["GET /patients/{id}", "south"]

    def test_the_start_is_included_and_the_end_is_not(self, trail, ask):
        seal(trail, [about("7", second) for second in range(5)])
        rows = ask(start=NOON + timedelta(seconds=1), end=NOON + timedelta(seconds=3))
        assert [row.timestamp.second for row in rows] == [1, 2]

    @pytest.mark.parametrize("names", [
        {}, {"resources": ["patient"]}, {"resources": [":7"]}, {"resources": [("patient", None)]},
    ])  # fmt: skip
    def test_a_report_about_nobody_or_about_all_of_a_type_is_refused(self, reporter, names):
        with pytest.raises(ValueError, match=r"patient:7|Who is it"):
            reporter.subject_report(**names)

    def test_a_name_that_no_event_has_is_said(self, trail, reporter):
        seal(trail, [about("7"), event(0, actor_id="u7")])
        report = reporter.subject_report(actors=["u7", "u77"], resources=["patient:7", "pateint:7"])
        list(report)
        first, second, *rest = report.limits
        assert "the name actor u77" in first
        assert "the name pateint:7" in second
        assert not any("No event of the interval" in line for line in rest)
        assert report.coverage.unknown == "pateint"

    def test_what_still_waits_to_be_sealed_is_there_too(self, trail, ask, monkeypatch):
        waiting = about("7", 1)
        seal(trail, [about("7", 0), about("7", 2)])
        monkeypatch.setattr(trail._history, "waiting", lambda: iter([waiting]))
        rows = list(ask(end=NOON + timedelta(hours=1)))
        assert [row.sequence for row in rows] == [1, None, 2]


class TestReadingsOfTheTrail:
    def test_whoever_read_a_report_about_the_person_is_in_it(self, trail, reporter, ask):
        seal(trail, [about("7")])
        for resource in ((("patient", "7")), ("patient", None), ("patient", "8"), ("room", None)):
            list(reporter.access_report(*resource))
        list(reporter.privileged_action_report())
        list(ask())
        rows = [row for row in ask() if row.action == "trail.read"]
        assert len(rows) == 4  # about patient 7, about all patients, and the two about the person

    def test_this_reading_says_about_whom_it_was(self, trail, ask):
        seal(trail, [about("7")])
        list(ask(tenant="north"))
        (read,) = trail.events(action="trail.read")
        assert read.details | {"since": None} == {
            "report": "subject", "actors": ["u7"], "resources": ["patient:7", "user:7"], "tenant": "north",
            "since": None, "until": None,
        }  # fmt: skip

    @pytest.mark.parametrize("details", [
        {"resource": {"a": 1}}, {"resources": "patient:7"}, {"resources": [["patient:7"], None]}, {"resource": ["x"]},
    ])  # fmt: skip
    def test_nonsense_in_the_event_of_a_reading_is_no_error(self, trail, ask, details):
        seal(trail, [event(0, "trail.read", details=details)])
        assert list(ask(end=NOON + timedelta(hours=1))) == []


FORMATS = [write_csv, write_json, as_table, write_page]


class TestWhatIsOfOthers:
    @pytest.mark.parametrize("write", FORMATS)
    @pytest.mark.parametrize("fields", [
        {"details": {"query": f"q={OTHER}", "path": f"/patients/7?next={OTHER}"}},
        {"details": {OTHER: 1}},
        {"details": {"changes": OTHER}},
        {"ip_address": OTHER, "user_agent": OTHER},
        {"on_behalf_of": OTHER},
        {"session_id": OTHER, "request_id": OTHER, "tenant_id": OTHER, "source": OTHER},
        {"actor_id": "u7", "resource_id": OTHER},
        {"actor_id": "u7", "resource_id": "8", "details": {"changes": {"name": {"old": OTHER, "new": OTHER}}}},
        {"actor_id": "u7", "resource_id": "8", "details": {"changes": {OTHER: {"old": None, "new": 1}}}},
        {"actor_id": "u7", "on_behalf_of": OTHER},
        {"actor_id": "support", "on_behalf_of": "u7", "ip_address": OTHER, "user_agent": OTHER, "resource_id": OTHER},
    ])  # fmt: skip
    def test_no_form_of_the_report_shows_it(self, trail, ask, fields, write):
        seal(trail, [about("7", **fields)])
        report = ask()
        assert OTHER not in written(report, write)
        assert report.rows == 2  # and this reading

    def test_that_something_is_withheld_is_said_in_words_that_are_ours(self, trail, ask):
        seal(trail, [about("7", on_behalf_of=OTHER, ip_address="192.0.2.1", details={OTHER: 1}), about("7", 1)])
        first, second, _ = ask()
        assert (first.withheld, second.withheld) == ("on behalf of, address and browser, details", "")

    def test_what_is_theirs_is_shown_in_full(self, trail, ask):
        seal(trail, [
            about("7", action="update", details=CHANGES),
            event(1, "user.login", actor_id="u7", ip_address="198.51.100.7", user_agent="Browser"),
        ])  # fmt: skip
        changed, login, _ = ask()
        assert (changed.who, changed.resource_id, changed.changes) == ("amina", "7", CHANGES["changes"])
        assert (login.ip_address, login.user_agent, login.withheld) == ("198.51.100.7", "Browser", "")

    def test_types_and_details_without_others_are_opened_by_name(self, trail, ask):
        seal(trail, [
            event(0, "update", actor_id="u7", resource_type="order", resource_id="5", details=CHANGES),
            about("7", 1, details={"reason": "asked by phone", "note": OTHER}),
        ])  # fmt: skip
        order, read, _ = ask(open_types=["order"], open_details=["reason"])
        assert (order.resource_id, order.changes, order.withheld) == ("5", CHANGES["changes"], "")
        assert (read.details, read.withheld) == ({"reason": "asked by phone"}, "details")

    @pytest.mark.parametrize("write", FORMATS)
    def test_names_that_are_hidden_are_numbers_that_tell_people_apart(self, trail, ask, write):
        who = ["dr.okafor", "amina", "dr.okafor", "u7"]
        seal(trail, [about("7", n, actor_id=name) for n, name in enumerate(who)])
        assert [row.who for row in ask(hide_names=True)][:4] == ["person 1", "person 2", "person 1", "u7"]
        text = written(ask(hide_names=True), write)
        assert "okafor" not in text
        assert "amina" not in text
        assert "person 2" in text


class TestThePage:
    @pytest.fixture
    def page(self, trail, ask):
        changes = {"changes": {HOSTILE: {"old": HOSTILE, "new": {HOSTILE: [HOSTILE]}}}}
        seal(trail, [
            started(), about("7", 1, actor_id=HOSTILE, action=HOSTILE),
            about("7", 2, action="update", details={**changes, HOSTILE: HOSTILE}),
            event(3, HOSTILE, actor_id="u7", ip_address=HOSTILE, user_agent=HOSTILE, resource_type=HOSTILE),
        ])  # fmt: skip
        names = {"actors": ["u7", HOSTILE, ROWS], "open_details": [HOSTILE], "open_types": [HOSTILE]}
        return written(ask(**names), write_page)

    def test_hostile_values_are_text_and_nothing_else(self, page):
        found = Elements(page)
        assert not found.names & {"script", "img", "iframe", "link", "object", "svg", "form"}
        assert not {name for name in found.attributes if name.startswith("on")}
        assert found.attributes <= {
            "lang",
            "charset",
            "http-equiv",
            "content",
            "name",
            "href",
            "id",
            "class",
            "colspan",
        }
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", page)
        assert "alert(1)" in "".join(found.text)
        assert ROWS in "".join(found.text)
        assert page.count("</html>") == page.count("</style>") == 1

    def test_its_policy_allows_its_own_style_and_nothing_else(self, page):
        (style,) = re.findall(r"<style>(.*)</style>", page, re.DOTALL)
        digest = base64.b64encode(sha256(style.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        assert f'content="{policy}"' in page
        assert "url(" not in style
        assert "@import" not in style
        assert all(link.startswith("#") for link in re.findall('href="([^"]*)"', page))

    @pytest.mark.skipif(find("chromium") is None and "chromium" not in DEMANDED, reason="no chromium on this machine")
    def test_a_browser_shows_it_and_runs_and_fetches_nothing(self, page, tmp_path):
        (tmp_path / "page.html").write_text(page, encoding="utf-8")
        with running("chromium", tmp_path) as browser:
            browser.go((tmp_path / "page.html").as_uri())
            browser.wait("document.readyState === 'complete' && location.protocol === 'file:'", "the page")
            assert browser.value("document.title") == "Your data in the audit trail"
            assert browser.value("document.querySelectorAll('script, img, iframe, link').length") == 0
            assert browser.value("performance.getEntriesByType('resource').length") == 0
            assert browser.value("getComputedStyle(document.body).margin") == "0px"  # its policy lets its style in
            for width in (390, 1280):
                browser.look(width=width)
                assert browser.value("document.documentElement.scrollWidth") <= width
            assert "alert(1)" in browser.whole

    def test_it_is_told_apart_who_looked_what_was_changed_and_what_they_did(self, trail, ask):
        seal(trail, [
            about("7", 0, actor_id="looker"),
            about("7", 1, action="update", actor_id="changer", details=CHANGES),
            event(2, "POST /login", actor_id="u7", outcome="denied"),
        ])  # fmt: skip
        page = written(ask(end=NOON + timedelta(hours=1)), write_page)
        looked, changed, done = (
            re.search(f'<section id="{name}">.*?</section>', page, re.DOTALL)[0]
            for name in ("looked", "changed", "done")
        )
        assert "looker" in looked
        assert "looked at" in looked
        assert all(part in changed for part in ("changer", "phone", "0100", "0199"))
        assert "It was refused." in done
        assert "changer" not in looked + done
        assert page.count(": 1 event<") == 3

    def test_it_says_what_it_cannot_know_and_where_it_falls_short(self, trail, ask):
        seal(trail, [about("7")])
        text = "".join(Elements(written(ask(), write_page)).text)
        assert "by another name" in text
        assert "whether reads of 'patient' were audited is not known" in text
        assert "whether reads of 'user' were audited is not known" in text


def test_every_other_form_says_its_limits_too(trail, ask):
    seal(trail, [about("7", details=CHANGES)])
    document = json.loads(written(ask(), write_json))
    assert document["rows"][0]["changes"] == CHANGES["changes"]
    assert any("by another name" in limit for limit in document["limits"])
    assert document["statements"][0]["control"] == "GDPR Art. 15"
    assert "by another name" in written(ask(), as_table)
    row = next(csv.DictReader(io.StringIO(written(ask(), write_csv))))
    assert json.loads(row["changes"]) == CHANGES["changes"]
