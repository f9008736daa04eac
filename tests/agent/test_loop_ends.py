"""How a run ends: with an answer that matches its type, or because it is interrupted."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading

import pytest
from pydantic import BaseModel

from agentkit.errors import (
    StructuredOutputError,
)
from agentkit.types import ToolCall
from tests.agent.runs import (
    Go,
    Model,
    agent_of,
    each_way,
    response_with,
    want,
    weather,
)


class City(BaseModel):
    name: str
    sunny: bool


@each_way
def test_only_the_final_answer_has_to_match(go: Go) -> None:
    model = Model(
        response_with(ToolCall("1", "weather", {"city": "Paris"}), text="Let me look."),
        "Sunny!",
        '{"name": "Paris", "sunny": true}',
    )
    agent = agent_of(model, attempts=2)
    result = go(agent, "Weather?", tools=[weather], response_model=City)
    assert result.parsed == City(name="Paris", sunny=True)
    assert [bool(step.results) for step in result.steps] == [True, False]
    assert model.requests[0].response_format is not None
    assert "$: Invalid JSON" in model.requests[2].messages[-1].text


@each_way
def test_an_answer_that_never_matches_is_an_error(go: Go) -> None:
    model = Model(want("weather", city="Paris"), then="Sunny!")
    with pytest.raises(StructuredOutputError):
        go(agent_of(model), "Weather?", tools=[weather], response_model=City)


def test_cancelling_a_run_cancels_its_tools() -> None:
    started, cancelled = asyncio.Event(), threading.Event()

    async def hang() -> None:
        """Hang."""
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main() -> None:
        agent = agent_of(Model(want("hang"), "ok"))
        task = asyncio.ensure_future(agent.arun("Try", tools=[hang]))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled.is_set()
        assert len(asyncio.all_tasks()) == 1
        metrics = agent.get_performance_metrics()
        assert (metrics["total_tasks"], metrics["failed_tasks"]) == (1, 0)

    asyncio.run(main())


def test_ctrl_c_cancels_the_tools_of_a_blocking_run(ctrl_c_works: None) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        """Interrupt, then hang."""
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(KeyboardInterrupt):
        agent_of(Model(want("hang"), "ok")).run("Try", tools=[hang])
    assert cancelled.is_set()


def test_a_tool_that_exits_the_process_is_not_logged_as_unhandled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave() -> None:
        """Leave."""
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        agent_of(Model(want("leave"))).run("Leave.", tools=[leave])
    gc.collect()  # asyncio reports when it loses a task
    assert [each.message for each in caplog.records if each.name == "asyncio"] == []
