"""An event was removed or put in, and those after it were renumbered: which of them were changed, and which not?"""

import json

import pytest

from audit_core import VerifierKey
from audit_core.cli import findings, moved
from audit_core.keys import LocalSigner
from tests.attacks.conftest import OURS
from tests.attacks.test_words import extend
from tests.reports.trails import ORIGIN, tamper

KEY = str(VerifierKey(ORIGIN, LocalSigner(OURS).public_key))
NOT_RECORDED = "This trail is not what was recorded: "


@pytest.fixture
def path(path):
    """33 events under 22 checkpoints."""
    extend(path, OURS)
    return path


@pytest.fixture
def said(audit):
    def run(*more):
        code, out, _ = audit("verify", "--key", KEY, *more)
        assert code == 1
        found = json.loads(audit("verify", "--json", "--key", KEY, *more)[1])
        return out.splitlines(), found["summary"].removeprefix(NOT_RECORDED), found["findings"]

    return run


def move(path, first, by, last=1_000):
    """Give these events another place each; through places that nobody has, as a sequence is there once."""
    tamper(path, f"UPDATE audit_events SET sequence = -1 - sequence WHERE sequence BETWEEN {first} AND {last}",
           f"UPDATE audit_events SET sequence = -1 - sequence + {by} WHERE sequence < 0")  # fmt: skip


def remove(path, sequence, count=1):
    tamper(path, f"DELETE FROM audit_events WHERE sequence BETWEEN {sequence} AND {sequence + count - 1}")
    move(path, sequence + count, -count)


def put_in(path, sequence):
    """A row that says of itself what it wants, before the one that stands there."""
    move(path, sequence, 1)
    tamper(path, "CREATE TABLE new AS SELECT * FROM audit_events WHERE sequence = 2",
           f"UPDATE new SET sequence = {sequence}, event_id = '0198b4a0-0000-7000-8000-000000000000'",
           "INSERT INTO audit_events SELECT * FROM new", "DROP TABLE new")  # fmt: skip


def test_an_event_that_was_removed_before_others_that_were_moved_down_is_the_only_one_removed(said, path):
    remove(path, 20)
    lines, summary, found = said()
    assert summary == "event 20 was removed, and the 12 after it were moved down by one."
    assert "Event 20 was removed, and the 12 after it were moved down by one." in lines
    assert not any("was changed" in line or "missing:" in line or "does not follow" in line for line in lines)
    assert sum(one["kind"] == "edited" for one in found) == 12


def test_an_event_that_was_put_in_is_the_only_one_that_is_new(said, path):
    put_in(path, 30)
    lines, summary, found = said()
    assert summary == "1 event was put in at 30, and the 3 after it were moved up by one."
    assert "1 event was put in at 30, and the 3 after it were moved up by one." in lines
    assert not any("was changed" in line or "no signed checkpoint" in line for line in lines)
    assert {"edited", "unsigned"} <= {one["kind"] for one in found}


@pytest.mark.parametrize("count", [2, 3, 12])
def test_several_that_were_removed_together_are_told_together(said, path, count):
    remove(path, 15, count)
    until = {2: "15 and 16", 3: "15 to 17", 12: "15 to 26"}[count]
    assert said()[1] == f"events {until} were removed, and the {18 - count} after them were moved down by {count}."


def test_two_that_were_removed_apart_from_each_other_are_told_by_the_number_that_they_had(said, path):
    remove(path, 25)
    remove(path, 20)
    assert said()[1] == (
        "event 20 was removed, and the 4 after it were moved down by one, "
        "event 25 was removed, and the 7 after it were moved down by 2."
    )


def test_one_that_was_changed_among_those_that_were_moved_is_said_to_be_changed(said, path):
    remove(path, 20)
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence = 24")
    _, summary, _ = said()
    assert summary == "1 event changed (24), event 20 was removed, and the 12 after it were moved down by one."


def test_one_put_in_and_one_removed_leaves_what_is_outside_alone(said, path):
    tamper(path, "DELETE FROM audit_events WHERE sequence = 25")
    move(path, 20, 1, last=24)
    tamper(path, "CREATE TABLE new AS SELECT * FROM audit_events WHERE sequence = 2",
           "UPDATE new SET sequence = 20, event_id = '0198b4a0-0000-7000-8000-000000000000'",
           "INSERT INTO audit_events SELECT * FROM new", "DROP TABLE new")  # fmt: skip
    _, summary, _ = said()
    assert summary == "1 event was put in at 20, and the 5 after it were moved up by one, 1 event removed (25)."


def test_events_in_a_circle_are_neither_removed_nor_put_in(said, path):
    steps = [(5, 99), (6, 5), (7, 6), (99, 7)]
    tamper(path, *(f"UPDATE audit_events SET sequence = {there} WHERE sequence = {here}" for here, there in steps))
    assert said()[1] == "events 5 and 6 were moved down by one, event 7 was moved up by 2."


def test_the_last_but_one_that_was_removed(said, path):
    remove(path, 31)
    assert said()[1] == "event 31 was removed, and the one after it was moved down by one."


def test_a_copy_of_an_event_that_stands_where_it_was_is_not_said_to_be_moved(said, path):
    tamper(path, "CREATE TABLE new AS SELECT * FROM audit_events WHERE sequence = 5",
           "UPDATE new SET sequence = 7", "DELETE FROM audit_events WHERE sequence = 7",
           "INSERT INTO audit_events SELECT * FROM new", "DROP TABLE new")  # fmt: skip
    assert said()[1].startswith("1 event changed (7), ")


def test_a_long_trail_is_not_read_again_to_its_end(said, path, monkeypatch):
    monkeypatch.setattr(moved, "LOOKED_AT", 5)
    remove(path, 20)
    lines, summary, _ = said()
    assert (
        summary
        == "event 20 was removed, and the 5 after it were moved down by one, 7 events after these not as sealed."
    )
    assert "7 events more after these are not as sealed: none was looked for elsewhere." in lines
    put_in(path, 10)
    assert "put in at 10" in said()[1]


def test_changed_events_that_are_neighbours_are_one_range(said, path):
    tamper(path, "UPDATE audit_events SET actor_id = 'eve' WHERE sequence IN (3, 4, 5, 8, 10, 11)")
    assert said()[1] == "6 events changed (3 to 5, 8, 10 and 11)."


def test_many_moved_runs_are_counted_and_not_listed(said, path, monkeypatch):
    monkeypatch.setattr(findings, "SHOWN", 1)
    for sequence in (30, 20):
        remove(path, sequence)
    assert "And 1 more of the kind 'edited'; --json has them all." in said()[0]
