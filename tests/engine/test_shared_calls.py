"""Identical calls at the same time: shared by threads and tasks, and none harms another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from agentkit import DeadlineExceededError, LLMManager, RetryPolicy

pytestmark = pytest.mark.threads


class Gate:
    """An async model that answers when it is opened, and knows what became of its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.entered = threading.Event()
        self.cancelled = threading.Event()
        self._opened = threading.Event()
        self._waiting: list[Callable[[], object]] = []

    async def __call__(self, prompt: str, kwargs: dict[str, Any]) -> str:
        self.calls += 1
        await self.passed()
        return "open"

    async def passed(self) -> None:
        """Wait until it is opened."""
        loop, opened = asyncio.get_running_loop(), asyncio.Event()
        self._waiting.append(lambda: loop.call_soon_threadsafe(opened.set))
        self.entered.set()
        try:
            if not self._opened.is_set():
                await opened.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def open(self) -> None:
        self._opened.set()
        for wake in self._waiting:
            with suppress(RuntimeError):  # a loop that is closed
                wake()


class EmptyStore:
    """A store that keeps nothing and records look-ups."""

    def __init__(self) -> None:
        self.looked = threading.Event()

    def get(self, key: str) -> bytes | None:
        self.looked.set()
        return None

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep nothing."""


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def store() -> EmptyStore:
    return EmptyStore()


@pytest.fixture
def llm(gate: Gate, store: EmptyStore) -> Iterator[LLMManager]:
    with LLMManager(cache=store, retry=RetryPolicy(max_attempts=1)) as manager:
        manager.register_model("gate", gate, {"version": "1"})
        yield manager


async def seen(event: threading.Event) -> None:
    """Wait for what another thread or task does."""
    assert await asyncio.to_thread(event.wait, 10)


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def carry() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=carry)
    thread.start()
    return thread, results


@pytest.mark.promise("A13")
def test_a_hundred_identical_tasks_make_one_upstream_call(llm: LLMManager, gate: Gate) -> None:
    async def main() -> list[str]:
        gate.open()
        return await asyncio.gather(*(llm.agenerate("same") for _ in range(100)))

    assert asyncio.run(main()) == ["open"] * 100
    assert gate.calls == 1


def test_cancelling_the_first_caller_does_not_affect_the_others(
    llm: LLMManager, gate: Gate
) -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(llm.agenerate("same")) for _ in range(3)]
        await seen(gate.entered)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        gate.open()
        return await asyncio.gather(*tasks[1:])

    assert asyncio.run(main()) == ["open", "open"]
    assert (gate.calls, gate.cancelled.is_set()) == (1, False)


def test_when_all_are_cancelled_the_upstream_call_is_too(llm: LLMManager, gate: Gate) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(llm.agenerate("same")) for _ in range(3)]
        await seen(gate.entered)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await seen(gate.cancelled)

    asyncio.run(main())
    assert gate.calls == 1


@pytest.mark.promise("A13")
def test_a_thread_shares_the_call_of_a_task(llm: LLMManager, gate: Gate, store: EmptyStore) -> None:
    async def main() -> str:
        task = asyncio.create_task(llm.agenerate("same"))
        await seen(gate.entered)
        store.looked.clear()
        thread, results = in_thread(lambda: llm.generate("same"))
        await seen(store.looked)
        gate.open()
        answer = await task
        await asyncio.to_thread(thread.join)
        assert results == [answer]
        return answer

    assert asyncio.run(main()) == "open"
    assert gate.calls == 1


def test_a_task_shares_the_call_of_a_thread(llm: LLMManager, store: EmptyStore) -> None:
    calls: list[str] = []
    entered, release = threading.Event(), threading.Event()

    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        calls.append(prompt)
        entered.set()
        release.wait(10)
        return "slow"

    llm.register_model("sync", model, {"version": "1"})
    thread, results = in_thread(lambda: llm.complete("same", model="sync").text)
    entered.wait(10)

    async def main() -> str:
        store.looked.clear()
        task = asyncio.create_task(llm.acomplete("same", model="sync"))
        await seen(store.looked)
        release.set()
        return (await task).text

    assert asyncio.run(main()) == "slow"
    thread.join()
    assert (results, calls) == (["slow"], ["same"])


def test_when_the_leaders_loop_dies_a_follower_takes_over(
    llm: LLMManager, gate: Gate, store: EmptyStore
) -> None:
    """The loop is dropped without cancelling anything, which asyncio.run would not do."""
    loop = asyncio.new_event_loop()
    leader = loop.create_task(llm.agenerate("same"))
    loop.run_until_complete(seen(gate.entered))
    store.looked.clear()
    thread, results = in_thread(lambda: llm.generate("same"))
    loop.run_until_complete(seen(store.looked))
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.tasks._unregister_task(leader)
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    leader._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gate.open()
    thread.join(10)
    assert results == ["open"]
    assert gate.calls == 2


def test_a_blocking_call_on_the_leaders_own_loop_goes_alone(llm: LLMManager, gate: Gate) -> None:
    async def main() -> None:
        task = asyncio.create_task(llm.agenerate("same"))
        await seen(gate.entered)
        gate.entered.clear()

        def open_when_entered() -> None:
            assert gate.entered.wait(10)
            gate.open()

        opener, _ = in_thread(open_when_entered)
        assert llm.generate("same") == "open"
        assert await task == "open"
        opener.join()

    asyncio.run(main())
    assert gate.calls == 2


def test_each_waiter_keeps_its_own_deadline(llm: LLMManager, gate: Gate) -> None:
    async def main() -> None:
        patient = asyncio.create_task(llm.acomplete("same"))
        await seen(gate.entered)
        with pytest.raises(DeadlineExceededError):
            await llm.acomplete("same", deadline=0.02)
        gate.open()
        assert (await patient).text == "open"

    asyncio.run(main())
    assert gate.calls == 1


def test_a_leader_in_a_hurry_does_not_fail_the_patient(llm: LLMManager, gate: Gate) -> None:
    async def main() -> None:
        hasty = asyncio.create_task(llm.acomplete("same", deadline=0.05))
        await seen(gate.entered)
        patient = asyncio.create_task(llm.acomplete("same"))
        with pytest.raises(DeadlineExceededError):
            await hasty
        gate.open()
        assert (await patient).text == "open"

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_identical_streams_share_one_upstream_and_late_readers_see_all(
    llm: LLMManager, kind: str
) -> None:
    calls: list[str] = []

    def words(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
        calls.append(prompt)
        yield from ("a ", "b ", "c")

    async def awords(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
        calls.append(prompt)
        for word in ("a ", "b ", "c"):
            await asyncio.sleep(0)
            yield word

    llm.register_model("words", words if kind == "sync" else awords)

    async def read() -> list[str]:
        async with llm.astream("same", model="words") as stream:
            return [text async for text in stream]

    async def main() -> list[list[str]]:
        readers: list[Awaitable[list[str]]] = [read() for _ in range(100)]
        return await asyncio.gather(*readers)

    results = asyncio.run(main())
    assert calls == ["same"]
    assert {"".join(result) for result in results} == {"a b c"}


def test_a_reader_who_leaves_does_not_stop_the_others(llm: LLMManager, gate: Gate) -> None:
    async def words(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
        yield "a "
        await gate.passed()
        yield "b"

    llm.register_model("words", words)

    async def main() -> list[str]:
        first = llm.astream("same", model="words")
        assert await anext(aiter(first)) == "a "
        second = llm.astream("same", model="words")
        assert await anext(aiter(second)) == "a "
        await first.aclose()
        gate.open()
        return [text async for text in second]

    assert asyncio.run(main()) == ["b"]


def test_the_last_reader_who_leaves_closes_the_upstream(llm: LLMManager) -> None:
    closed = threading.Event()

    async def endless(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await asyncio.sleep(0)
        finally:
            closed.set()

    llm.register_model("endless", endless)

    async def main() -> None:
        async with llm.astream("same", model="endless") as stream:
            async for _ in stream:
                break
        await seen(closed)

    asyncio.run(main())
    assert llm.get_model_info("endless")["circuit_breaker_state"] == "closed"
