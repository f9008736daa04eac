"""A streamed run yields events as they happen, and returns what `run` returns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit.agent.agent import Agent
from agentkit.agent.events import (
    PartialAnswer,
    RunFinished,
    StepFinished,
    ToolCallFinished,
    ToolCallStarted,
)
from agentkit.agent.runs.store import RunStore
from agentkit.errors import AgentStateError, LLMError, ServerError
from agentkit.manager.manager import LLMManager
from agentkit.output.tools import tool
from agentkit.testing import ScriptedModel
from agentkit.types import (
    End,
    ReasoningDelta,
    Request,
    Response,
    StreamEvent,
    TextDelta,
    ToolCall,
    Usage,
)
from tests.agent.journal.helpers import DictJournal


class Model:
    """A provider that streams what it was given, one list of events for each request."""

    capabilities = frozenset({"messages", "tools", "json_schema"})

    def __init__(self, *answers: list[StreamEvent]) -> None:
        self.answers = list(answers)
        self.closed = 0

    def send(self, request: Request) -> Response[Any]:
        raise AssertionError("a streamed run streams")

    def stream(self, request: Request) -> Iterator[StreamEvent]:
        try:
            yield from self.answers.pop(0)
        finally:
            self.closed += 1

    async def astream(self, request: Request) -> AsyncIterator[StreamEvent]:
        try:
            for event in self.answers.pop(0):
                yield event
        finally:
            self.closed += 1


def agent_with(model: Any, *tools: Any, **options: Any) -> Agent:
    llm = LLMManager(enable_caching=False, max_retries=1)
    llm.register_model("m", model)
    return Agent(llm, instructions="Answer.", tools=tools, **options)


def ending(*calls: ToolCall) -> End:
    return End("tool_calls" if calls else "stop", Usage(3, 2), tool_calls=calls)


def collect(agent: Agent, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
    with agent.stream(*args, **kwargs) as events:
        found = list(events)
    return found, events.result


def acollect(agent: Agent, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
    async def main() -> tuple[list[Any], Any]:
        async with agent.astream(*args, **kwargs) as events:
            return [event async for event in events], events.result

    return asyncio.run(main())


each_way = pytest.mark.parametrize("go", [collect, acollect])
LOOK = ToolCall("a", "look", {"x": 1})


@tool(effect="none")
def look(x: int) -> str:
    """Look."""
    return f"saw {x}"


@each_way
def test_the_events_of_a_run_come_in_order(go: Any) -> None:
    model = Model(
        [ReasoningDelta("Hm."), TextDelta("Let me "), TextDelta("see."), ending(LOOK)],
        [TextDelta("One."), ending()],
    )
    agent = agent_with(model, look)
    events, result = go(agent, "What is there?")
    kinds = [type(event) for event in events]
    assert kinds == [
        ReasoningDelta,
        TextDelta,
        TextDelta,
        ToolCallStarted,
        ToolCallFinished,
        StepFinished,
        TextDelta,
        StepFinished,
        RunFinished,
    ]
    assert (events[3].call, events[3].step) == (LOOK, 1)
    assert (events[4].result.content, events[4].step) == ("saw 1", 1)
    assert [events[5].step, events[7].step] == list(result.steps)
    assert events[-1].result is result
    assert (result.text, result.usage) == ("One.", Usage(6, 4))
    assert agent.get_performance_metrics()["successful_tasks"] == 1


@each_way
def test_results_are_yielded_as_they_arrive(go: Any) -> None:
    """The slow tool waits until the event of the fast one was seen."""
    seen = threading.Event()

    @tool(effect="none")
    def wait() -> str:
        """Wait."""
        return str(seen.wait(10))

    calls = (ToolCall("slow", "wait"), LOOK)
    model = Model([ending(*calls)], [TextDelta("Done."), ending()])
    agent = agent_with(model, wait, look)

    def watch() -> Any:
        with agent.stream("Go.") as events:
            for event in events:
                if isinstance(event, ToolCallFinished) and event.result.call is LOOK:
                    seen.set()
        return events.result

    async def awatch() -> Any:
        async with agent.astream("Go.") as events:
            async for event in events:
                if isinstance(event, ToolCallFinished) and event.result.call is LOOK:
                    seen.set()
        return events.result

    result = watch() if go is collect else asyncio.run(awatch())
    assert [each.content for each in result.steps[0].results] == ["True", "saw 1"]


class City(BaseModel):
    name: str
    people: int


@each_way
def test_a_typed_answer_arrives_in_partial_instances(go: Any) -> None:
    model = Model([TextDelta('{"name": "Paris", '), TextDelta('"people": 2}'), ending()])
    events, result = go(agent_with(model), "Which city?", response_model=City)
    partial = [event.instance for event in events if isinstance(event, PartialAnswer)]
    assert partial[0].name == "Paris"
    assert partial[-1] == result.parsed == City(name="Paris", people=2)


@each_way
def test_recorded_steps_appear_without_deltas(go: Any) -> None:
    store = RunStore("memory")
    model = Model([TextDelta("See."), ending(LOOK)], [TextDelta("One."), ending()])
    first, result = go(agent_with(model, look, journal=store), "Go.", run_id="r")
    again, repeated = go(agent_with(Model(), look, journal=store), "Go.", run_id="r")
    assert repeated == result
    assert [event for event in first if not isinstance(event, TextDelta)] == again


@each_way
def test_a_journal_of_one_method_gets_steps_and_its_events_follow_the_step(go: Any) -> None:
    journal = DictJournal()
    model = Model([TextDelta("One."), ending()])
    events, result = go(agent_with(model), "Go.", run_id="r", journal=journal)
    assert events[0] == TextDelta("One.")
    assert list(journal.steps) == ["start", "1.model"]
    assert go(agent_with(Model()), "Go.", run_id="r", journal=journal)[1] == result


def test_leaving_a_stream_early_closes_the_stream_of_the_model() -> None:
    model = Model([TextDelta("a"), TextDelta("b"), ending()])
    store = RunStore("memory")
    agent = agent_with(model, journal=store)
    with agent.stream("Go.", run_id="r") as events:
        assert next(events) == TextDelta("a")
        assert model.closed == 0
    assert model.closed == 1
    assert list(events) == []
    assert store.run("r").status == "abandoned"
    with pytest.raises(LLMError, match="no result"):
        _ = events.result
    metrics = agent.get_performance_metrics()
    assert (metrics["total_tasks"], metrics["failed_tasks"]) == (1, 0)


@pytest.mark.parametrize("way", ["sync", "async"])
def test_leaving_a_stream_early_cancels_async_tools(way: str) -> None:
    cancelled = threading.Event()

    @tool(effect="none")
    async def wait() -> str:
        """Wait for ever."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    calls = (LOOK, ToolCall("w", "wait"))
    agent = agent_with(Model([ending(*calls)]), look, wait)

    def leave() -> None:
        with agent.stream("Go.") as events:
            while not isinstance(next(events), ToolCallFinished):
                pass

    async def aleave() -> None:
        async with agent.astream("Go.") as events:
            while not isinstance(await anext(aiter(events)), ToolCallFinished):
                pass

    if way == "sync":
        leave()
    else:
        asyncio.run(aleave())
    assert cancelled.wait(10)


@each_way
def test_an_error_is_raised_and_counted_once(go: Any) -> None:
    agent = agent_with(ScriptedModel(ServerError("down")).as_stream("messages"))
    with pytest.raises(ServerError):
        go(agent, "Go.")
    assert agent.get_performance_metrics()["failed_tasks"] == 1


def test_a_stream_that_is_not_read_sends_nothing_and_an_agent_that_stopped_has_none() -> None:
    model = Model([ending()])
    agent = agent_with(model)
    closed = agent.stream("Go.")
    closed.close()
    assert list(closed) == []
    assert len(model.answers) == 1
    assert agent.get_performance_metrics()["total_tasks"] == 0
    agent.stop()
    with pytest.raises(AgentStateError):
        agent.stream("Go.")
    with pytest.raises(AgentStateError):
        agent.astream("Go.")


def test_the_span_of_the_run_is_current_inside_and_not_between_events() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    model = Model([ending(LOOK)], [TextDelta("One."), ending()])
    agent = agent_with(model, look, tracer_provider=provider)
    with agent.stream("Go.") as events:
        for _ in events:
            assert trace.get_current_span() is trace.INVALID_SPAN
    spans = {span.name: span for span in exporter.get_finished_spans()}
    invoked, executed = spans["invoke_agent agent"], spans["execute_tool look"]
    assert executed.parent is not None
    assert invoked.context is not None
    assert executed.parent.span_id == invoked.context.span_id
