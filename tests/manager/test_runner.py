"""Many calls at once, never more than the limit."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from agentkit.errors import ConfigurationError, LLMError
from agentkit.manager.runner import arun_bounded, run_bounded

both = pytest.mark.parametrize("run", ["threads", "tasks"])
marked: ContextVar[str] = ContextVar("marked")


def carry(run: str, call: Callable[[int], Any], items: Any, *, limit: int = 3) -> list[Any]:
    """The results of `call` in the order in which they were finished."""
    results: list[Any] = []

    def done(item: int, result: Any) -> None:
        results.append((item, result))

    if run == "threads":
        run_bounded(call, items, done, max_concurrency=limit, name="test-runner")
        return results

    async def acall(item: int) -> Any:
        await asyncio.sleep(0)
        return call(item)

    asyncio.run(arun_bounded(acall, items, done, max_concurrency=limit))
    return results


@both
def test_every_item_gets_its_result(run: str) -> None:
    results = carry(run, lambda item: item * 10, range(20))
    assert sorted(results) == [(item, item * 10) for item in range(20)]
    assert carry(run, lambda item: item, []) == []


def test_the_limit_is_reached_and_never_exceeded_by_threads() -> None:
    meeting = threading.Barrier(3, timeout=10)
    carry("threads", lambda _: meeting.wait(), range(9))
    assert not meeting.broken


def test_the_limit_is_reached_and_never_exceeded_by_tasks() -> None:
    async def main() -> int:
        running = most = 0

        async def call(_: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

        await arun_bounded(call, range(9), lambda *_: None, max_concurrency=3)
        return most

    assert asyncio.run(main()) == 3


@both
def test_an_item_is_taken_only_when_a_call_is_finished(run: str) -> None:
    events: list[str] = []

    def items() -> Iterator[int]:
        for item in range(3):
            events.append(f"take {item}")
            yield item

    carry(run, lambda item: events.append(f"call {item}"), items(), limit=1)
    assert events == ["take 0", "call 0", "take 1", "call 1", "take 2", "call 2"]


@both
def test_the_first_exception_stops_the_run_and_is_raised(run: str) -> None:
    called: list[int] = []

    def call(item: int) -> None:
        called.append(item)
        if item == 1:
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        carry(run, call, range(100), limit=1)
    assert called == [0, 1]


@both
def test_an_exception_of_the_items_is_raised(run: str) -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        carry(run, lambda item: item, items(), limit=1)


def test_an_exception_cancels_the_other_tasks() -> None:
    async def main() -> list[str]:
        cancelled: list[str] = []

        async def call(item: int) -> None:
            if item == 0:
                await asyncio.sleep(0)
                raise ValueError("stop")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(f"{item}")
                raise

        with pytest.raises(ValueError, match="stop"):
            await arun_bounded(call, range(9), lambda *_: None, max_concurrency=3)
        return sorted(cancelled)

    assert sorted(asyncio.run(main())) == ["1", "2"]


@both
def test_calls_see_the_callers_context(run: str) -> None:
    marked.set("here")
    assert carry(run, lambda _: marked.get(), [0]) == [(0, "here")]


@both
@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_a_limit_that_is_not_a_positive_whole_number_is_refused(run: str, limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        carry(run, lambda item: item, [1], limit=limit)


def test_a_call_that_cancels_itself_is_an_error_and_not_ignored() -> None:
    async def call(item: int) -> None:
        if item == 1:
            raise asyncio.CancelledError

    with pytest.raises(LLMError, match="cancelled itself"):
        asyncio.run(arun_bounded(call, range(9), lambda *_: None, max_concurrency=3))


def test_a_call_that_cancels_its_whole_task_is_an_error_and_not_ignored() -> None:
    async def call(item: int) -> None:
        task = asyncio.current_task()
        if item == 1 and task is not None:
            task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(LLMError, match="cancelled itself"):
        asyncio.run(arun_bounded(call, range(9), lambda *_: None, max_concurrency=3))


def test_ctrl_c_ends_the_run_at_once_and_no_further_item_is_taken(ctrl_c_works: None) -> None:
    full, release = threading.Barrier(3, timeout=10), threading.Event()
    called: list[int] = []
    threads: list[threading.Thread] = []

    def call(item: int) -> None:
        called.append(item)
        threads.append(threading.current_thread())
        if full.wait() == 0:
            os.kill(os.getpid(), signal.SIGINT)
        release.wait(10)

    with pytest.raises(KeyboardInterrupt):
        carry("threads", call, range(60))
    release.set()
    for thread in threads:
        thread.join(10)
    assert sorted(called) == [0, 1, 2]
