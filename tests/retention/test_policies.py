"""How long events are kept, by action, type of resource and tag: one event holds its whole month back, and is named."""

from datetime import UTC, datetime

import pytest

from audit_core.archives.places import open_place
from audit_core.canonical import RECORD_COLUMNS, encode
from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Result
from audit_core.normalise import DETAILS_BUDGET, clean_details, fit
from audit_core.retention.archiving import Archiver
from audit_core.retention.policies import Retention, Stays, months_ago
from audit_core.retention.purging import Purger
from audit_core.testing import make_event
from tests.retention.scenes import KINDS, archive, checkpoint, make_year, opened, place_of, put, run, url_of, verify

LONG = "x" * 5_200_000  # after it comes no other value: it counts as 20,000
NOW = datetime(2026, 3, 15, tzinfo=UTC)


@pytest.fixture
def year(request, tmp_path, state):
    """Its third month has a payment, its fifth an invoice; the others are of patients."""
    kind = getattr(request, "param", "sqlite")
    url, place = url_of(kind, tmp_path), place_of(kind, tmp_path)
    with opened(url) as trail:
        march, may = (datetime(2025, month, 4, tzinfo=UTC) for month in (3, 5))
        put(trail, [
            make_event(timestamp=march, action="payment.make", resource_type="payment", details={"tags": ["cards"]}),
            make_event(timestamp=may, action="invoice.approve", resource_type="invoice", details={"tags": "cards"}),
        ])  # fmt: skip
    make_year(url)
    return url, place


def purge(url, policies, now=NOW):
    with opened(url) as trail:
        found = list(Purger(trail.chain, trail.event, Retention.parse(policies, now)).run("over"))
    return [str(one) if isinstance(one, Stays) else one[0].month for one in found]


def archived(url, place, policies, before="2026-03"):
    with opened(url) as trail:
        archiver = Archiver(trail.chain, open_place(place), trail.event, Retention.parse(policies, NOW))
        return [str(one) if isinstance(one, Stays) else one.month for one in archiver.run(before)]


@pytest.mark.parametrize("year", KINDS, indirect=True)
def test_an_event_that_has_to_be_kept_longer_keeps_its_month_and_is_named(year):
    url, place = year
    archive(url, place, before="2025-07")
    assert purge(url, "10m,tag:cards=2y,action:invoice.approve=sox,resource:letter=hipaa") == [
        "2025-01", "2025-02", "2025-03 stays: the policy tag:cards=2y keeps event 1", "2025-04",
    ]  # fmt: skip
    assert purge(url, "1m,resource:invoice=7y") == [
        "2025-03", "2025-05 stays: the policy resource:invoice=7y keeps event 2", "2025-06",
    ]  # fmt: skip
    assert purge(url, "1m,action:invoice.approve=sox", datetime(2032, 5, 31, tzinfo=UTC)) == [
        "2025-05 stays: the policy action:invoice.approve=sox keeps event 2",
    ]  # fmt: skip
    assert purge(url, "1m,action:invoice.approve=sox", datetime(2032, 6, 1, tzinfo=UTC)) == ["2025-05"]
    assert verify(url, [checkpoint(url)]).result is Result.OK


@pytest.mark.parametrize(
    ("details", "is_kept"),
    [
        ({"tags": ["cards"], **{f"name{n}": "x" * 900 for n in range(60)}}, True),
        ({"note": LONG, "tags": ["cards"]}, True),
        ({"tags": ["other", LONG, "cards"]}, True),
        ({"tags": ["other"], "note": LONG, "more": 1}, False),
        ({"tags": ["other"]}, False),
        ({"tags": "cards"}, True),
        ({"tags": "other", "note": "cards"}, False),
        ({"cut": {}, "tags": ["other"]}, False),
    ],
)
def test_an_event_that_was_too_long_and_has_lost_its_tags_is_kept_as_if_it_had_each(details, is_kept):
    kept = encode(fit(clean_details(details), DETAILS_BUDGET)).decode()
    row = tuple(kept if name == "details" else "" for name in RECORD_COLUMNS)
    assert Retention.parse("tag:cards=pci", NOW).rules[0].is_about(row) is is_kept


@pytest.mark.parametrize("details", ["x", "", b"\xff", None, 7])
def test_an_event_whose_details_somebody_has_changed_is_not_destroyed_for_that(details):
    row = tuple(details if name == "details" else "" for name in RECORD_COLUMNS)
    assert Retention.parse("tag:cards=pci", NOW).rules[0].is_about(row)


def test_an_event_whose_tags_lie_beside_its_record_is_kept_as_if_it_had_each(tmp_path, state):
    people = {f"guest {n}": {"email": f"{n}@example.com"} for n in range(70)}  # more than are kept one by one
    for number, (rules, details) in enumerate([({}, people), ({"tags": "private"}, {})]):
        with opened(f"sqlite:///{tmp_path / f'{number}.db'}", erasable=True, redact=rules) as trail:
            trail.record("payment.make", details={"tags": ["cards"], **details})
            (row,) = list(trail.store.rows(1))
            assert "cards" not in repr(row)
            assert Retention.parse("tag:cards=pci", NOW).rules[0].is_about(row)


def test_what_no_rule_is_about_is_kept_for_ever(year):
    url, place = year
    archive(url, place, before="2025-04")
    first, second, third = purge(url, "tag:cards=1m,resource:patient=1m")
    assert (first, second) == ("2025-01", "2025-02")
    assert third.startswith("2025-03 stays: no policy says how long event 27 is kept")
    assert purge(url, "tag:cards=1m,resource:patient=1m,11m") == ["2025-03"]


@pytest.mark.parametrize("year", KINDS, indirect=True)
def test_what_has_to_be_at_hand_is_not_archived_yet(year):
    url, place = year
    months = archived(url, place, "hipaa,pci")
    assert months == [
        *(f"2025-{number:02d}" for number in range(1, 12)), "2025-12 stays: the policy pci keeps it",
    ]  # fmt: skip
    with opened(url) as trail:
        put(trail, [make_event(timestamp=datetime(2025, 10, 2, tzinfo=UTC), action="login")])
        late = trail.store.extent().events - 1
    assert archived(url, place, "hipaa,action:login=2y/6m", before="2025-11") == [
        f"2025-10 stays: the policy action:login=2y/6m keeps event {late}"
    ]
    assert archived(url, place, "hipaa,action:login=2y/4m", before="2025-11") == ["2025-10"]
    assert verify(url, [checkpoint(url)]).result is Result.OK


def test_the_commands_take_the_policies_from_one_place_and_say_what_stays(year, monkeypatch, capsys):
    url, place = year
    monkeypatch.setenv("AUDIT_RETENTION", "tag:cards=200y/200y,1m")
    code, out, err = run(capsys, "archive", "--before", "2025-04-01", "--to", place, "--url", url)
    assert (code, "2025-02" in out, "2025-03 stays: the policy tag:cards=200y/200y keeps event 1 at hand." in err) == (
        0, True, True,
    )  # fmt: skip
    archive(url, place)
    code, out, err = run(capsys, "purge", "--reason", "over", "--url", url)
    assert (code, "2025-02" in out, "2025-03 stays: the policy tag:cards=200y/200y keeps event 1." in err) == (
        0, True, True,
    )  # fmt: skip
    monkeypatch.delenv("AUDIT_RETENTION")
    code, _, err = run(capsys, "purge", "--reason", "over", "--url", url)
    assert (code, "Say it with --keep, or AUDIT_RETENTION" in err) == (2, True)


def test_a_policy_that_is_about_no_event_is_named_before_anything_is_destroyed(year, capsys):
    url, place = year
    archive(url, place, before="2025-04")
    words = ("purge", "--reason", "over", "--url", url, "--keep")
    policies = "hipaa,resource:paitent=sox,resource:patient=sox,action:login=1y,tag:card=pci,action:invoice.approve=1y"
    _, _, err = run(capsys, *words, policies)
    for name in ("resource:paitent=sox", "action:login=1y", "tag:card=pci"):
        assert f"The policy {name} is about no event that is still in the trail: is it misspelt?" in err
    assert err.count("misspelt") == 3


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ("hipaa", [("", "", 72, 0)]),
        ("pci, SOX", [("", "", 12, 3), ("", "", 84, 0)]),
        ("18m,10y,2y/6m", [("", "", 18, 0), ("", "", 120, 0), ("", "", 24, 6)]),
        ("resource:patient=hipaa, tag:a=b=1m", [("resource", "patient", 72, 0), ("tag", "a=b", 1, 0)]),
        ("resource:patient =10y,tag: cards = pci ", [("resource", "patient", 120, 0), ("tag", "cards", 12, 3)]),
        ("action:GET /charts/{id}=pci", [("action", "GET /charts/{id}", 12, 3)]),
    ],
)
def test_policies_are_read(policies, expected):
    rules = Retention.parse(policies, NOW).rules
    assert [(rule.kind, rule.name, rule.keep, rule.at_hand) for rule in rules] == expected


@pytest.mark.parametrize(
    "policies", ["", "0m", "y", "12", "1w", "hipaa,", "-1y", "1y/", "user:7=1y", "tag:=1y", "tag: =1y", "=1y"]
)
def test_what_is_no_policy_is_refused(policies):
    with pytest.raises(ConfigurationError, match="A retention is hipaa, pci, sox"):
        Retention.parse(policies, NOW)


def test_months_are_counted_back_over_years():
    found = [months_ago("2026-03", n) for n in (0, 2, 3, 13, 72)]
    assert found == ["2026-03", "2026-01", "2025-12", "2025-02", "2020-03"]


@pytest.mark.parametrize("policies", ["12m/24m", "hipaa,tag:cards=1y/13m"])
def test_longer_at_hand_than_kept_is_refused(policies):
    with pytest.raises(ConfigurationError, match=r"turn '.*' around"):
        Retention.parse(policies, NOW)
