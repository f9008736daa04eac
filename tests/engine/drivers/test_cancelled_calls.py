"""Cancellations from outside: of a stream whose time is up, and of a call on a worker thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentkit import LLMManager, Response, RetryPolicy
from agentkit import errors as e
from tests.helpers import until

pytestmark = pytest.mark.threads


class Coincidence:
    """A model whose time limit ends, and whose caller is cancelled in the same moment."""

    def __init__(self) -> None:
        self.caller: asyncio.Task[Any] | None = None

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # the time limit
            assert self.caller is not None
            self.caller.cancel()
            raise

    async def complete(self, prompt: str, options: dict[str, Any]) -> str:
        await self.wait()
        return "never"

    async def stream(self, prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
        if not prompt:
            yield "never"
        await self.wait()

    async def stall(self, prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
        yield "begun"
        await self.wait()


async def read(llm: LLMManager) -> str:
    async with llm.astream("hi") as stream:
        return "".join([piece async for piece in stream])


@pytest.mark.parametrize("kind", ["complete", "stream", "stall"])
def test_a_cancellation_at_the_time_limit_stays_a_cancellation(kind: str) -> None:
    model = Coincidence()

    async def main() -> None:
        async with LLMManager(cache=None) as llm:
            llm.register_model("m", getattr(model, kind), timeout=0.05)
            llm.register_model("n", lambda prompt, options: "never")
            llm.set_fallback_chain(["m", "n"])
            asks = llm.agenerate("hi") if kind == "complete" else read(llm)
            model.caller = asyncio.ensure_future(asks)
            with pytest.raises(asyncio.CancelledError):
                await model.caller
            assert model.caller.cancelled()
            assert llm.get_model_info("m")["circuit_breaker_state"] == "closed"
            assert llm.get_model_info("n")["stats"]["requests"] == 0

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["complete", "stream", "stall"])
def test_a_time_limit_alone_leaves_the_task_uncancelled(kind: str) -> None:
    async def silent(prompt: str, options: dict[str, Any]) -> str:
        await asyncio.Event().wait()
        return "never"

    async def silent_stream(prompt: str, options: dict[str, Any]) -> AsyncIterator[str]:
        if kind == "stall":
            yield "begun"
        await asyncio.Event().wait()

    async def main() -> int:
        async with LLMManager(cache=None, retry=RetryPolicy(max_attempts=1)) as llm:
            llm.register_model("m", silent if kind == "complete" else silent_stream, timeout=0.05)
            asks = llm.agenerate("hi") if kind == "complete" else read(llm)
            with pytest.raises(e.LLMError) as caught:
                await asks
            expected = e.StreamInterruptedError if kind == "stall" else e.ProviderTimeoutError
            assert type(caught.value) is expected
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(main()) == 0


class Slow:
    """A sync model that works until it is released, with a scope that says it was cancelled."""

    def __init__(self) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self, prompt: str, options: dict[str, Any]) -> str:
        self.calls += 1
        self.began.set()
        self.release.wait(10)
        return "late"


class SlowStream(Slow):
    def __call__(self, prompt: str, options: dict[str, Any]) -> Iterator[str]:  # type: ignore[override]
        yield "begun"
        yield super().__call__(prompt, options)


@pytest.mark.parametrize("kind", ["complete", "stream"])
def test_a_cancelled_call_leaves_its_worker_and_frees_it_at_its_end(kind: str) -> None:
    model = Slow() if kind == "complete" else SlowStream()

    async def main() -> None:
        async with LLMManager(cache=None) as llm:
            llm.register_model("m", model)
            asks = llm.agenerate("hi") if kind == "complete" else read(llm)
            task = asyncio.ensure_future(asks)
            await asyncio.to_thread(model.began.wait, 10)
            assert llm.get_metrics()["stuck_calls"] == 0
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert llm.get_metrics()["stuck_calls"] == 1
            assert llm.get_model_info("m")["stats"]["failures"] == 0
            model.release.set()
            await asyncio.to_thread(until, lambda: llm.get_metrics()["stuck_calls"] == 0)

    asyncio.run(main())


def test_a_call_that_is_cancelled_before_a_worker_begins_it_is_never_made() -> None:
    model = Slow()

    async def main() -> Response[Any]:
        async with LLMManager(cache=None, max_workers=1) as llm:
            llm.register_model("m", model)
            first = asyncio.ensure_future(llm.acomplete("first"))
            await asyncio.to_thread(model.began.wait, 10)
            second = asyncio.ensure_future(llm.acomplete("second"))
            for _ in range(50):  # until it waits for the worker
                await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert llm.get_metrics()["stuck_calls"] == 0
            model.release.set()
            return await first

    assert asyncio.run(main()).text == "late"
    assert model.calls == 1
