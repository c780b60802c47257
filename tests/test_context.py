"""Who acts, and how long: the context of a request, without a request."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from audit_core import AuditTrail, Redactor, add_details, set_actor, set_outcome
from audit_core.canonical import encode
from audit_core.context import Actor, AuditContext, Resumed, current, end, enter, leave, said
from audit_core.process.account import account


@pytest.fixture
def context():
    context = AuditContext()
    enter(context)
    yield context
    end(context)


def test_the_application_goes_before_the_framework_and_nobody_is_anonymous(context):
    assert context.current_actor() == Actor(None, "anonymous", None)
    context.find_actor = lambda: Actor("of-the-framework", "user")
    assert context.current_actor().id == "of-the-framework"
    set_actor(42, type="admin", on_behalf_of=7)
    assert context.current_actor() == Actor("42", "admin", "7")


def test_who_it_was_stays_known_after_the_request_and_the_request_is_let_go(context):
    context.find_actor = lambda: Actor("ada", "user")
    context.settle_actor()
    assert (context.actor, context.find_actor) == (Actor("ada", "user"), None)


def test_what_a_task_does_after_its_request_says_so(context):
    set_actor("ada")
    with AuditTrail("memory:") as trail:
        during = trail.record("a.b")
        with trail.actor("worker"):
            context.settle_actor()
            named = trail.record("a.b")
        after = trail.record("a.b", details={"n": 1})
    assert during.details == {}
    assert (named.actor_id, named.details) == ("worker", {"after_request": True})
    assert (after.actor_id, after.details) == ("ada", {"n": 1, "after_request": True})


def test_whom_the_application_named_stays_after_the_request(context):
    context.find_actor = lambda: Actor("of-the-framework", "user")
    set_actor("ada")
    context.settle_actor()
    assert context.actor.id == "ada"


def test_another_actor_is_not_in_the_tenant_of_the_one_before(context):
    set_actor("ada", tenant_id=7)
    assert context.tenant_id == "7"
    set_actor("bob")
    assert context.tenant_id is None


def test_naming_the_same_actor_again_keeps_the_tenant(context):
    set_actor("ada", tenant_id=7)
    set_actor("ada", type="admin")
    assert context.tenant_id == "7"


def test_a_block_with_another_actor_keeps_the_rest_of_the_request(context):
    context.request_id, context.ip_address = "r-1", "192.0.2.7"
    set_actor("ada", tenant_id="north")
    with AuditTrail("memory:") as trail:
        with trail.actor("import", type="service"):
            inside = trail.record("a.b")
        after = trail.record("a.b")
    assert (inside.actor_id, inside.actor_type, after.actor_id) == ("import", "service", "ada")
    for event in (inside, after):
        assert (event.request_id, event.ip_address, event.tenant_id) == ("r-1", "192.0.2.7", "north")


def test_a_block_that_breaks_off_restores_the_actor(context):
    set_actor("ada")
    with AuditTrail("memory:") as trail, pytest.raises(KeyError), trail.actor("import"):
        raise KeyError
    assert current().current_actor().id == "ada"


def test_an_actor_and_an_outcome_that_there_are_not_are_refused_at_once(context):
    with pytest.raises(ValueError, match="robot"):
        set_actor("ada", type="robot")
    with pytest.raises(ValueError, match="sucess"):
        set_outcome("sucess")
    with AuditTrail("memory:") as trail, pytest.raises(ValueError, match="robot"), trail.actor("ada", type="robot"):
        pass
    assert (context.actor, context.told.outcome) == (None, None)


@pytest.mark.parametrize("call", [lambda: set_outcome("denied"), lambda: add_details(ward=7), lambda: set_actor("ada")])
def test_outside_of_a_request_the_cure_is_named(call):
    with pytest.raises(LookupError, match=r"with trail\.actor"):
        call()


@pytest.fixture
def trail():
    with AuditTrail("memory:", lifecycle=False) as trail:
        yield trail


def name():
    return current().current_actor().id


class TestABlock:
    def test_it_nests_and_restores(self, trail):
        with trail.actor("ada"):
            with trail.actor("bob", on_behalf_of="ada"):
                assert trail.record("a.b").on_behalf_of == "ada"
                with trail.actor("eve", type="admin"):
                    assert name() == "eve"
                assert trail.record("a.b").actor_id == "bob"
            event = trail.record("a.b")
            assert (event.actor_id, event.on_behalf_of) == ("ada", None)
        assert said() is None

    def test_it_nests_in_a_request_and_the_application_may_name_another_one_inside(self, trail, context):
        set_actor("ada")
        with trail.actor("import", type="service", on_behalf_of="ada"):
            set_actor("bob")
            assert name() == "bob"
        assert name() == "ada"

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
    def test_whatever_breaks_it_off_it_restores(self, trail, error):
        with trail.actor("ada"):
            with pytest.raises(error), trail.actor("bob"):
                raise error
            assert name() == "ada"
        assert said() is None

    def test_it_is_for_one_block(self, trail):
        block = trail.actor("ada")
        with block, pytest.raises(RuntimeError, match="again"):
            block.__enter__()
        assert said() is None

    def test_it_decorates_a_function(self, trail):
        @trail.actor("import", type="service", on_behalf_of="ada")
        def work(depth):
            return trail.record("a.b"), depth and work(depth - 1)

        event, (inner, _) = work(1)
        for one in (event, inner):
            assert (one.actor_id, one.actor_type, one.on_behalf_of) == ("import", "service", "ada")
        assert (work.__name__, said()) == ("work", None)

    def test_it_decorates_a_coroutine_function(self, trail):
        @trail.actor("import")
        async def work():
            await asyncio.sleep(0)
            return name()

        async def main():
            coroutine = work()
            assert name() is None
            return await coroutine, name()

        assert asyncio.run(main()) == ("import", None)

    def test_it_refuses_to_decorate_a_generator_whose_reader_would_act_too(self, trail):
        def rows():
            yield 1

        async def pages():
            yield 1

        for generator in (rows, pages):
            with pytest.raises(TypeError, match=r"with trail\.actor"):
                trail.actor("import")(generator)


class TestGenerators:
    @staticmethod
    def acts(trail, who, count=2):
        with trail.actor(who):
            for _ in range(count):
                yield name()

    def test_what_is_read_to_its_end_leaves_nothing_over(self, trail):
        assert list(self.acts(trail, "ada")) == ["ada", "ada"]
        assert said() is None

    def test_a_block_that_yields_lends_its_actor_to_the_reader(self, trail):
        """Python has no context for a generator; docs/actors.md warns of it."""
        for _ in self.acts(trail, "ada"):
            assert name() == "ada"
        assert said() is None

    def test_two_that_end_in_the_order_in_which_they_began_leave_nothing_over(self, trail):
        first, second = self.acts(trail, "ada", 1), self.acts(trail, "bob", 2)
        next(first), next(second)
        assert list(first) == []
        assert name() == "bob"
        assert list(second) == ["bob"]
        assert said() is None

    def test_one_that_is_closed_inside_of_another_block_puts_nobody_back(self, trail):
        rows = self.acts(trail, "ada")
        next(rows)
        with trail.actor("bob"):
            rows.close()
            assert name() == "bob"
        assert said() is None

    def test_one_that_is_closed_in_another_thread_changes_nobody_there(self, trail):
        rows = self.acts(trail, "ada")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(next, rows).result() == "ada"
        with trail.actor("bob"):
            rows.close()
            assert name() == "bob"
        assert said() is None

    def test_an_asynchronous_one_leaves_nothing_over(self, trail):
        async def pages():
            with trail.actor("ada"):
                for number in range(3):
                    await asyncio.sleep(0)
                    yield number

        async def main():
            assert [page async for page in pages()] == [0, 1, 2]
            assert said() is None
            unread = pages()
            await anext(unread)
            await unread.aclose()
            return said()

        assert asyncio.run(main()) is None

    def test_one_that_is_never_closed_is_over_with_its_request(self, trail):
        context = AuditContext()
        enter(context)
        rows = self.acts(trail, "ada")
        next(rows)
        assert name() == "ada"
        end(context)
        assert said() is None
        rows.close()
        assert said() is None

    def test_the_body_of_a_response_keeps_its_block_from_one_read_to_the_next(self, trail):
        entered, body = [AuditContext(actor=Actor("ada"))], self.acts(trail, "import", 3)
        for _ in range(3):
            with Resumed(entered):
                assert next(body) == "import"
            assert said() is None
            with trail.actor("server"):
                assert name() == "server"
        with Resumed(entered):
            assert list(body) == []
            assert name() == "ada"

    def test_a_body_that_is_read_inside_of_its_own_request_leaves_it_as_it_was(self, trail):
        context = AuditContext(actor=Actor("ada"))
        entered = [context]
        with Resumed(entered):
            with Resumed(entered):
                assert said() is context
            assert said() is context
        assert said() is None

    def test_two_requests_of_one_thread_may_end_in_any_order(self):
        first, second = AuditContext(actor=Actor("ada")), AuditContext(actor=Actor("bob"))
        enter(first)
        enter(second)
        end(first)
        assert name() == "bob"
        end(second)
        leave(second)
        assert said() is None


class TestTasksAndThreads:
    """acceptance: right under asyncio tasks and threads, and none left over."""

    def test_tasks_of_a_request_act_for_it_and_do_not_see_each_others_blocks(self, trail, context):
        set_actor("ada")

        async def work(number):
            with trail.actor(f"worker-{number}"):
                await asyncio.sleep(0.01 * (3 - number))
                return name()

        async def main():
            plain = asyncio.create_task(asyncio.sleep(0, name()))
            others = [asyncio.create_task(work(number)) for number in range(3)]
            assert name() == "ada"
            return [await plain, *await asyncio.gather(*others)]

        assert asyncio.run(main()) == ["ada", "worker-0", "worker-1", "worker-2"]

    def test_whoever_is_named_late_is_known_to_a_task_that_has_begun(self, context):
        async def main():
            begun, go = asyncio.Event(), asyncio.Event()

            async def work():
                begun.set()
                await go.wait()
                return name()

            task = asyncio.create_task(work())
            await begun.wait()
            set_actor("ada")
            go.set()
            return await task

        assert asyncio.run(main()) == "ada"

    def test_a_task_that_outlives_its_block_keeps_the_actor(self, trail):
        async def main():
            go = asyncio.Event()

            async def work():
                await go.wait()
                return name()

            with trail.actor("import"):
                task = asyncio.create_task(work())
            assert said() is None
            go.set()
            return await task

        assert asyncio.run(main()) == "import"

    def test_a_cancelled_task_leaves_nothing_over(self, trail):
        async def main():
            async def work():
                with trail.actor("import"):
                    await asyncio.sleep(10)

            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return said()

        assert asyncio.run(main()) is None

    def test_to_thread_takes_the_actor_along_and_run_in_executor_does_not(self, trail):
        async def main():
            with trail.actor("ada"):
                loop = asyncio.get_running_loop()
                carried = contextvars.copy_context()
                return (
                    await asyncio.to_thread(name),
                    await loop.run_in_executor(None, said),
                    await loop.run_in_executor(None, carried.run, name),
                    await loop.run_in_executor(None, said),
                )

        assert asyncio.run(main()) == ("ada", None, "ada", None)

    @pytest.mark.skipif(getattr(sys.flags, "thread_inherit_context", 0), reason="this Python hands it down")
    def test_a_thread_has_no_actor_until_it_is_given_one(self, trail):
        seen = []
        with trail.actor("ada"):
            carried = contextvars.copy_context()
            plain = threading.Thread(target=lambda: seen.append(said()))
            given = threading.Thread(target=carried.run, args=(lambda: seen.append(name()),))
            for thread in (plain, given):
                thread.start()
                thread.join()
        assert seen == [None, "ada"]

    def test_a_thread_of_a_pool_has_nothing_left_over_for_its_next_work(self, trail):
        def work(who):
            with trail.actor(who):
                return name()

        def breaks():
            with trail.actor("eve"):
                raise ZeroDivisionError

        with ThreadPoolExecutor(1) as pool:
            for who in ("ada", "bob"):
                assert pool.submit(work, who).result() == who
                assert pool.submit(said).result() is None
            with pytest.raises(ZeroDivisionError):
                pool.submit(breaks).result()
            with trail.actor("ada"):
                assert pool.submit(contextvars.copy_context().run, name).result() == "ada"
            assert pool.submit(said).result() is None


class TestAtAPrompt:
    SAY = "from audit_core import AuditTrail\nprint(AuditTrail('memory:').record('a.b'))\n"

    def said_by(self, *command, **environment):
        done = subprocess.run(
            [sys.executable, *command], input=self.SAY, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        )  # fmt: skip
        return done.stdout

    def test_whoever_sits_there_acts_under_his_account(self):
        shown = self.said_by("-i", LOGNAME="mallory", USER="mallory")
        assert f"actor_id='{account()}', actor_type='system'" in shown
        assert "details={'command': 'python'}" in shown

    def test_the_shell_of_a_framework_is_one(self, tmp_path):
        (tmp_path / "clinic.py").write_text("from flask import Flask\napp = Flask('clinic')\n")
        shown = self.said_by("-m", "flask", "--app", str(tmp_path / "clinic.py"), "shell")
        assert f"actor_id='{account()}', actor_type='system'" in shown

    def test_a_script_that_names_nobody_is_the_system(self):
        assert "actor_id=None, actor_type='system'" in self.said_by("-")

    def test_another_thread_than_the_prompts_may_serve_others(self, monkeypatch):
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
        assert name() == account()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(said).result() is None

    def test_a_request_that_is_tried_there_is_anonymous(self, monkeypatch, context):
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
        assert current().current_actor() == Actor()


def test_a_process_says_under_which_account_it_writes_and_as_what(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/srv/clinic/import.py", "--password", "hunter2"])
    with AuditTrail("memory:") as trail:
        trail.record("a.b")
        started = next(event for event in trail.events() if event.action == "trail.started")
    assert started.details["account"] == account()
    assert started.details["command"] == "import.py"
    assert started.details["pid"] == os.getpid()


class TestComposing:
    def test_every_event_says_which_component_wrote_it(self):
        with AuditTrail("memory:", source="clinic") as trail:
            assert trail.record("a.b").source == "clinic"

    def test_a_rule_of_the_redactor_may_be_for_one_type_of_resource(self):
        with AuditTrail("memory:", redactor=Redactor(rules={"patient.name": "replace"})) as trail:
            of_patient = trail.record("a.b", resource=("patient", 1), details={"changes": {"name": "Ada"}})
            of_ward = trail.record("a.b", resource=("ward", 1), details={"changes": {"name": "North"}})
        assert "Ada" not in str(of_patient.details)
        assert "North" in str(of_ward.details)

    def test_a_secret_is_taken_out_before_anything_is_cut(self):
        """Cut first, and the hash of what was cut would be one of the secret, for trying."""
        details = {f"k{number}": "x" * 100 for number in range(400)}
        with AuditTrail("memory:") as trail:
            event = trail.record("a.b", details={**details, "password": "hunter2"})
        kept = encode({**details, "password": "[redacted]"})
        assert event.details["cut"]["sha256"] == sha256(kept).hexdigest()
