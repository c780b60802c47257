"""What is held is neither archived nor purged, until it is lifted; both are signed events."""

import json

import pytest

from audit_core.errors import ConfigurationError
from audit_core.integrity.verify import Result
from audit_core.normalise import normalise
from audit_core.retention.archiving import Held
from audit_core.retention.holds import find_hold, lift
from audit_core.testing import make_event
from tests.retention.scenes import archive, checkpoint, make_year, moments, opened, place_of, put, run, url_of, verify


@pytest.fixture
def url(tmp_path, state):
    url = url_of("sqlite", tmp_path)
    make_year(url)
    return url


def add(capsys, url, *words):
    code, out, _ = run(capsys, "hold", "add", *words, "--reason", "case 7", "--url", url)
    assert code == 0
    return int(out.split()[1].rstrip(":"))


def test_a_month_with_something_held_stays_until_that_is_lifted(url, tmp_path, capsys):
    place = place_of("sqlite", tmp_path)
    with opened(url) as trail:
        kind = trail.find(3).resource_type
        put(trail, [make_event(timestamp=moments("2025-03")[0], tenant_id="north", actor_id="held-one")])
    resource, tenant = add(capsys, url, "resource", f"{kind}:2025-01-2"), add(capsys, url, "tenant", "north")
    months = [(type(one), one.month) for one in archive(url, place)]
    assert [month for kind, month in months if kind is Held] == ["2025-01", "2025-03"]
    assert len(months) == 3
    code, _, err = run(capsys, "archive", "--before", "2025-04-01", "--to", place, "--url", url)
    assert (code, f"2025-01 stays: the resource {kind}:2025-01-2 is held (case 7)" in err) == (0, True)
    for number in (resource, tenant):
        assert run(capsys, "hold", "lift", number, "--reason", "closed", "--url", url)[0] == 0
    assert [one.month for one in archive(url, place)] == ["2025-01", "2025-03"]
    assert verify(url, [checkpoint(url)]).result is Result.OK


def test_holds_are_listed_and_one_that_is_not_there_is_not_lifted(url, capsys):
    number = add(capsys, url, "actor", "42")
    assert json.loads(run(capsys, "hold", "list", "--json", "--url", url)[1]) == [
        {"sequence": number, "kind": "actor", "name": "42", "reason": "case 7"}
    ]
    code, _, err = run(capsys, "hold", "lift", number + 1, "--reason", "x", "--url", url)
    assert (code, f"There is no hold {number + 1}" in err) == (2, True)
    run(capsys, "hold", "lift", number, "--reason", "x", "--url", url)
    assert "Nothing is held" in run(capsys, "hold", "list", "--url", url)[2]


def test_a_hold_of_which_no_event_is_says_so_as_it_may_be_misspelt(url, capsys):
    with opened(url) as trail:
        kind = trail.find(3).resource_type
    for name, is_known in (
        (kind, True),
        (f"{kind}:2025-01-2", True),
        (f"{kind}:2025-01-22", False),
        ("Patient", False),
    ):
        code, out, err = run(capsys, "hold", "add", "resource", name, "--reason", "case 7", "--url", url)
        assert (code, out.startswith("Hold "), "is it misspelt?" in err) == (0, True, not is_known), name
    for kind, name in (("resource", ":42"), ("resource", " "), ("actor", "")):
        code, _, err = run(capsys, "hold", "add", kind, name, "--reason", "x", "--url", url)
        assert (code, "patient for all" in err) == (2, True)


def test_a_hold_of_an_actor_keeps_what_was_done_in_his_name(tmp_path, state, capsys):
    url = url_of("sqlite", tmp_path)
    with opened(url, erasable=True) as trail:
        by_another = {"actor_id": "admin", "on_behalf_of": "u7", "resource_type": "patient", "resource_id": "7"}
        put(trail, [make_event(timestamp=moments("2025-01")[0], **by_another)])
        with trail.actor("admin", on_behalf_of="u7"):
            trail.record("patient.update", resource="patient:7", details={"email": "old@secret.example"})
        trail.flush()
        add(capsys, url, "actor", "u7")
        with pytest.raises(ConfigurationError, match="under the legal hold"):
            trail.erase(resources=["patient:7"], basis="Art. 17", approved_by="officer")
    assert [type(one) for one in archive(url, place_of("sqlite", tmp_path))] == [Held]


def test_a_name_that_is_too_long_for_an_event_is_held_as_events_have_it(url, tmp_path, capsys):
    long, month = "n" * 600, "2025-01"
    fields = normalise(action="a.b", tenant_id=long, actor_id=long, resource_type="n", resource_id=long)
    with opened(url) as trail:
        put(trail, [make_event(timestamp=moments(month)[0], **{**fields, "actor_type": "user"})])
    for kind, name in (("tenant", long), ("actor", long), ("resource", f"n:{long}")):
        number = add(capsys, url, kind, name)
        (found,) = archive(url, place_of("sqlite", tmp_path), "2025-02")
        assert (type(found), found.month) == (Held, month), kind
        run(capsys, "hold", "lift", number, "--reason", "x", "--url", url)


def test_whoever_erases_learns_what_is_held(url, capsys):
    for words in (("actor", "42"), ("resource", "patient:7"), ("resource", "invoice"), ("tenant", "north")):
        add(capsys, url, *words)
    with opened(url) as trail:
        for asked, is_held in [
            ({"actor": "42"}, True), ({"actor": "43"}, False), ({"tenant": "north"}, True), ({"tenant": None}, False),
            ({"resource_type": "patient", "resource_id": "7"}, True),
            ({"resource_type": "patient", "resource_id": "8"}, False),
            ({"resource_type": "patient"}, True), ({"resource_type": "invoice", "resource_id": "1"}, True),
            ({"actor": "1", "resource_type": "invoice"}, True), ({}, False),
        ]:  # fmt: skip
            assert (find_hold(trail.chain, **asked) is not None) is is_held, asked


def test_nobody_lifts_a_hold_by_recording_an_event_that_looks_like_it(url, capsys):
    number = add(capsys, url, "actor", "42")
    with opened(url) as trail:
        event = trail.event("hold.lifted", resource=("trail", trail.chain.origin))
        put(trail, [event])
        assert find_hold(trail.chain, actor="42").sequence == number
        with trail.store.transaction() as connection, pytest.raises(ConfigurationError, match="There is no hold 1"):
            lift(trail.chain, 1, "x", event, connection)
    found = verify(url)
    assert (found.findings, {one.kind for one in found.warnings}) == ((), {"statement"})


def test_a_hold_of_a_secret_is_of_what_events_have_of_it_and_says_no_more(url, tmp_path, capsys):
    token = "wAtch-me-go-by"
    said = run(capsys, "hold", "add", "resource", f"api_token:{token}", "--reason", "x", "--url", url)
    assert (said[0], "set AUDIT_HASH_KEY" in said[2]) == (2, True)
    with opened(url) as trail:
        hashed = trail.redactor.identifier(token, "api_token")
        put(trail, [make_event(timestamp=moments("2025-01")[0], resource_type="api_token", resource_id=hashed)])
    add(capsys, url, "resource", f"api_token:{token}")
    assert [(type(one), one.month) for one in archive(url, place_of("sqlite", tmp_path), "2025-02")] == [
        (Held, "2025-01")
    ]
    with opened(url) as trail:
        assert token not in repr(list(trail.events()))
        put(trail, [make_event(timestamp=moments("2025-02")[0], resource_type="api_token", resource_id=token)])
    run(capsys, "hold", "add", "resource", f"api_token:{token}", "--reason", "x", "--url", url)
    with opened(url) as trail:
        assert find_hold(trail.chain, resource_type="api_token", resource_id=token)
    assert [one.month for one in archive(url, place_of("sqlite", tmp_path), "2025-03")] == ["2025-01", "2025-02"]
