"""An async call without asyncio is a clear error, and no failure of the model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
import trio

from agentkit import LLMManager
from agentkit.errors import ConfigurationError
from tests.helpers import manager_of


async def answer(prompt: str, kwargs: dict[str, Any]) -> str:
    return "fine"


async def complete(llm: LLMManager) -> None:
    await llm.acomplete("q")


async def batch(llm: LLMManager) -> None:
    await llm.abatch(["q", "q"])


async def stream(llm: LLMManager) -> None:
    async with llm.astream("q") as chunks:
        async for _ in chunks:
            pass


async def events(llm: LLMManager) -> None:
    async for _ in llm.astream("q").events():
        pass


CALLS = [complete, batch, stream, events]


def assert_untouched(llm: LLMManager) -> None:
    assert llm.get_model_info("m0")["circuit_breaker_state"] == "closed"
    assert llm.get_metrics()["total_requests"] == 0


@pytest.mark.parametrize("call", CALLS)
def test_a_call_under_trio_is_refused_with_the_remedy(
    call: Callable[[LLMManager], Awaitable[None]],
) -> None:
    with manager_of(answer) as llm:
        with pytest.raises(ConfigurationError, match=r"trio\.to_thread\.run_sync") as caught:
            trio.run(call, llm)
        assert "task of trio" in caught.value.message
        assert_untouched(llm)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_any_event_loop_is_refused(
    call: Callable[[LLMManager], Any],
) -> None:
    with manager_of(answer) as llm:
        with (
            closing(call(llm)) as coroutine,
            pytest.raises(ConfigurationError, match=r"asyncio\.run"),
        ):
            coroutine.send(None)
        assert_untouched(llm)


def test_the_remedy_works() -> None:
    with manager_of(answer) as llm:

        async def main() -> str:
            return await trio.to_thread.run_sync(llm.generate, "q")

        assert trio.run(main) == "fine"


def test_asyncio_is_served_inside_of_a_guest_run_of_trio() -> None:
    """Trio's tasks run as callbacks of the host loop, which has a running loop but no task."""
    ended: list[Any] = []

    async def host(llm: LLMManager) -> str:
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def done(outcome: Any) -> None:
            ended.append(outcome.error)
            over.set_result(None)

        trio.lowlevel.start_guest_run(
            complete, llm, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done
        )
        await over
        return await llm.agenerate("q")

    with manager_of(answer) as llm:
        assert asyncio.run(host(llm)) == "fine"
    (error,) = ended
    assert isinstance(error, ConfigurationError)
