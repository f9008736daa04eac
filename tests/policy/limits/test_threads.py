"""Many callers, threads and tasks, at one pool: no limit is passed, and no caller is forgotten."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentkit import LLMManager, RetryPolicy
from agentkit.engine.quota import LOOK_AGAIN
from agentkit.errors import AuthenticationError
from agentkit.manager.keys import ConnectionPool
from agentkit.policy.limits import WINDOW, Admission, Member, Need, Pool, RateLimits, RateWindow
from agentkit.types import Request, Response, Usage
from tests.clocks import FastClock

pytestmark = pytest.mark.threads

PATIENCE = 30.0
THREADS = 32


class Noted(RateWindow):
    """A window that writes down what it admits."""

    def __init__(self, limits: RateLimits) -> None:
        super().__init__(limits)
        self.noted: list[Admission] = []

    def admit(self, need: Need, now: float) -> Admission | None:
        admission = super().admit(need, now)
        assert admission is not None
        self.noted.append(admission)
        return admission

    def fullest(self, of: Callable[[Admission], int]) -> int:
        """The most that any 60 seconds hold."""
        noted, held, most, first = self.noted, 0, 0, 0
        for each in noted:
            held += of(each)
            while noted[first].at + WINDOW <= each.at:
                held -= of(noted[first])
                first += 1
            most = max(most, held)
        return most


class Model:
    """A sync and async provider that counts concurrent calls."""

    provider, capabilities = "fake", ("messages",)

    def __init__(self, key: str = "", shared: Model | None = None) -> None:
        self.key = key
        self.shared = shared or self
        self.lock = threading.Lock()
        self.inside = self.most = self.calls = 0
        self.dead: set[str] = set()

    def with_key(self, key: str) -> Model:
        return Model(key, self.shared)

    def enter(self) -> None:
        shared = self.shared
        with shared.lock:
            shared.calls += 1
            shared.inside += 1
            shared.most = max(shared.most, shared.inside)
            if self.key in shared.dead:
                shared.inside -= 1
                raise AuthenticationError("refused", status=401)

    def leave(self) -> Response[Any]:
        with self.shared.lock:
            self.shared.inside -= 1
        return Response("fine", usage=Usage(20, 5))

    def send(self, request: Request) -> Response[Any]:
        self.enter()
        return self.leave()

    async def asend(self, request: Request) -> Response[Any]:
        self.enter()
        try:
            await asyncio.sleep(0)
        finally:
            response = self.leave()
        return response


def pool_of(llm: LLMManager, name: str = "m") -> Pool:
    pool = llm.registry.get(name).pool
    assert pool is not None
    return pool


def from_all_sides(llm: LLMManager, threads: int, tasks: int, **how: Any) -> list[Response[Any]]:
    """Each thread and each task asks once, all at once."""
    start = threading.Barrier(threads + 1)

    def ask(number: int) -> Response[Any]:
        start.wait(PATIENCE)
        return llm.complete(f"thread {number}", **how)

    async def main() -> list[Response[Any]]:
        await asyncio.to_thread(start.wait, PATIENCE)
        return await asyncio.gather(
            *(llm.acomplete(f"task {number}", **how) for number in range(tasks))
        )

    with ThreadPoolExecutor(threads) as executor:
        waiting = [executor.submit(ask, number) for number in range(threads)]
        answers = asyncio.run(main())
        return answers + [each.result(PATIENCE) for each in waiting]


def assert_idle(pool: Pool) -> None:
    assert (pool.in_use, pool.waiting) == (0, 0)


def test_five_hundred_callers_never_pass_a_limit_and_all_are_answered() -> None:
    limits = RateLimits(40, None, None, 60 * 1024)
    clock = FastClock(600.0)
    model = Model()
    with LLMManager(cache=None, clock=clock, deadline=None) as llm:
        llm.register_model("m", model, pool=ConnectionPool(["k1", "k2", "k3"], limits=limits))
        pool = pool_of(llm)
        windows = [Noted(limits) for _ in pool.members]
        for member, window in zip(pool.members, windows, strict=True):
            member.window = window
        answers = from_all_sides(llm, 100, 400)
        ended = clock()
    assert [answer.text for answer in answers] == ["fine"] * 500
    assert sum(len(window.noted) for window in windows) == model.calls == 500
    for window in windows:
        assert window.fullest(lambda each: 1) <= 40
        assert window.fullest(lambda each: each.input_tokens + each.output_tokens) <= 60 * 1024
    assert ended >= 4 * WINDOW, "120 a minute: the last 20 came in the fifth"
    assert model.most <= 15, "five at once a key"
    assert_idle(pool)


@pytest.mark.parametrize("slots", [1, 3])
def test_no_wake_up_is_lost(slots: int) -> None:
    """Whoever is not woken looks again after `LOOK_AGAIN` seconds, and would be seen here."""
    model = Model()
    with LLMManager(cache=None, deadline=PATIENCE) as llm:
        llm.register_model("m", model, max_concurrency=slots)
        answers = [each for _ in range(5) for each in from_all_sides(llm, THREADS, 100)]
        assert max(answer.ledger.waited for answer in answers) < LOOK_AGAIN
        assert model.most == slots
        assert_idle(pool_of(llm))


def test_two_event_loops_and_threads_share_one_pool() -> None:
    model = Model()
    with LLMManager(cache=None, deadline=PATIENCE) as llm:
        llm.register_model("m", model, max_concurrency=2)

        def loop(_: int) -> list[str]:
            async def main() -> list[str]:
                return await asyncio.gather(*(llm.agenerate(str(n)) for n in range(50)))

            return asyncio.run(main())

        with ThreadPoolExecutor(4) as executor:
            answers = [text for texts in executor.map(loop, range(4)) for text in texts]
        assert answers == ["fine"] * 200
        assert model.most <= 2
        assert_idle(pool_of(llm))


@pytest.mark.promise("S2-18", "S4-01")
def test_a_pool_is_never_above_its_size_under_a_hundred_tasks() -> None:
    model = Model()
    with LLMManager(cache=None, deadline=PATIENCE) as llm:
        llm.register_model("m", model, pool=ConnectionPool(["k1", "k2"]))
        pool = pool_of(llm)
        pool.max_in_use = 3
        from_all_sides(llm, 1, 100)
        assert model.most == 3
        assert_idle(pool)


def test_a_thousand_calls_lose_none_when_a_key_dies_midway(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Model()
    once = RetryPolicy(max_attempts=3, base_delay=0.0)
    with LLMManager(cache=None, retry=once, deadline=PATIENCE) as llm:
        llm.register_model("m", model, pool=ConnectionPool(["k1", "k2", "k3"]))

        def ask(number: int) -> str:
            if number == 300:
                model.dead.add("k2")
            return llm.generate(str(number))

        with ThreadPoolExecutor(16) as executor:
            texts = list(executor.map(ask, range(1000)))
        assert texts == ["fine"] * 1000
        assert [each.retired for each in pool_of(llm).members] == [False, True, False]
        assert llm.get_metrics()["failed_requests"] == 0
        assert_idle(pool_of(llm))
    assert len(caplog.records) == 1
    assert "k2" not in caplog.text


def test_tasks_cancelled_at_any_moment_give_everything_back() -> None:
    model = Model()
    dice = random.Random(7)

    async def main(llm: LLMManager) -> int:
        tasks = [asyncio.create_task(llm.agenerate(str(n))) for n in range(300)]
        doomed = dice.sample(tasks, 150)
        while doomed:
            doomed.pop().cancel()
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return sum(outcome == "fine" for outcome in outcomes)

    with LLMManager(cache=None, deadline=PATIENCE) as llm:
        llm.register_model("m", model, max_concurrency=2, limits=RateLimits(10**6))
        assert asyncio.run(main(llm)) >= 150
        assert model.inside == 0
        assert_idle(pool_of(llm))
        assert llm.generate("and now?") == "fine"


def test_a_loop_that_ends_with_calls_in_line_blocks_no_other() -> None:
    with LLMManager(cache=None, deadline=PATIENCE) as llm:
        llm.register_model("m", Model(), max_concurrency=1)
        pool = pool_of(llm)
        holder = pool.request(Need(), time.monotonic())

        async def main() -> None:
            tasks = [asyncio.create_task(llm.agenerate(str(n))) for n in range(10)]
            while pool.waiting < len(tasks):
                await asyncio.sleep(0)

        asyncio.run(main())  # leaves while all of them wait
        assert pool.waiting == 0
        holder.release(time.monotonic())
        assert llm.generate("next") == "fine"
        assert_idle(pool)


def test_bare_leases_from_many_threads_never_exceed_a_member() -> None:
    pool = Pool([Member(max_concurrency=2, limits=RateLimits(10**6, 10**6)) for _ in range(2)])
    over: list[int] = []
    served = [0] * THREADS

    def work(index: int) -> None:
        for turn in range(200):
            ring = threading.Event()
            lease = pool.request(Need(1, 1), float(turn))
            lease.subscribe(ring.set)
            while not lease.granted and ring.wait(PATIENCE):
                ring.clear()
                lease.wait(float(turn))
            assert lease.granted
            assert lease.member is not None
            if lease.member.in_use > 2:
                over.append(lease.member.in_use)
            served[index] += 1
            lease.release(float(turn), Usage(1, 0), sent=turn % 3 > 0)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert served == [200] * THREADS
    assert over == []
    assert_idle(pool)
