"""The comparison of somebody else's suite without capture and with it."""

import json

import pytest

from tests.suites import outcomes, trial
from tests.suites.outcomes import Outcomes

KNOWN = {"counts queries": ["count"]}


def test_a_test_that_fails_without_capture_too_is_no_difference():
    both = Outcomes(passed={"a"}, failed={"b": "why"}, events=1)
    assert not trial.compare(both, both, KNOWN)


def test_a_test_that_fails_only_with_capture_is_unexplained_unless_its_reason_is_known():
    without = Outcomes(passed={"a", "test_count", "b"}, failed={}, events=0)
    audited = Outcomes(passed={"a"}, failed={"test_count": "2 != 1", "b": "why"}, events=1)
    assert trial.compare(without, audited, KNOWN) == {"b": "why"}


def test_a_run_in_which_capture_wrote_nothing_is_unexplained():
    idle = Outcomes(passed={"a"}, failed={}, events=0)
    assert trial.compare(idle, idle, {}).keys() == {"every test"}


def test_a_test_that_did_not_run_with_capture_is_unexplained():
    without = Outcomes(passed={"a", "b"}, failed={"c": ""}, events=0)
    assert trial.compare(without, Outcomes({"a"}, {}, 1), {}).keys() == {"b", "c"}


def test_a_test_that_failed_in_one_of_its_parts_has_failed(tmp_path):
    lines = [["a", "failed", "part 1"], ["a", "passed", ""], ["b", "passed", ""], ["", "events", "7"]]
    path = tmp_path / "outcomes.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert outcomes.read(path) == Outcomes({"b"}, {"a": "part 1"}, 7)
    path.write_text(json.dumps(lines[0]))
    with pytest.raises(RuntimeError, match="did not run to their end"):
        outcomes.read(path)
