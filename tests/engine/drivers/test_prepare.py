"""What a provider prepares, such as an SDK's import, belongs to no attempt."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agentkit import LLMManager, Response
from agentkit.testing import FakeClock
from agentkit.types import Request


class Slow:
    """A provider that needs five seconds to prepare."""

    def __init__(self, clock: FakeClock, error: Exception | None = None) -> None:
        self._clock = clock
        self._error = error
        self.prepared_on: list[str] = []

    def prepare(self) -> None:
        self.prepared_on.append(threading.current_thread().name)
        self._clock.advance(5.0)
        if self._error is not None:
            raise self._error

    def send(self, request: Request) -> str:
        return "fine"

    async def asend(self, request: Request) -> str:
        return "fine"


def twice(llm: LLMManager, mode: str) -> Response[str]:
    async def main() -> Response[str]:
        first = await llm.acomplete("q")
        await llm.acomplete("q")
        return first

    if mode == "async":
        return asyncio.run(main())
    first = llm.complete("q")
    llm.complete("q")
    return first


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("error", [None, ImportError("broken")], ids=["works", "raises"])
def test_it_is_done_once_before_the_clock_starts_and_off_the_loop(
    mode: str, error: Exception | None
) -> None:
    clock = FakeClock()
    provider = Slow(clock, error)
    with LLMManager(enable_caching=False, clock=clock) as llm:
        llm.register_model("m", provider, timeout=1.0)
        reply = twice(llm, mode)
    assert reply.text == "fine"
    assert [entry.duration for entry in reply.ledger] == [0.0]
    (thread,) = provider.prepared_on
    assert (thread == threading.main_thread().name) == (mode == "sync")
