"""A run asks, runs the tools that the answer wishes for, and asks again, to an answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import BaseModel

from agentkit.agent.agent import Agent
from agentkit.agent.executing import SIDE_BY_SIDE
from agentkit.errors import (
    AgentError,
    AgentStateError,
    AllModelsFailedError,
    ConfigurationError,
    DeadlineExceededError,
    RequestValidationError,
    ServerError,
    StepLimitError,
    StructuredOutputError,
)
from agentkit.manager import LLMManager
from agentkit.testing import FakeClock, ScriptedModel
from agentkit.tools import ToolContext
from agentkit.types import Message, MessageRole, Response, ToolCall, ToolSpec, Usage
from tests.agent.runs import (
    Go,
    Model,
    agent_of,
    aweather,
    each_way,
    told,
    want,
    weather,
    wish,
)


@each_way
@pytest.mark.parametrize("tool", [weather, aweather])
def test_the_model_is_told_what_its_tools_brought(go: Go, tool: Callable[..., Any]) -> None:
    call = ToolCall("call-7", tool.__name__, {"city": "Paris"})
    model = Model(wish(call, text="Let me look."), "It is sunny.")
    result = go(agent_of(model), "How is the weather?", tools=[tool])
    assert result.text == str(result) == "It is sunny."
    first, second = model.requests
    assert first.text == "How is the weather?"
    assert [each.name for each in first.tools] == [each.name for each in second.tools]
    asked = Message(MessageRole.USER, "How is the weather?")
    assert second.messages == (
        asked,
        Message(MessageRole.ASSISTANT, "Let me look.", tool_calls=(call,)),
        Message(MessageRole.TOOL, "sunny in Paris", tool_call_id="call-7"),
    )
    assert result.messages == (
        *second.messages, Message(MessageRole.ASSISTANT, "It is sunny."),
    )  # fmt: skip
    looked, answered = result.steps
    assert looked.response.tool_calls == (call,)
    assert [(each.content, each.error) for each in looked.results] == [("sunny in Paris", None)]
    assert answered.results == ()
    assert answered.response.text == "It is sunny."


@each_way
def test_without_a_wish_one_ask_is_all(go: Go) -> None:
    agent = agent_of(ScriptedModel("Hello."))
    assert go(agent, "Hi").text == "Hello."
    assert agent.get_performance_metrics()["total_tasks"] == 1


@each_way
def test_a_conversation_may_be_the_prompt(go: Go) -> None:
    model = Model("Fine.")
    go(agent_of(model), [{"role": "system", "content": "Be brief."}, Message("user", "Well?")])
    assert [each.text for each in model.requests[0].messages] == ["Be brief.", "Well?"]


@each_way
def test_tools_of_one_answer_run_side_by_side(go: Go) -> None:
    meeting = threading.Barrier(3, timeout=10)
    thread = threading.get_ident()

    def meet(who: int) -> str:
        """Wait for the others."""
        meeting.wait()
        return f"{who} {threading.get_ident() == thread}"

    calls = [ToolCall(f"call-{who}", "meet", {"who": who}) for who in range(3)]
    model = Model(wish(*calls), "done")
    go(agent_of(model), "Meet", tools=[meet])
    assert told(model) == ["0 False", "1 False", "2 False"], "in the order of the calls"


@each_way
def test_async_tools_of_one_answer_run_side_by_side(go: Go) -> None:
    here: list[int] = []

    async def meet(who: int) -> int:
        """Wait for the others."""
        here.append(who)
        while len(here) < 3:
            await asyncio.sleep(0)
        return who

    calls = [ToolCall(f"call-{who}", "meet", {"who": who}) for who in range(3)]
    model = Model(wish(*calls), "done")
    go(agent_of(model), "Meet", tools=[meet])
    assert told(model) == ["0", "1", "2"]


def test_a_flood_of_calls_does_not_become_a_flood_of_threads() -> None:
    most, under_way, lock = 0, 0, threading.Lock()

    def count() -> None:
        """Count."""
        nonlocal most, under_way
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1

    calls = [ToolCall(f"call-{index}", "count") for index in range(100)]
    model = Model(wish(*calls), "done")
    result = agent_of(model).run("Count", tools=[count])
    assert len(result.steps[0].results) == 100
    assert most <= SIDE_BY_SIDE


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[], str]:
    def tool() -> str:
        """A tool."""
        raise error

    return tool


@each_way
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such city"), "ValueError: no such city"),
        (KeyError("city"), "KeyError: 'city'"),
        (TimeoutError("theirs"), "TimeoutError: theirs"),
        (StopIteration("enough"), "RuntimeError: coroutine raised StopIteration"),
        (ServerError("down", hint="wait"), "ServerError: down\n\nhint: wait"),
        (Broken(), "Broken: (no text)"),
        (asyncio.CancelledError(), "ToolError: tool was cancelled from within"),
    ],
)
def test_a_tools_error_goes_back_to_the_model(go: Go, error: BaseException, text: str) -> None:
    model = Model(want("tool"), "Sorry.")
    result = go(agent_of(model), "Try", tools=[raising(error)])
    assert result.text == "Sorry."
    assert told(model) == [text]
    assert "Traceback" not in told(model)[0]
    (failed,) = result.steps[0].results
    assert failed.error == text.split(":", maxsplit=1)[0]


@each_way
def test_an_unknown_tool_and_wrong_arguments_go_back_to_the_model(go: Go) -> None:
    model = Model(
        wish(
            ToolCall("1", "whether", {"city": "Paris"}),
            ToolCall("2", "weather", {"town": "Paris"}),
            ToolCall("3", "weather", "city=Paris"),  # type: ignore[arg-type]
        ),
        "Sorry.",
    )
    go(agent_of(model), "Weather?", tools=[weather])
    unknown, wrong, none = told(model)
    assert unknown == "ToolError: no tool is called 'whether'; known: weather"
    assert "$.city: Field required" in wrong
    assert "$.town: " in wrong
    assert "no JSON object" in none


@each_way
def test_a_wish_where_no_tools_were_offered_is_answered_too(go: Go) -> None:
    model = Model(want("weather"), "Sorry.")
    assert go(agent_of(model), "Weather?").text == "Sorry."
    assert told(model) == ["ToolError: no tool is called 'weather'; known: none"]


@each_way
def test_a_tool_that_hangs_is_let_go_of(go: Go) -> None:
    release = threading.Event()

    def hang() -> None:
        """Hang."""
        release.wait()

    async def ahang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    model = Model(wish(ToolCall("1", "hang"), ToolCall("2", "ahang")), "Sorry.")
    try:
        result = go(agent_of(model), "Try", tools=[hang, ahang], tool_timeout=0.05)
    finally:
        release.set()
    assert result.text == "Sorry."
    assert told(model) == [
        "ToolError: hang gave no result within 0.05 s",
        "ToolError: ahang gave no result within 0.05 s",
    ]


@each_way
def test_a_huge_result_is_cut_and_says_so(go: Go) -> None:
    model = Model(want("huge"), want("huge", "call-2"), "ok")

    def huge() -> str:
        """Too much."""
        return "x" * 100_000_000

    go(agent_of(model), "Try", tools=[huge])
    (text,) = told(model)
    assert text == "x" * 50_000 + "\n[cut: the first 50000 of 100000000 characters]"


def test_a_huge_error_is_cut_too() -> None:
    model = Model(want("tool"), "ok")
    agent_of(model).run("Try", tools=[raising(ValueError("y" * 10_000))], max_tool_output=20)
    assert told(model) == ["ValueError: yyyyyyyy\n[cut: the first 20 of 10012 characters]"]


@dataclass
class Point:
    x: int


class Place(BaseModel):
    city: str
    at: Point


@each_way
@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Place(city="Paris", at=Point(1)), '{"city":"Paris","at":{"x":1}}'),
        ([Point(1), Point(2)], '[{"x":1},{"x":2}]'),
        ({"a": None, "é": True}, '{"a":null,"é":true}'),
        (7, "7"),
        (None, "null"),
        (MessageRole.USER, "user"),
        (
            iter([1]),
            "ToolError: the result is a list_iterator, which may have no end: return a list",
        ),
        (object(), "ToolError: the result, a object, has no JSON form"),
    ],
)
def test_a_result_that_is_no_text_becomes_json(go: Go, result: Any, text: str) -> None:
    def tool() -> Any:
        """A tool."""
        return result

    model = Model(want("tool"), "ok")
    go(agent_of(model), "Try", tools=[tool])
    assert told(model) == [text]


@each_way
def test_two_calls_with_one_id_are_told_apart(go: Go) -> None:
    same = ToolCall("id", "weather", {"city": "Paris"})
    model = Model(
        wish(same, ToolCall("id", "weather", {"city": "Rome"}), same, ToolCall("", "weather")),
        wish(ToolCall("id", "weather", {"city": "Oslo"})),
        "ok",
    )
    go(agent_of(model), "Try", tools=[weather])
    last = model.requests[2].messages
    answers = {each.tool_call_id: each.text for each in last if each.role is MessageRole.TOOL}
    assert answers["id"] == "sunny in Paris", "one call repeated is one call"
    assert answers["id-2"] == "sunny in Rome"
    assert answers["id-3"] == "sunny in Oslo", "ids are the conversation's, not the answer's"
    wished = [call.id for each in last for call in each.tool_calls]
    assert wished == list(answers)
    assert len(answers) == 4


@each_way
def test_a_tool_may_know_its_run(go: Go) -> None:
    seen: list[ToolContext] = []

    def look(context: ToolContext) -> str:
        """Look."""
        seen.append(context)
        return "ok"

    go(agent_of(Model(want("look"), "ok")), "Look", tools=[look])
    (context,) = seen
    assert (context.agent, context.call_id, context.step) == ("helper", "call-1", 1)
    assert [each.role for each in context.messages] == ["user", "assistant"]


# Limits.


@each_way
def test_a_run_ends_after_its_steps_without_running_the_last_tools(go: Go) -> None:
    ran: list[int] = []

    def again() -> None:
        """Again."""
        ran.append(1)

    model = Model(then=want("again"))
    agent = agent_of(model)
    with pytest.raises(StepLimitError, match="within 3 steps") as caught:
        go(agent, "Loop", tools=[again], max_steps=3)
    assert len(model.requests) == 3
    assert len(ran) == 2, "nobody would read what the third brings"
    assert caught.value.hint
    assert caught.value.ledger is not None
    assert agent.get_performance_metrics()["failed_tasks"] == 1


@each_way
@pytest.mark.parametrize(
    ("limit", "said"), [({"max_cost": 0.02}, "USD"), ({"max_tokens": 20}, "tokens")]
)
def test_a_run_that_has_used_its_budget_asks_no_more(
    go: Go, limit: dict[str, Any], said: str
) -> None:
    usage = Usage(6, 4)
    ran: list[int] = []

    def again() -> None:
        """Again."""
        ran.append(1)

    model = Model(then=wish(ToolCall("1", "again"), usage=usage))
    with pytest.raises(AgentError, match=said) as caught:
        go(agent_of(model), "Loop", tools=[again], **limit)
    assert not isinstance(caught.value, StepLimitError)
    assert len(model.requests) == 2
    assert len(ran) == 1
    assert caught.value.hint


@each_way
def test_a_result_tells_what_the_run_took(go: Go) -> None:
    model = Model(
        wish(ToolCall("1", "weather", {"city": "Paris"}), usage=Usage(100, 20, 50)),
        Response("ok", Usage(200, 30, reasoning_tokens=7)),
    )
    result = go(agent_of(model), "Try", tools=[weather], max_cost=1.0, max_tokens=300)
    assert result.usage == Usage(300, 50, 50, 0, 7)
    assert result.cost == pytest.approx(0.35)


def test_answers_of_the_response_cache_are_free() -> None:
    model = Model(then=Response("ok", Usage(100, 20)))
    manager = LLMManager(cache="memory")
    manager.register_model("m", model, {"cost_per_1k_tokens": 1.0})
    agent = Agent("helper", "tester", config={"llm_manager": manager})
    agent.start()
    assert agent.run("Same").cost == pytest.approx(0.12)
    again = agent.run("Same")
    assert (again.usage, again.cost) == (Usage(), 0.0)
    manager.close()


def test_rejected_answers_are_paid_too() -> None:
    model = Model(Response("no", Usage(10, 10)), Response("7", Usage(10, 10)))
    result = agent_of(model, attempts=2).run("A number", response_model=int)
    assert result.parsed == 7
    assert result.usage.total_tokens == 40
    assert result.cost == pytest.approx(0.04)


def test_a_budget_in_money_needs_prices_before_anything_is_sent() -> None:
    model = Model(then="ok")
    agent = agent_of(model)
    manager = agent.llm_manager
    assert manager is not None
    manager.register_model("free", model)
    with pytest.raises(ConfigurationError, match="'free' has no price"):
        agent.run("Try", max_cost=1.0, model="free")
    assert model.requests == []
    assert agent.run("Try", max_cost=1.0).cost == 0.0
    assert agent.run("Try", model="free").cost == 0.0, "no tokens, no cost"
    model.script.script(Response("ok", Usage(1, 1)))
    assert agent.run("Try", model="free").cost is None


@each_way
def test_one_deadline_bounds_asks_and_tools(go: Go) -> None:
    clock = FakeClock()

    def slow() -> str:
        """Slow."""
        clock.advance(6.0)
        return "late"

    model = Model(want("slow"), want("slow", "call-2"), "too late")
    with pytest.raises(DeadlineExceededError, match="deadline of 10 s"):
        go(agent_of(model, clock=clock), "Try", tools=[slow], deadline=10.0)
    assert len(model.requests) == 2
    assert told(model) == ["late"]


@each_way
def test_a_tool_gets_no_more_time_than_the_run_has(go: Go) -> None:
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    with pytest.raises(DeadlineExceededError):
        go(agent_of(Model(want("hang"), "ok")), "Try", tools=[hang], deadline=0.1)


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": 0}, {"max_steps": 1.5}, {"deadline": 0}, {"deadline": float("nan")},
        {"max_cost": 0}, {"max_cost": "1"}, {"max_tokens": 0}, {"tool_timeout": 0},
        {"tool_timeout": float("inf")}, {"max_tool_output": 0},
    ],
)  # fmt: skip
def test_a_limit_that_cannot_work_is_refused_before_anything_is_sent(
    limits: dict[str, Any],
) -> None:
    model = Model(then="ok")
    with pytest.raises(ConfigurationError):
        agent_of(model).run("Try", **limits)
    assert model.requests == []


# What cannot be asked.


@each_way
@pytest.mark.parametrize("count", [1, 2])
def test_models_that_cannot_use_tools_are_named(go: Go, count: int) -> None:
    agent = agent_of(*[ScriptedModel(then="ok")] * count)
    with pytest.raises((ConfigurationError, AllModelsFailedError)) as caught:
        go(agent, "Weather?", tools=[weather])
    assert all(f"m{index} cannot use tools" in str(caught.value) for index in range(count))


def test_a_tool_without_a_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'search' has no function"):
        agent_of(Model("ok")).run("Try", tools=[{"name": "search"}])


def test_a_spec_with_a_function_is_a_tool() -> None:
    model = Model(want("forecast", city="Paris"), "ok")
    spec = ToolSpec("forecast", "Tomorrow", {"type": "object"}, weather)
    agent_of(model).run("Try", tools=[spec])
    assert model.requests[0].tools == (spec,)
    assert told(model) == ["sunny in Paris"]


@each_way
@pytest.mark.parametrize("prompt", ["", " ", [], 7, None])
def test_an_empty_prompt_is_refused(go: Go, prompt: Any) -> None:
    with pytest.raises(RequestValidationError):
        go(agent_of(Model(then="ok")), prompt)


@each_way
def test_only_a_running_agent_runs(go: Go) -> None:
    agent = agent_of(Model(then="ok"))
    agent.stop()
    with pytest.raises(AgentStateError):
        go(agent, "Try")


@each_way
def test_a_models_failure_ends_the_run(go: Go) -> None:
    agent = agent_of(Model(want("weather", city="Paris"), ServerError("down")))
    with pytest.raises((ServerError, AllModelsFailedError)):
        go(agent, "Try", tools=[weather])
    assert agent.error_log[-1].task.endswith("drive")


# Structured answers.


class City(BaseModel):
    name: str
    sunny: bool


@each_way
def test_only_the_final_answer_has_to_match(go: Go) -> None:
    model = Model(
        wish(ToolCall("1", "weather", {"city": "Paris"}), text="Let me look."),
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


# Interruptions.


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


def test_ctrl_c_cancels_the_tools_of_a_blocking_run() -> None:
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


# Telemetry.


class Seen:
    """Providers for an agent and its manager, and what they saw."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def agent(self, model: Any) -> Agent:
        return agent_of(model, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, prefix: str) -> list[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if each.name.startswith(prefix)]

    def points(self, name: str) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for each in metrics if each.name == name for point in each.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    providers = Seen()
    yield providers
    providers.tracers.shutdown()
    providers.meters.shutdown()


@each_way
def test_each_tool_call_is_a_span_under_the_runs(go: Go, seen: Seen) -> None:
    def inner(secret: str) -> str:
        """Do something."""
        with seen.tracers.get_tracer("mine").start_as_current_span("mine"):
            return f"canary-result {secret}"

    model = Model(want("inner", secret="canary-argument"), "ok")
    go(seen.agent(model), "canary-prompt", tools=[inner])
    (agents,) = seen.spans("invoke_agent")
    (tool,) = seen.spans("execute_tool")
    (mine,) = seen.spans("mine")
    assert tool.name == "execute_tool inner"
    assert tool.kind is SpanKind.INTERNAL
    assert dict(tool.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "inner",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.tool.description": "Do something.",
        "gen_ai.agent.name": "helper",
    }
    assert tool.status.status_code is StatusCode.UNSET
    assert tool.parent is not None
    assert mine.parent is not None
    assert agents.context is not None
    assert tool.context is not None
    assert tool.parent.span_id == agents.context.span_id
    assert mine.parent.span_id == tool.context.span_id
    assert all("canary" not in span.to_json() for span in seen.exporter.get_finished_spans())


@each_way
def test_a_failed_tool_is_a_failed_span_without_its_text(go: Go, seen: Seen) -> None:
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    calls = [ToolCall("1", "tool"), ToolCall("2", "hang"), ToolCall("3", "unknown")]
    go(
        seen.agent(Model(wish(*calls), "ok")), "Try",
        tools=[raising(ValueError("canary")), hang], tool_timeout=0.05,
    )  # fmt: skip
    spans = {span.name: span for span in seen.spans("execute_tool")}
    assert set(spans) == {"execute_tool tool", "execute_tool hang"}, "an unknown name is no label"
    kinds = {name: dict(span.attributes or {})["error.type"] for name, span in spans.items()}
    assert kinds == {"execute_tool tool": "_OTHER", "execute_tool hang": "timeout"}
    assert all(span.status.status_code is StatusCode.ERROR for span in spans.values())
    assert all("canary" not in json.dumps(span.to_json()) for span in spans.values())
    assert seen.spans("invoke_agent")[0].status.status_code is StatusCode.UNSET
    points = {
        p.attributes["gen_ai.tool.name"]: p for p in seen.points("gen_ai.execute_tool.duration")
    }
    assert set(points) == {"tool", "hang"}
    assert points["hang"].attributes["error.type"] == "timeout"
