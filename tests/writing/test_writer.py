"""The writer, its backlog, the spill file and the gate: what happens when the outbox does not take an event."""

import logging
import os
import shutil
import signal
import sqlite3
import threading
import time
from types import SimpleNamespace

import pytest

from audit_core.errors import StoreUnavailableError
from audit_core.outbox.gate import Gate
from audit_core.outbox.spill import SpillFile, orphans, peek
from audit_core.testing import make_event
from audit_core.trail import AuditTrail
from audit_core.writing import backlog as backlog_module
from audit_core.writing.answers import Waiter
from audit_core.writing.backlog import Backlog
from audit_core.writing.inbox import Inbox, Submitted
from audit_core.writing.writer_thread import BATCH, GATHER_SECONDS
from tests.crash.test_processes import start

DIES_WHILE_IT_ADOPTS = """
    import os, signal, sys
    from pathlib import Path
    from audit_core import AuditTrail
    unlink, left = Path.unlink, [int(sys.argv[2])]

    def die(path, *args, **kwargs):
        if path.suffix == ".spill" and not path.name.startswith(f"{os.getpid()}-"):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
        unlink(path, *args, **kwargs)

    Path.unlink = die
    AuditTrail(f"sqlite:///{sys.argv[1]}").record("a.b")
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trail.db"


def fail(errors):
    raise errors.pop()


@pytest.fixture
def trail(path):
    with AuditTrail(f"sqlite:///{path}") as trail:
        yield trail


def sealed(trail, action="a.b"):
    return [event.sealed for event in trail.events(action=action)]


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


class TestABusyFile:
    def test_a_file_that_the_application_holds_delays_nobody_and_loses_nothing(self, trail, path):
        trail.record("a.b")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for _ in range(3):
            trail.record("a.b")
        assert time.monotonic() - began < 2
        assert sorted(sealed(trail)) == [False, False, False, True]
        holder.execute("COMMIT")
        holder.close()
        trail.flush()
        assert sealed(trail) == [True] * 4

    def test_what_was_spilled_is_sealed_by_itself_when_the_last_request_ends(self, trail):
        trail.opened()
        trail.record("a.b")
        assert sealed(trail) == [False]
        trail.closed()
        wait_until(lambda: sealed(trail) == [True])

    def test_what_was_spilled_does_not_wait_for_a_quiet_moment_for_ever(self, trail, monkeypatch):
        monkeypatch.setattr(backlog_module, "PATIENCE_SECONDS", 0.3)
        trail.opened()
        trail.record("a.b")
        assert sealed(trail) == [False]
        wait_until(lambda: sealed(trail) == [True])
        trail.closed()

    def test_flushing_a_file_that_stays_locked_says_so_and_keeps_the_events(self, trail, path):
        trail.record("a.b")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        trail.record("a.c")
        with pytest.raises(StoreUnavailableError, match="durable"):
            trail.flush(timeout=0.3)
        holder.execute("COMMIT")
        holder.close()
        trail.flush()
        assert sealed(trail, "a.c") == [True]


class TestStopping:
    def test_what_other_threads_record_while_another_closes_again_and_again_is_in_the_chain_once(self, trail):
        acknowledged, done = [], threading.Event()

        def work(name):
            acknowledged.extend(trail.record("a.b", resource=("n", name)).event_id for _ in range(150))

        def close():
            while not done.is_set():
                trail.close()

        closer = threading.Thread(target=close, daemon=True)
        workers = [threading.Thread(target=work, args=(name,), daemon=True) for name in range(8)]
        for thread in (closer, *workers):
            thread.start()
        for thread in workers:
            thread.join(60)
        assert not any(thread.is_alive() for thread in workers), "a caller hangs"
        done.set()
        closer.join(30)
        assert not closer.is_alive()
        trail.flush()
        recorded = [event.event_id for event in trail.events(action="a.b")]
        assert len(acknowledged) == 8 * 150
        assert sorted(recorded) == sorted(acknowledged)
        assert all(sealed(trail))
        assert trail.verify().findings == ()

    def test_what_was_queued_when_the_thread_is_told_to_stop_is_written(self, path, monkeypatch):
        trail = AuditTrail(f"sqlite:///{path}", durable=False)
        trail.record("a.b")
        trail.flush()
        slow = trail.chain.append_drafts
        monkeypatch.setattr(trail.chain, "append_drafts", lambda *args: time.sleep(0.2) or slow(*args))
        futures = [trail.submit("a.b") for _ in range(1_200)]  # more than one batch, behind a slow one
        trail.close()
        assert all(future.done() for future in futures)
        assert sealed(trail) == [True] * 1_201

    def test_an_inbox_that_is_closed_takes_nothing_and_gives_out_what_it_holds(self):
        inbox = Inbox(limit=2)
        assert inbox.put(Submitted(make_event(1)))
        assert inbox.put(Submitted(make_event(2)))
        late = []
        thread = threading.Thread(target=lambda: late.append(inbox.put(Submitted(make_event(3)))))
        thread.start()  # waits for room
        inbox.close()
        thread.join(5)
        assert late == [False]
        assert not inbox.leave()
        events, control = inbox.take(10, None)
        assert [submitted.event.timestamp.second for submitted in events] == [1, 2]
        assert control is None
        assert inbox.leave()

    @pytest.mark.parametrize("come_meanwhile", [1, 2])
    def test_an_inbox_gathers_what_comes_in_a_moment_after_the_first_event(self, monkeypatch, come_meanwhile):
        inbox = Inbox()
        inbox.put(Submitted(make_event(1)))
        arrive = iter([make_event(2 + n) for n in range(come_meanwhile)])
        monkeypatch.setattr(time, "sleep", lambda _: [inbox.put(Submitted(event)) for event in arrive])
        events, _ = inbox.take(10, None, gather=60)
        assert len(events) == 1 + come_meanwhile

    @pytest.mark.parametrize("closed", [True, False])
    def test_an_inbox_that_is_closed_or_has_enough_gathers_no_longer(self, monkeypatch, closed):
        inbox = Inbox()
        for number in range(1, 4):
            inbox.put(Submitted(make_event(number)))
        if closed:
            inbox.close()
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it gathers"))
        events, _ = inbox.take(4 if closed else 2, None, gather=60)
        assert len(events) == (3 if closed else 2)

    @pytest.mark.parametrize("durable", [True, False])
    def test_only_where_nobody_waits_are_events_gathered(self, path, monkeypatch, durable):
        gathered = []
        monkeypatch.setattr("audit_core.writing.inbox.time", SimpleNamespace(sleep=gathered.append))
        with AuditTrail(f"sqlite:///{path}", durable=durable, lifecycle=False) as trail:
            trail.record("a.b")
            trail.flush()
        assert gathered == ([] if durable else [GATHER_SECONDS])

    def test_what_is_put_into_an_inbox_that_is_left_meanwhile_is_given_back(self):
        inbox = Inbox()
        inbox._items, real = SimpleNamespace(qsize=lambda: 0), inbox._items

        def put(slot):
            inbox._items = real
            inbox.close()
            while not inbox.leave():
                inbox.take(10, None)
            real.put(slot)

        inbox._items.put = put
        assert not inbox.put(Submitted(make_event(1)))
        assert inbox.take(10, None) == ([], None)

    def test_what_is_recorded_while_the_thread_is_being_started_is_not_lost(self, path):
        """As a signal handler does it, which interrupts the start."""
        trail = AuditTrail(f"sqlite:///{path}")
        greeting, interruptions = trail._writer._greeting, ["signal.seen"]

        def interrupted():
            if interruptions:
                trail.record(interruptions.pop())
            return greeting()

        trail._writer._greeting = interrupted
        trail.submit("a.b")
        started = trail._writer._threads.all
        assert [thread.stopped for thread in started] == [False, True]
        trail.close()
        assert all(sealed(trail))
        actions = [event.action for event in trail.events()]
        assert (actions.count("a.b"), actions.count("signal.seen")) == (1, 1)
        assert len(started) == 2
        assert not any(thread.is_alive() for thread in started)

    def test_a_caller_who_is_interrupted_while_he_asks_for_his_answer_holds_up_nobody(self, trail):
        waiter, held, done = Waiter(), threading.Event(), threading.Event()

        def interrupted():
            with waiter._condition:
                held.set()
                done.wait(60)

        thread = threading.Thread(target=interrupted)
        thread.start()
        held.wait(10)
        began = time.monotonic()
        trail._writer._put(Submitted(trail.event("a.c"), waiter))
        trail.submit("a.d").result(20)
        trail.close()
        assert time.monotonic() - began < 8
        done.set()
        assert waiter.result(10).action == "a.c"
        thread.join()
        assert sealed(trail, "a.c") == [True]

    @pytest.mark.parametrize("limit", [10_000, 1])
    def test_a_log_handler_may_record_what_the_writers_thread_logs(self, trail, monkeypatch, limit):
        class Recording(logging.Handler):
            def emit(self, record):
                if record.threadName == "audit-writer":
                    trail.record("log.written")
                    trail.record("log.written")
                    trail.flush()

        trail.flush()
        trail._writer._threads.running.inbox._limit = limit
        handler = Recording()
        real, refusals = trail.chain.append_drafts, [RuntimeError("logged")]
        monkeypatch.setattr(trail.chain, "append_drafts", lambda *of: real(*of) if not refusals else fail(refusals))
        logging.getLogger().addHandler(handler)
        try:
            trail.submit("a.b").result(10)
        finally:
            logging.getLogger().removeHandler(handler)
        trail.flush()
        actions = [event.action for event in trail.events(newest_first=False)]
        assert (actions.count("a.b"), actions.count("log.written")) == (1, 2)
        assert trail.verify().findings == ()

    def test_a_trail_that_was_closed_records_again_and_says_that_it_was_stopped_and_started(self, trail):
        trail.record("a.b")
        trail.close()
        trail.record("a.b")
        trail.close()
        actions = [event.action for event in trail.events(newest_first=False)]
        assert actions[-6:] == ["trail.started", "a.b", "trail.stopped"] * 2

    def test_something_in_another_outbox_wakes_an_idle_thread(self, tmp_path):
        path, other = tmp_path / "trail.db", tmp_path / "other.db"
        with AuditTrail(f"sqlite:///{path}", outbox=f"sqlite:///{other}") as trail:
            trail.record("a.b")
            trail.flush()
            time.sleep(0.2)  # now it is idle
            connection = sqlite3.connect(other)
            trail.opened()
            trail.carry([trail.event("a.c")], connection, "other")
            connection.commit()
            connection.close()
            trail.closed()
            wait_until(lambda: sealed(trail, "a.c") == [True])


class TestADeadProcess:
    def test_its_spilled_events_are_adopted_by_the_next_one(self, path):
        directory = path.parent / "trail.db-audit"
        spill = SpillFile(directory)
        spill.append([make_event(n, action="from.dead") for n in range(3)])
        spill.abandon()  # as the end of its process does
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.flush()
            assert sealed(trail, "from.dead") == [True] * 3
            assert not list(directory.glob("*.spill"))

    def test_events_that_were_sealed_before_it_could_forget_them_are_not_sealed_twice(self, path):
        with AuditTrail(f"sqlite:///{path}") as trail:
            event = trail.record("a.b")
        spill = SpillFile(path.parent / "trail.db-audit")
        spill.append([event, make_event(action="a.c")])
        spill.abandon()
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.flush()
            assert sealed(trail) == [True]
            assert sealed(trail, "a.c") == [True]
            assert trail.verify().findings == ()

    def test_a_torn_last_line_was_never_acknowledged_and_is_passed_over(self, tmp_path):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1), make_event(2)])
        spill.abandon()
        (file,) = tmp_path.glob("*.spill")
        file.write_bytes(file.read_bytes()[:-20])
        with orphans(tmp_path) as (events, torn):
            assert (len(events), torn) == (1, [])

    def test_a_line_that_rotted_is_counted_and_becomes_the_event_of_a_gap(self, path):
        directory = path.parent / "trail.db-audit"
        spill = SpillFile(directory)
        spill.append([make_event(n, action="from.dead") for n in range(3)])
        spill.abandon()
        (file,) = directory.glob("*.spill")
        rotted = bytearray(file.read_bytes())
        rotted[60] ^= 1
        file.write_bytes(rotted)
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.flush()
            assert sealed(trail, "from.dead") == [True] * 2
            (gap,) = trail.events(action="trail.gap")
            assert gap.details["lost"] == 1
            assert gap.outcome == "failure"

    @pytest.mark.parametrize("files", [1, 2])
    def test_a_gap_is_told_once_though_who_adopts_it_dies_before_the_file_is_removed(self, path, files):
        directory = path.parent / "trail.db-audit"
        AuditTrail(f"sqlite:///{path}").close()
        for _ in range(files):
            spill = SpillFile(directory)
            spill.append([make_event(n, action="from.dead") for n in range(3)])
            file = spill.path
            spill.abandon()
            rotted = bytearray(file.read_bytes())
            rotted[60] ^= 1
            file.write_bytes(rotted)
        for removed in range(files):
            process = start(DIES_WHILE_IT_ADOPTS, path, removed)
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
        assert len(list(directory.glob("*.spill"))) > files - 1
        with AuditTrail(f"sqlite:///{path}") as trail:
            trail.flush()
            assert [gap.details["lost"] for gap in trail.events(action="trail.gap")] == [1] * files
            assert trail.verify().findings == ()

    def test_a_gap_is_the_same_event_however_often_it_is_tried_to_write_it(self, monkeypatch):
        monkeypatch.setattr(backlog_module, "HELD_AT_MOST", 1)
        backlog = Backlog(None, lambda ids: set(), lambda count, *_: make_event(details={"lost": count}))
        backlog.add([make_event(1), make_event(2), make_event(3)])
        backlog.remove(backlog.oldest(10))
        (gap,) = backlog.oldest(10)
        assert gap.details == {"lost": 2}
        assert backlog.oldest(10) == [gap]  # after a commit of which nobody knows whether it is done
        backlog.remove([gap])
        assert not backlog

    def test_the_file_of_a_living_process_is_left_alone(self, tmp_path):
        spill = SpillFile(tmp_path)
        spill.append([make_event()])
        with orphans(tmp_path) as (events, _):
            assert events == []
        assert len(peek(tmp_path)) == 1
        spill.remove({event.event_id for event in spill.events})
        assert peek(tmp_path) == []

    def test_adopting_that_fails_leaves_the_file_for_the_next_one(self, tmp_path):
        spill = SpillFile(tmp_path)
        spill.append([make_event()])
        spill.abandon()
        with pytest.raises(OSError, match="disk"), orphans(tmp_path):
            raise OSError("disk full")
        assert len(peek(tmp_path)) == 1


class TestTheSpillFile:
    def test_what_stays_is_written_anew_when_much_is_behind_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr("audit_core.outbox.spill.REWRITE_BYTES", 1_000)
        spill = SpillFile(tmp_path)
        events = [make_event(n) for n in range(50)]
        spill.append(events)
        spill.remove({event.event_id for event in events[:-2]})
        assert peek(tmp_path) == events[-2:]
        assert len(list(tmp_path.glob("*.spill"))) == 1

    def test_a_write_that_fails_halfway_leaves_the_file_as_it_was(self, tmp_path, monkeypatch):
        spill = SpillFile(tmp_path)
        spill.append([make_event(1)])
        real = os.write
        monkeypatch.setattr(
            "os.write", lambda fd, data: real(fd, bytes(data)[:10]) and (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(OSError, match="full"):
            spill.append([make_event(2)])
        monkeypatch.undo()
        spill.append([make_event(3)])
        assert [event.timestamp.second for event in peek(tmp_path)] == [1, 3]


class TestADiskThatIsFull:
    @pytest.fixture
    def full(self, monkeypatch):
        def refuse(self, events):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SpillFile, "append", refuse)

    def test_the_request_goes_on_and_the_event_is_written_when_there_is_room(self, trail, path, full):
        trail.record("a.b")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        trail.record("a.b")
        holder.execute("COMMIT")
        holder.close()
        trail.flush()
        assert sealed(trail) == [True] * 2

    def test_a_blocking_trail_tells_the_caller_that_its_event_is_durable_nowhere(self, path, full):
        with AuditTrail(f"sqlite:///{path}", on_failure="block") as trail:
            trail.record("a.b")
            holder = sqlite3.connect(path, isolation_level=None)
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailableError, match="not durable"):
                trail.record("a.b")
            holder.execute("COMMIT")
            holder.close()

    def test_what_did_not_fit_into_memory_is_counted_in_an_event(self, trail, full, monkeypatch):
        monkeypatch.setattr(backlog_module, "HELD_AT_MOST", 5)
        trail.record("a.b")
        trail.opened()
        for _ in range(9):
            trail.record("a.b")
        trail.closed()
        trail.flush()
        (gap,) = trail.events(action="trail.gap")
        assert len(sealed(trail)) + gap.details["lost"] == 10
        assert gap.details["lost"] > 0
        assert gap.details["since"] <= gap.details["until"]


class TestTheGate:
    def test_nobody_is_alone_while_something_is_open_in_this_process_or_another(self, tmp_path):
        here, there = Gate(tmp_path), Gate(tmp_path)
        with here.alone() as free:
            assert free
        there.enter()
        there.enter()
        with here.alone() as free:
            assert not free
        there.leave()
        with here.alone() as free:
            assert not free
        there.leave()
        with here.alone() as free:
            assert free
        here.close()
        there.close()

    def test_whoever_opens_waits_while_another_writes_alone(self, tmp_path):
        here, there = Gate(tmp_path), Gate(tmp_path)
        entered = threading.Event()

        def enter():
            there.enter()
            entered.set()

        with here.alone() as free:
            assert free
            thread = threading.Thread(target=enter)
            thread.start()
            assert not entered.wait(0.1)
        assert entered.wait(5)
        thread.join()
        there.leave()
        here.close()
        there.close()

    @pytest.mark.parametrize("same", [True, False], ids=["this process", "another process"])
    def test_whoever_must_not_wait_is_told_at_once_that_somebody_writes(self, tmp_path, same):
        here = Gate(tmp_path)
        there = here if same else Gate(tmp_path)
        answers = []
        with here.alone() as free:
            assert free
            thread = threading.Thread(target=lambda: answers.append(there.enter(wait=False)))
            thread.start()
            thread.join(5)
        assert answers == [False]
        assert there.enter(wait=False)
        with here.alone() as free:
            assert not free
        there.leave()
        with here.alone() as free:
            assert free
        here.close()
        there.close()

    @pytest.mark.parametrize("was_open", [True, False])
    def test_a_gate_whose_folder_was_removed_still_sees_other_processes(self, tmp_path, was_open):
        folder = tmp_path / "clinic.db-audit"
        here = Gate(folder)
        here.enter()
        if was_open:
            shutil.rmtree(folder)
            here.leave()
        else:
            here.leave()
            shutil.rmtree(folder)
        here.enter()
        there = Gate(folder)
        with there.alone() as free:
            assert not free
        here.leave()
        there.enter()
        with here.alone() as free:
            assert not free
        there.leave()
        here.close()
        there.close()

    def test_a_child_forked_while_a_thread_is_in_the_gate_can_close_it(self, tmp_path):
        gate = Gate(tmp_path)
        inside, done = threading.Event(), threading.Event()

        def stay():
            with gate.alone():
                inside.set()
                done.wait(10)

        thread = threading.Thread(target=stay)
        thread.start()
        assert inside.wait(5)
        if (pid := os.fork()) == 0:
            threading.Timer(5, os._exit, (1,)).start()
            gate.close()
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        done.set()
        thread.join()
        gate.close()
        assert status == 0

    def test_a_gate_that_is_closed_while_others_use_it_still_counts_them(self, tmp_path):
        gate, other = Gate(tmp_path), Gate(tmp_path)
        done = threading.Event()

        def close():
            while not done.is_set():
                gate.close()

        thread = threading.Thread(target=close)
        thread.start()
        try:
            for _ in range(300):
                gate.enter()
                with other.alone() as free:
                    assert not free
                gate.leave()
        finally:
            done.set()
            thread.join()
        gate.close()
        other.close()

    def test_leaving_more_often_than_entering_does_no_harm(self, tmp_path):
        gate = Gate(tmp_path)
        gate.enter()
        gate.leave()
        gate.leave()
        with gate.alone() as free:
            assert free
        gate.close()


class TestManyThatWait:
    @pytest.fixture
    def waiting(self, path):
        """What a process that died left: many batches."""
        spill = SpillFile(path.parent / "trail.db-audit")
        spill.append([make_event(n % 60, action="a.b") for n in range(5_000)])
        spill.abandon()

    def test_a_request_comes_in_between_two_batches(self, path, waiting, monkeypatch):
        with AuditTrail(f"sqlite:///{path}", lifecycle=False) as trail:
            batches, real = [], trail.sealer.deliver

            def deliver(events):
                batches.append(len(events))
                time.sleep(0.05)
                real(events)

            monkeypatch.setattr(trail.sealer, "deliver", deliver)
            trail._writer.start()
            wait_until(lambda: batches)
            trail.opened()
            assert len(batches) < 4
            assert trail._writer.backlog
            trail.closed()
            trail.flush()
            assert max(batches) == BATCH
            assert len(sealed(trail)) == 5_000
            assert all(sealed(trail))

    def test_closing_moves_them_all_when_nobody_is_in_the_way(self, path, waiting):
        trail = AuditTrail(f"sqlite:///{path}", lifecycle=False)
        trail._writer.start()
        trail.close()
        assert len(sealed(trail)) == 5_000
        assert all(sealed(trail))

    def test_what_waits_in_the_outbox_is_sealed_in_batches_too(self, trail, path, monkeypatch):
        trail.close()
        connection = sqlite3.connect(path)
        trail.outboxes[0].put([make_event(n % 60, action="a.b") for n in range(1_200)], connection)
        connection.commit()
        connection.close()
        sizes, real = [], trail.chain.append_drafts
        monkeypatch.setattr(
            trail.chain, "append_drafts", lambda events, *rest: sizes.append(len(events)) or real(events, *rest)
        )
        trail.flush()
        assert sum(sizes) >= 1_200
        assert max(sizes) <= 2 * BATCH
        assert all(sealed(trail))


def test_an_unexpected_error_does_not_end_the_thread(trail, monkeypatch):
    trail.record("a.b")
    real = trail.chain.append_drafts
    calls = []

    def fail_once(events, connection):
        if not calls:
            calls.append(1)
            raise RuntimeError("a bug")
        return real(events, connection)

    monkeypatch.setattr(trail.chain, "append_drafts", fail_once)
    trail.record("a.b")
    trail.record("a.b")
    trail.flush()
    assert sealed(trail) == [True] * 3


def test_a_cancelled_waiter_does_not_cancel_its_event(trail):
    trail.record("a.b")
    future = trail.submit("a.b")
    future.cancel()
    trail.flush()
    assert sealed(trail) == [True] * 2


def test_an_error_that_should_not_be_leaves_nobody_waiting(trail, monkeypatch):
    trail.record("a.b")
    trail.opened()
    trail.record("a.b")
    trail.closed()
    monkeypatch.setattr(trail._writer.backlog, "remove", lambda events: (_ for _ in ()).throw(RuntimeError("a bug")))
    trail.opened()
    trail.record("a.b")
    trail.closed()
    with pytest.raises(StoreUnavailableError, match="see the log"):
        trail.flush()
    monkeypatch.undo()
    trail.flush()
    assert sealed(trail) == [True] * 3


def test_an_error_while_the_thread_looks_for_what_others_left_leaves_nobody_waiting(path, monkeypatch):
    real, calls = Backlog.adopt, []

    def fail_once(self):
        if not calls:
            calls.append(1)
            raise RuntimeError("a bug")
        real(self)

    monkeypatch.setattr(Backlog, "adopt", fail_once)
    with AuditTrail(f"sqlite:///{path}") as trail:
        assert trail.submit("a.b").result(10).action == "a.b"
        trail.flush()
        assert sealed(trail) == [True]


def test_a_file_system_without_locks_breaks_no_request(trail, monkeypatch):
    def refuse(fd, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    trail.opened()
    trail.record("a.b")
    trail.closed()
    trail.flush()
    assert sealed(trail) == [True]
