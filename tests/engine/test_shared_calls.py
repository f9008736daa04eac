"""Identical calls at the same time: shared by threads and tasks, and none harms another."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from agentkit import (
    Budget,
    BudgetExceededError,
    DeadlineExceededError,
    LLMManager,
    ProviderError,
    ProviderTimeoutError,
    Response,
    RetryPolicy,
)
from agentkit.engine.effects import Sleep
from agentkit.engine.exchange import StreamExchange
from agentkit.engine.shared_call import AHEAD, TOGETHER, Room, SharedCall, SharedCalls
from agentkit.types import TextDelta
from tests.engine.stage import Stage

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


class Claim:
    """A claim in a fleet that counts how often it is closed."""

    question: Any = None
    news: Any = None

    def __init__(self) -> None:
        self.closed = 0

    def step(self, reply: Any) -> None:
        raise NotImplementedError

    def step_after_news(self) -> None:
        raise NotImplementedError

    def close(self, outcome: Response[Any] | Exception | None) -> None:
        assert outcome is None
        self.closed += 1


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


class FirstFails:
    """An async model whose first call fails once the test lets it; later ones answer."""

    def __init__(self, error: Exception) -> None:
        self.calls = 0
        self.entered = threading.Event()
        self.fail = asyncio.Event()
        self._error = error

    async def __call__(self, prompt: str, kwargs: dict[str, Any]) -> str:
        self.calls += 1
        if self.calls > 1:
            return "fine"
        self.entered.set()
        await self.fail.wait()
        raise self._error


def leader_and_follower(
    model: FirstFails, leader: dict[str, Any], follower: dict[str, Any]
) -> tuple[Any, Any]:
    """What the caller that leads gets, and the one that joins it while its call is under way."""
    retry = RetryPolicy(max_attempts=2, base_delay=0.0)

    async def main() -> tuple[Any, ...]:
        async with LLMManager(cache="memory", retry=retry) as llm:
            llm.register_model("m", model)
            first = asyncio.create_task(llm.acomplete("same", **leader))
            await seen(model.entered)
            second = asyncio.create_task(llm.acomplete("same", **follower))
            await asyncio.sleep(0.01)
            assert model.calls == 1
            model.fail.set()
            return tuple(await asyncio.gather(first, second, return_exceptions=True))

    leads, follows = asyncio.run(main())
    return leads, follows


@pytest.mark.parametrize(
    ("limit", "error", "expected"),
    [
        ({"retry": RetryPolicy(max_attempts=1)}, ProviderError("down", status=503), ProviderError),
        ({"budget": Budget(tokens=1500)}, ProviderTimeoutError("slow"), BudgetExceededError),
    ],
    ids=["retry", "budget"],
)
def test_an_error_from_the_leaders_own_limits_is_not_its_followers(
    limit: dict[str, Any], error: Exception, expected: type[Exception]
) -> None:
    model = FirstFails(error)
    leads, follows = leader_and_follower(model, limit, {})
    assert isinstance(leads, expected)
    assert isinstance(follows, Response)
    assert (follows.text, model.calls) == ("fine", 2)


def test_followers_with_the_leaders_limits_have_its_error() -> None:
    once = RetryPolicy(max_attempts=1)
    model = FirstFails(ProviderError("down", status=503))
    leads, follows = leader_and_follower(
        model, {"retry": once}, {"retry": RetryPolicy(max_attempts=1)}
    )
    assert isinstance(leads, ProviderError)
    assert isinstance(follows, ProviderError)
    assert model.calls == 1
    assert follows.ledger is not None
    assert [(entry.sent, entry.reason) for entry in follows.ledger] == [
        (False, "shared_call_failed")
    ]


def test_a_follower_with_other_limits_has_the_leaders_response(llm: LLMManager, gate: Gate) -> None:
    async def main() -> list[Response[Any]]:
        first = asyncio.create_task(llm.acomplete("same"))
        await seen(gate.entered)
        second = asyncio.create_task(llm.acomplete("same", retry=RetryPolicy(max_attempts=7)))
        await asyncio.sleep(0)
        gate.open()
        return [await first, await second]

    assert [(each.text, each.ledger.cache) for each in asyncio.run(main())] == [
        ("open", "miss"),
        ("open", "shared"),
    ]


def routed(llm: LLMManager, gate: Gate) -> LLMManager:
    """`llm` with a fallback behind the gate."""
    llm.register_model("fallback", lambda prompt, kwargs: "fallback")
    llm.set_active_model("gate")
    llm.set_fallback_chain(["fallback"])
    return llm


def test_a_follower_with_more_time_stays_with_a_model_that_the_leader_left(
    llm: LLMManager, gate: Gate
) -> None:
    async def main() -> tuple[str, str]:
        hurried = asyncio.create_task(routed(llm, gate).acomplete("same", deadline=0.2))
        await seen(gate.entered)
        patient = asyncio.create_task(llm.acomplete("same", deadline=60))
        first = await hurried
        gate.open()
        return first.text, (await patient).text

    assert asyncio.run(main()) == ("fallback", "open")
    assert gate.calls == 2


def test_followers_with_as_little_time_leave_a_silent_model_with_the_leader(
    llm: LLMManager, gate: Gate
) -> None:
    async def main() -> list[Any]:
        routed(llm, gate)
        asked = (llm.acomplete("same", deadline=3.0) for _ in range(20))
        return [*await asyncio.gather(*asked)]

    assert {each.text for each in asyncio.run(main())} == {"fallback"}
    assert gate.calls == 1


def _one_word(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
    yield "one"


class Endless:
    """A stream that continues until it is closed, and counts what was taken of it."""

    def __init__(self) -> None:
        self.given = 0

    def words(self, prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
        for number in range(10_000):
            self.given += 1
            yield f"{number} "

    async def awords(self, prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
        for word in self.words(prompt, kwargs):
            yield word

    def rested(self) -> int:
        """How much was taken once nothing more is taken."""
        before = -1
        while before != self.given:
            before = self.given
            threading.Event().wait(0.05)
        return before


@pytest.mark.parametrize("native", [True, False], ids=["async", "blocking"])
def test_a_stream_is_not_read_far_ahead_of_its_consumer(native: bool) -> None:
    endless = Endless()

    async def main() -> list[str]:
        async with LLMManager(cache="memory") as llm:
            llm.register_model("m", endless.awords if native else endless.words)
            async with llm.astream("same") as stream:
                text = await anext(stream)
                given = await asyncio.to_thread(endless.rested)
                assert AHEAD <= given < AHEAD + 10
                return [text, *[text async for text in stream]]

    assert asyncio.run(main()) == [f"{number} " for number in range(10_000)]


def test_a_blocking_consumer_slows_its_stream_too_and_may_leave() -> None:
    endless = Endless()
    with LLMManager(cache="memory") as llm:
        llm.register_model("m", endless.words)
        with llm.stream("same") as stream:
            assert next(stream) == "0 "
            assert AHEAD <= endless.rested() < AHEAD + 10
            assert next(stream) == "1 "
        given = endless.rested()
        assert given < AHEAD + 10
        assert "".join(llm.stream("same")).endswith("9999 ")


def test_nothing_keeps_the_keys_of_shared_streams(llm: LLMManager) -> None:
    """A program that streams many prompts would grow by each of them."""
    llm.register_model("words", _one_word)

    def keys() -> int:
        gc.collect()
        tables = (each for each in gc.get_objects() if isinstance(each, dict))
        return sum(
            isinstance(key, str) and key.startswith("stream:")
            for table in tables
            for key in list(table)
        )

    before = keys()
    for number in range(5):
        assert "".join(llm.stream(f"prompt {number}", model="words")) == "one"
    assert keys() == before


def test_the_fastest_consumer_sets_the_pace_and_the_slowest_misses_nothing() -> None:
    endless = Endless()

    async def main() -> None:
        async with LLMManager(cache="memory") as llm:
            llm.register_model("m", endless.awords)
            async with llm.astream("same") as slow, llm.astream("same") as fast:
                assert await anext(slow) == "0 "
                assert len([text async for text in fast]) == 10_000
                assert len([text async for text in slow]) == 9_999

    asyncio.run(main())
    assert endless.given == 10_000


def test_the_deadline_is_extended_while_every_consumer_pauses() -> None:
    endless = Endless()

    async def main() -> int:
        async with LLMManager(cache="memory") as llm:
            llm.register_model("m", endless.awords)
            async with llm.astream("same", deadline=1.0) as stream:
                await anext(stream)
                await asyncio.sleep(1.5)
                return len([text async for text in stream])

    assert asyncio.run(main()) == 9_999


def test_a_pause_of_every_consumer_extends_the_deadline_once() -> None:
    """By the part, too, for which the caller that leads held an event and counted it itself."""
    stage = Stage()
    call = stage.call(deadline=60.0)
    shared = TestSignals.stream()
    exchange = StreamExchange("raise").into(shared)
    flow = exchange.emit(call, [TextDelta("x")] * AHEAD)
    assert isinstance(next(flow), Sleep)
    stage.clock.advance(3.0)
    call.deadline.extend(1.0)
    while not shared.has_room():
        shared.take(shared.taken)
    with suppress(StopIteration):
        flow.send(None)
        pytest.fail("it waits although there is room")
    assert call.deadline.left(stage.clock.now()) == 60.0


class TestSignals:
    """What wakes the followers and the leader of a shared stream."""

    @staticmethod
    def stream() -> SharedCall:
        joined = SharedCalls().join("key", thread=1, blocking=True)
        assert joined is not None
        shared, leads = joined
        assert leads
        return shared

    def test_a_follower_that_no_longer_waits_is_not_woken(self) -> None:
        shared, woken = self.stream(), [0, 0]

        def wake(which: int) -> None:
            woken[which] += 1

        stays, leaves = partial(wake, 0), partial(wake, 1)
        news = shared.beyond(0)
        news.subscribe(stays)
        news.subscribe(leaves)
        news.unsubscribe(leaves)
        shared.put([TextDelta("x")])
        assert woken == [1, 0]
        shared.put([TextDelta("y")])
        assert woken == [1, 0], "a signal wakes once"
        news.subscribe(leaves)
        assert woken == [1, 1], "there is an event already"

    def test_the_leader_is_ahead_of_the_fastest_consumer_by_so_many_events_and_no_more(
        self,
    ) -> None:
        shared = self.stream()
        for number in range(AHEAD):
            assert not shared.is_full()
            shared.put([TextDelta(str(number))])
        assert shared.is_full()
        resumed: list[int] = []
        Room(shared).subscribe(lambda: resumed.append(shared.taken))
        for seen in range(0, AHEAD // 2, TOGETHER):
            assert not shared.has_room()
            assert len(shared.take(seen)) == TOGETHER
        assert shared.has_room()
        assert resumed == [shared.taken]
        assert AHEAD // 2 <= shared.taken < AHEAD // 2 + TOGETHER

    def test_a_claim_that_was_not_taken_ends_with_the_call(self) -> None:
        left, finished, taken = (Claim() for _ in range(3))
        shared = self.stream()
        shared.claim = left
        shared.leave()
        shared = self.stream()
        shared.claim = finished
        shared.finish(None, RuntimeError())
        shared = self.stream()
        shared.claim = taken
        assert shared.take_claim() is taken
        shared.leave()
        assert [left.closed, finished.closed, taken.closed] == [1, 1, 0]

    def test_the_last_caller_that_leaves_wakes_a_leader_that_waits(self) -> None:
        shared, resumed = self.stream(), list[str]()
        for number in range(AHEAD):
            shared.put([TextDelta(str(number))])
        Room(shared).subscribe(lambda: resumed.append("resumed"))
        assert not resumed
        shared.leave()
        assert resumed == ["resumed"]
