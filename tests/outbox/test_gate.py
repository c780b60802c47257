"""The garbage collector ends what is open at any moment, also in the midst of the gate's own methods."""

import gc
import itertools
import sys
import weakref

import pytest

from audit_core.outbox import gate as gate_module
from audit_core.outbox.gate import Gate


class Response:
    """Part of a cycle, as a streaming response with its generator is: only the garbage collector ends it."""

    def __init__(self, gate):
        self.cycle = self
        gate.enter()
        weakref.finalize(self, gate.leave)


@pytest.fixture
def gates(tmp_path):
    gates = Gate(tmp_path), Gate(tmp_path)
    yield gates
    for gate in gates:
        gate.close()


@pytest.fixture(autouse=True)
def _no_other_collection():
    gc.collect()
    gc.freeze()  # what other tests have made need not be looked through a hundred times
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def collect_at(step, do, interrupt=gc.collect):
    """Collect before one line of the gate's code, counted from 0; whether there were so many."""
    steps = itertools.count()

    def trace(frame, event, _):
        if frame.f_code.co_filename != gate_module.__file__:
            return None
        if event == "line" and next(steps) == step:
            sys.settrace(None)
            interrupt()
            return None
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    finally:
        sys.settrace(before)
    return next(steps) > step


def is_alone(gate):
    with gate.alone() as free:
        return free


def test_a_response_that_is_collected_while_another_request_opens_leaves_that_one_open(gates):
    here, there = gates
    for step in itertools.count():
        Response(here)
        reached = collect_at(step, here.enter)
        gc.collect()
        assert not is_alone(there), f"at step {step}"
        here.leave()
        assert is_alone(there), f"at step {step}"
        if not reached:
            break
    assert step > 10


def test_a_response_that_is_collected_while_another_one_ends_is_counted_once(gates):
    here, there = gates
    for step in itertools.count():
        Response(here)
        here.enter()
        here.enter()
        reached = collect_at(step, here.leave)
        gc.collect()
        assert not is_alone(there), f"at step {step}"
        here.leave()
        assert is_alone(there), f"at step {step}"
        if not reached:
            break
    assert step > 5


@pytest.mark.parametrize("ending", [True, False])
def test_a_response_that_is_collected_while_somebody_writes_opens_the_gate_for_nobody(gates, ending):
    here, there = gates

    def write():
        with here.alone(ending=ending) as free:
            if free:
                assert not there.enter(wait=False)

    for step in itertools.count():
        Response(here)
        reached = collect_at(step, write)
        gc.collect()
        assert is_alone(there), f"at step {step}"
        assert is_alone(here), f"at step {step}"
        if not reached:
            break
    assert step > 10


def test_a_response_that_is_collected_while_the_gate_closes_is_counted(gates):
    here, there = gates
    for step in itertools.count():
        Response(here)
        reached = collect_at(step, here.close)
        gc.collect()
        assert is_alone(there), f"at step {step}"
        if not reached:
            break
    assert step > 5


@pytest.mark.parametrize("method", ["enter", "leave", "close"])
def test_a_signal_handler_may_open_a_session_whatever_it_interrupts(gates, method):
    here, there = gates
    for step in itertools.count():
        if method == "leave":
            here.enter()
        reached = collect_at(step, getattr(here, method), interrupt=here.enter)
        assert is_alone(there) == (method != "enter" and not reached), f"at step {step}"
        here.leave()
        assert is_alone(there) == (method != "enter" or not reached), f"at step {step}"
        here.leave()
        assert is_alone(there), f"at step {step}"
        if not reached:
            break
    assert step > 5
