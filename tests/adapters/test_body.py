"""The body of an answer, without a framework."""

from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from audit_core.errors import StoreUnavailableError
from audit_core.requests.body import next_part


def breaking():
    raise RuntimeError("of the application")
    yield b""


def test_an_event_that_is_durable_nowhere_hides_no_error_of_the_application():
    written = Future()
    written.set_exception(StoreUnavailableError("full"))
    answer = SimpleNamespace(fail=lambda error: written)
    audit = SimpleNamespace(active=nullcontext)
    with pytest.raises(RuntimeError, match="of the application"):
        next_part(audit, answer, breaking())


def test_every_part_is_made_inside_of_the_request():
    inside = []

    @contextmanager
    def active():
        inside.append(True)
        yield
        inside.pop()

    parts = ([*inside] for _ in range(2))
    audit = SimpleNamespace(active=active)
    assert [next_part(audit, None, parts) for _ in range(2)] == [[True], [True]]
    assert inside == []
