"""Hundreds of tasks with work at the same moment leave time for others on their event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from agentkit.engine.drivers.timer import TaskLimit, Timer
from agentkit.providers.transport.http.turns import Turns


class Recorder:
    """Counts, by turn of the event loop, what happened in it."""

    def __init__(self) -> None:
        self.turn = 0
        self.counts: Counter[int] = Counter()
        self.order: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.turn += 1
        self._handle = self._loop.call_soon(self._next)

    def note(self, number: int) -> None:
        self.counts[self.turn] += 1
        self.order.append(number)

    def stop(self) -> None:
        self._handle.cancel()


def recorded(run: Callable[[Turns, Recorder], Awaitable[None]]) -> Recorder:
    async def main() -> Recorder:
        recorder = Recorder()
        try:
            await run(Turns(asyncio.get_running_loop()), recorder)
        finally:
            recorder.stop()
        return recorder

    return asyncio.run(main())


def test_tasks_that_begin_together_begin_a_few_a_turn_and_in_order() -> None:
    async def run(turns: Turns, recorder: Recorder) -> None:
        async def begin(number: int) -> None:
            if (turn := turns.next_one()) is not None:
                await turn
            recorder.note(number)

        await asyncio.gather(*map(begin, range(200)))

    found = recorded(run)
    assert found.order == list(range(200))
    assert max(found.counts.values()) <= 4


def test_a_task_that_is_cancelled_while_it_waits_holds_up_no_other() -> None:
    async def run(turns: Turns, recorder: Recorder) -> None:
        async def begin(number: int) -> None:
            if (turn := turns.next_one()) is not None:
                await turn
            recorder.note(number)

        tasks = [asyncio.create_task(begin(number)) for number in range(60)]
        await asyncio.sleep(0)
        for each in tasks[4:50]:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert recorded(run).order == [*range(4), *range(50, 60)]


def test_tasks_that_begin_one_after_the_other_do_not_wait() -> None:
    async def run(turns: Turns, recorder: Recorder) -> None:
        for number in range(100):
            assert turns.next_one() is None
            recorder.note(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    assert len(recorded(run).order) == 100


def test_what_arrives_together_wakes_its_tasks_within_a_few_turns() -> None:
    """They are few, and known, as a time limit may run out meanwhile."""
    began = 0

    async def run(turns: Turns, recorder: Recorder) -> None:
        nonlocal began
        loop = asyncio.get_running_loop()
        waiters = [loop.create_future() for _ in range(300)]

        async def wait(number: int) -> None:
            await waiters[number]
            recorder.note(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(300)]
        await asyncio.sleep(0)
        for each in waiters:
            turns.wake(each)
        tasks[100].cancel()
        began = recorder.turn
        await asyncio.gather(*tasks, return_exceptions=True)

    found = recorded(run)
    assert found.order == [number for number in range(300) if number != 100]
    assert max(found.counts.values()) <= 75
    assert max(found.counts) - began <= 5


def test_what_arrives_now_and_then_wakes_its_task_a_turn_later_at_most() -> None:
    async def run(turns: Turns, recorder: Recorder) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            waiter = loop.create_future()
            turns.wake(waiter)
            before = recorder.turn
            await waiter
            assert recorder.turn - before <= 2

    recorded(run)


def test_the_few_that_arrive_together_are_woken_a_turn_later_at_most() -> None:
    """Each turn of the loop has a cost of its own, so a small batch is not spread."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns = Turns(loop)
        for _ in range(10):
            waiters = [loop.create_future() for _ in range(16)]
            for each in waiters:
                turns.wake(each)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert all(each.done() for each in waiters)

    asyncio.run(main())


def test_no_task_misses_its_time_limit_because_it_is_woken_later() -> None:
    """All time limits have run out when everything arrives, and the loop notices both at once."""

    async def main() -> list[bool | BaseException]:
        loop = asyncio.get_running_loop()
        turns, timer = Turns(loop), Timer(loop)
        waiters = [loop.create_future() for _ in range(300)]

        async def wait(waiter: asyncio.Future[None]) -> bool:
            limit = TaskLimit(timer)
            limit.start(0.0)
            try:
                await waiter
            finally:
                limit.stop()
            return True

        def arrive() -> None:
            for each in waiters:
                turns.wake(each)

        tasks = [asyncio.create_task(wait(each)) for each in waiters]
        loop.call_soon(loop.call_soon, arrive)
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(main()) == [True] * 300
