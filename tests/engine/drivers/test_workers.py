"""Worker threads are shared by all models of a manager, and by none at another's expense."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from agentkit import (
    BreakerPolicy,
    CircuitBreaker,
    ConfigurationError,
    LLMManager,
    PoolExhaustedError,
    RetryPolicy,
)
from agentkit.engine.drivers.workers import Job, LoopThread, Workers
from tests.helpers import until

LONG = 20.0
ONCE = RetryPolicy(max_attempts=1)


def done(job: Job) -> threading.Event:
    over = threading.Event()
    job.watch(over.set)
    return over


class TestTheLimits:
    def test_a_thread_that_was_idle_too_long_makes_room_for_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentkit.engine.drivers.workers.IDLE_SECONDS", 0.001)
        workers = Workers(1, "test")
        for number in range(3):
            threads: list[threading.Thread] = []
            job = workers.submit(lambda into=threads: into.append(threading.current_thread()), "m")  # type: ignore[misc]
            assert done(job).wait(LONG), number
            threads[0].join(LONG)
        workers.close()

    def test_one_model_gets_three_quarters_of_the_workers(self) -> None:
        workers, gate = Workers(4, "test"), threading.Event()
        sick = [workers.submit(lambda: gate.wait(LONG), "sick") for _ in range(5)]
        healthy = workers.submit(lambda: "fine", "healthy")
        assert done(healthy).wait(LONG)
        assert healthy.outcome() == "fine"
        assert [job.started is not None for job in sick] == [True] * 3 + [False] * 2
        gate.set()
        for job in sick:
            assert done(job).wait(LONG)
        workers.close()

    def test_stuck_calls_of_one_model_are_refused_and_another_is_served(self) -> None:
        workers, gate = Workers(4, "test"), threading.Event()
        for _ in range(3):
            job = workers.submit(lambda: gate.wait(LONG), "sick")
            until(lambda job=job: job.started is not None)  # type: ignore[misc]
            workers.abandon(job)
        assert workers.stuck == 3
        with pytest.raises(PoolExhaustedError):
            workers.submit(lambda: None, "sick")
        assert done(workers.submit(lambda: None, "healthy")).wait(LONG)
        gate.set()
        until(lambda: workers.stuck == 0)
        assert done(workers.submit(lambda: None, "sick")).wait(LONG)
        workers.close()

    def test_a_job_that_is_withdrawn_never_runs(self) -> None:
        workers, gate, ran = Workers(1, "test"), threading.Event(), threading.Event()
        first = workers.submit(lambda: gate.wait(LONG), "m")
        second = workers.submit(ran.set, "m")
        assert workers.withdraw(second)
        until(lambda: first.started is not None)
        assert not workers.withdraw(first)
        gate.set()
        assert done(workers.submit(lambda: None, "m")).wait(LONG)
        assert not ran.is_set()
        workers.close()

    def test_closing_ends_the_wait_for_a_worker(self) -> None:
        workers, gate = Workers(1, "test"), threading.Event()
        workers.submit(lambda: gate.wait(LONG), "m")
        waiting = workers.submit(lambda: None, "m")
        workers.close()
        assert done(waiting).wait(LONG)
        with pytest.raises(PoolExhaustedError, match="closed"):
            waiting.outcome()
        gate.set()

    def test_closing_ends_the_idle_threads_and_names_the_jobs_that_run(self) -> None:
        workers, gate = Workers(3, "to be closed"), threading.Event()
        jobs = [workers.submit(lambda: gate.wait(LONG), name) for name in ("m", "n")]
        until(lambda: all(job.started is not None for job in jobs))
        assert sorted(workers.close()) == ["m", "n"]
        gate.set()
        until(lambda: not [each for each in threading.enumerate() if "to be closed" in each.name])


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_closing_a_loop_cancels_its_tasks_and_names_them() -> None:
    began, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    loop = LoopThread("test")
    future, _ = loop.submit(hang(), copy_context())
    assert began.wait(LONG)
    assert len(loop.close()) == 1
    assert ended.wait(LONG)
    with pytest.raises(PoolExhaustedError, match="closed"):
        future.result(LONG)


def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing() -> None:
    waits, busy = threading.Event(), threading.Event()

    async def block() -> None:
        busy.set()
        waits.wait(LONG)

    async def begin() -> None:
        pass

    loop = LoopThread("test")
    loop.submit(block(), copy_context())
    assert busy.wait(LONG)
    coroutine = begin()
    future, cancel = loop.submit(coroutine, copy_context())
    cancel()
    waits.set()
    with pytest.raises(asyncio.CancelledError):
        future.result(LONG)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    loop.close()


class TestARefusedThread:
    def test_its_call_is_never_made_and_the_next_one_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workers, ran = Workers(1, "test"), threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(PoolExhaustedError):
                workers.submit(ran.set, "m")
        assert done(workers.submit(lambda: None, "m")).wait(LONG)
        assert not ran.is_set()
        workers.close()

    def test_a_job_that_is_withdrawn_frees_its_place_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workers, gate = Workers(4, "test"), threading.Event()
        first = workers.submit(lambda: gate.wait(LONG), "m")
        until(lambda: first.started is not None)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            second, third = (workers.submit(lambda: None, "m") for _ in range(2))
        assert workers.withdraw(second)  # it waits for the thread of the first
        gate.set()
        assert done(third).wait(LONG)
        hold = threading.Event()
        jobs = [workers.submit(lambda: hold.wait(LONG), "m") for _ in range(5)]
        until(lambda: sum(job.started is not None for job in jobs) >= 3)
        assert [job.admitted for job in jobs] == [True] * 3 + [False] * 2
        hold.set()
        workers.close()

    def test_its_call_waits_for_another_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        workers, gate = Workers(2, "test"), threading.Event()
        workers.submit(lambda: gate.wait(LONG), "m")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            job = workers.submit(lambda: "fine", "m")
        gate.set()
        assert done(job).wait(LONG)
        assert job.outcome() == "fine"
        workers.close()


class TestWaitingForAWorker:
    def test_it_is_not_the_silence_of_the_model(self) -> None:
        breaker = CircuitBreaker(policy=BreakerPolicy(failure_threshold=1))

        def slow(prompt: str, kwargs: dict[str, Any]) -> str:
            threading.Event().wait(0.15)
            return "fine"

        async def main(llm: LLMManager) -> list[Any]:
            return list(await asyncio.gather(*(llm.acomplete(f"q{n}") for n in range(16))))

        with LLMManager(enable_caching=False, retry=ONCE, max_workers=2) as llm:
            llm.register_model("m", slow, timeout=1.0, breaker=breaker)
            replies = asyncio.run(main(llm))
        assert [reply.text for reply in replies] == ["fine"] * 16
        assert breaker.statistics().failures == 0
        last = max(replies, key=lambda reply: reply.ledger.waited).ledger
        assert last.waited > 0.2
        assert last[0].waited == last.waited
        assert last[0].duration < 0.2

    @pytest.mark.parametrize("mode", ["sync", "async"])
    def test_a_call_that_no_worker_begins_is_not_made_and_not_a_failure(self, mode: str) -> None:
        gate, busy = threading.Event(), threading.Event()
        breaker = CircuitBreaker()
        calls: list[str] = []

        def blocked(prompt: str, kwargs: dict[str, Any]) -> str:
            calls.append(prompt)
            busy.set()
            gate.wait(LONG)
            return "late"

        def ask(llm: LLMManager) -> Any:
            if mode == "sync":
                return llm.complete("second", deadline=0.2)
            return asyncio.run(llm.acomplete("second", deadline=0.2))

        with (
            LLMManager(enable_caching=False, retry=ONCE, max_workers=1) as llm,
            ThreadPoolExecutor(1) as pool,
        ):
            llm.register_model("m", blocked, timeout=LONG, breaker=breaker)
            llm.register_model("backup", lambda prompt, kwargs: "from backup")
            if mode == "async":

                async def backup(prompt: str, kwargs: dict[str, Any]) -> str:
                    return "from backup"

                llm.register_model("backup", backup, replace=True)
            first: Future[Any] = pool.submit(llm.complete, "first", model="m")
            assert busy.wait(LONG)
            llm.set_fallback_chain(["m", "backup"])
            reply = ask(llm)
            gate.set()
            assert first.result(LONG).text == "late"
        assert reply.text == "from backup"
        assert reply.ledger[0].error == "PoolExhaustedError"
        assert calls == ["first"]
        figures = breaker.statistics()
        assert (figures.failures, figures.consecutive_failures) == (0, 0)

    def test_shared_streams_need_one_worker(self) -> None:
        def pieces(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
            yield from ("a ", "b")

        def read(number: int) -> str:
            return "".join(llm.stream(f"q{number}", deadline=LONG))

        with LLMManager(cache="memory", max_workers=1) as llm, ThreadPoolExecutor(8) as pool:
            llm.register_model("m", pieces, timeout=LONG)
            assert list(pool.map(read, range(8))) == ["a b"] * 8


class TestAsyncModelsOfSyncCallers:
    def test_closing_ends_their_calls_and_starts_no_loop_again(self) -> None:
        entered = threading.Event()

        async def endless(prompt: str, kwargs: dict[str, Any]) -> str:
            entered.set()
            await asyncio.sleep(LONG)
            return "late"

        llm = LLMManager(name="closing", enable_caching=False, retry=ONCE)
        llm.register_model("m", endless)
        with ThreadPoolExecutor(1) as pool:
            call: Future[Any] = pool.submit(llm.complete, "q")
            assert entered.wait(LONG)
            llm.close()
            with pytest.raises(PoolExhaustedError, match="closed"):
                call.result(LONG)
        assert not [each for each in threading.enumerate() if "closing-loop" in each.name]

    def test_a_sync_call_from_one_to_another_is_refused(self) -> None:
        async def outer(prompt: str, kwargs: dict[str, Any]) -> str:
            return llm.complete("inner", model="inner").text

        async def inner(prompt: str, kwargs: dict[str, Any]) -> str:
            return "fine"

        with LLMManager(enable_caching=False, retry=ONCE) as llm:
            llm.register_model("outer", outer)
            llm.register_model("inner", inner)
            with pytest.raises(ConfigurationError, match="wait for itself"):
                llm.complete("q", model="outer", deadline=LONG)
