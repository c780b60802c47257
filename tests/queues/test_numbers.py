"""How it is seen that a queue has lost something: those who send number what they send."""

from itertools import product

import pytest

from audit_core.outbox.queue import Mark, Numbers, missing

A, B = "a" * 16, "b" * 16


def kept(heard):
    return {sender: f"{attempt} {number}" for sender, (attempt, number) in heard.items()}


def test_what_is_there_in_full_misses_nothing_whatever_was_repeated():
    numbers = Numbers()
    first = numbers.attempt(3)
    numbers.taken(3)
    unanswered = numbers.attempt(4)  # the queue has it, and the answer was lost
    again = numbers.attempt(2)
    numbers.taken(2)
    last = numbers.attempt(5)
    lost, heard = missing([*first, *unanswered, *again, *last], {})
    assert lost == {}
    assert heard == kept({numbers.sender: (4, 10)})
    assert missing([*again, *last], heard) == ({}, heard)  # an old state of the queue brings it again


@pytest.mark.parametrize(("begin", "end"), [(b, e) for b, e in product(range(10), range(1, 10)) if b < e])
def test_every_hole_is_counted_once_the_sender_goes_on(begin, end):
    numbers = Numbers()
    marks = []
    for size in (1, 4, 2, 3):
        marks += numbers.attempt(size)
        numbers.taken(size)
    left = [*marks[:begin], *marks[end:]]
    lost, _ = missing(left, {})
    assert sum(lost.values()) == (end - begin if end < 10 else 0)
    # In two looks, wherever the first one ends.
    for cut in range(len(left) + 1):
        before, heard = missing(left[:cut], {})
        after, _ = missing(left[cut:], heard)
        assert sum(before.values()) + sum(after.values()) == sum(lost.values())


def test_two_senders_are_counted_apart():
    marks = [Mark(A, 1, 1), Mark(B, 1, 2), Mark(A, 2, 4), None, Mark(B, 5, 3)]
    lost, heard = missing(marks, {})
    assert lost == {A: 2, B: 1}
    assert heard == kept({A: (2, 4), B: (5, 3)})


@pytest.mark.parametrize("text", ["", "x", f"{A} 1", f"{A} 1 -1", f"{A} 1 ٣", f"{A.upper()} 1 1", f"{A} {'9' * 16} 1"])
def test_what_is_no_mark_says_nothing(text):
    assert Mark.parse(text) is None
    assert missing([Mark(A, 1, 1)], {A: text})[0] == {}


def test_after_a_week_of_silence_a_sender_is_another_one(monkeypatch):
    numbers = Numbers()
    numbers.attempt(3)
    numbers.taken(3)
    before = numbers.sender
    monkeypatch.setattr("audit_core.outbox.queue.RENEW_SECONDS", -1.0)
    (mark,) = numbers.attempt(1)
    assert mark.sender != before
    assert mark.number == 1
