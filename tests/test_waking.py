"""One commit finishes many requests: each event loop is woken once for all of them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from audit_core.requests.waking import finished

MANY = 200


def test_many_that_finish_together_wake_their_loop_once(monkeypatch):
    async def wait_for_all(futures):
        woken, real = [], asyncio.get_running_loop().call_soon_threadsafe

        def call(callback, *arguments):
            woken.append(callback)
            return real(callback, *arguments)

        waiting = [asyncio.create_task(finished(future)) for future in futures]
        await asyncio.sleep(0)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", call)
        for future in futures:  # while the loop is busy, as it is with other requests
            future.set_result(None)
        await asyncio.gather(*waiting)
        return woken

    assert len(asyncio.run(wait_for_all([Future() for _ in range(MANY)]))) == 1


def test_nobody_is_overlooked_while_another_thread_finishes_one_after_the_other():
    async def wait_for_all(futures):
        thread = threading.Thread(target=lambda: [future.set_result(None) for future in futures])
        waiting = [asyncio.create_task(finished(future)) for future in futures]
        await asyncio.sleep(0)
        thread.start()
        await asyncio.wait_for(asyncio.gather(*waiting), timeout=10)
        thread.join()

    for _ in range(20):
        asyncio.run(wait_for_all([Future() for _ in range(MANY)]))


def test_a_task_that_is_cancelled_takes_neither_the_future_nor_the_others_along():
    async def cancel_one(future):
        cancelled, other = (asyncio.create_task(finished(future)) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert not future.cancelled()
        threading.Thread(target=future.set_result, args=[None]).start()
        await asyncio.wait_for(other, timeout=10)
        assert cancelled.cancelled()

    asyncio.run(cancel_one(Future()))


def test_what_finishes_after_its_loop_was_closed_disturbs_nobody(caplog):
    future: Future[None] = Future()

    async def give_up():
        task = asyncio.create_task(finished(future))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(give_up())
    future.set_result(None)
    assert not caplog.records


def test_each_loop_of_a_thread_has_its_own_bell():
    for _ in range(2):

        async def wait():
            future: Future[None] = Future()
            threading.Timer(0.01, future.set_result, [None]).start()
            await asyncio.wait_for(finished(future), timeout=10)

        asyncio.run(wait())
