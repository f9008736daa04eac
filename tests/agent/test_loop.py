"""A run asks the model, runs its tool calls, and asks again until it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit.agent.toolbox import MAX_CONCURRENT_CALLS
from agentkit.errors import (
    AgentStateError,
    AllModelsFailedError,
    ConfigurationError,
    RequestValidationError,
    ServerError,
)
from agentkit.output.tools import ToolContext
from agentkit.testing import ScriptedModel
from agentkit.types import Message, MessageRole, ProviderState, Response, ToolCall, ToolSpec
from tests.agent.runs import (
    Go,
    Model,
    agent_of,
    aweather,
    each_way,
    raising,
    response_with,
    tool_texts,
    want,
    weather,
)


@each_way
@pytest.mark.parametrize("tool", [weather, aweather])
def test_the_model_receives_the_tool_results(go: Go, tool: Callable[..., Any]) -> None:
    call = ToolCall("call-7", tool.__name__, {"city": "Paris"})
    model = Model(response_with(call, text="Let me look."), "It is sunny.")
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
        *second.messages,
        Message(MessageRole.ASSISTANT, "It is sunny."),
    )
    looked, answered = result.steps
    assert looked.response.tool_calls == (call,)
    assert [(each.content, each.error) for each in looked.results] == [("sunny in Paris", None)]
    assert answered.results == ()
    assert answered.response.text == "It is sunny."


@each_way
def test_the_state_of_an_answer_stays_in_the_conversation(go: Go) -> None:
    first, second = (ProviderState("some:model", ({"block": {"n": n}},)) for n in (1, 2))
    model = Model(replace(want("clock"), state=first), Response("Noon.", state=second))
    result = go(agent_of(model), "the time?", tools=[ToolSpec("clock", fn=lambda: "noon")])
    assert [each.state for each in model.requests[-1].messages] == [None, first, None]
    assert result.messages[-1].state == second


@each_way
def test_without_tool_calls_one_request_is_enough(go: Go) -> None:
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
    model = Model(response_with(*calls), "done")
    go(agent_of(model), "Meet", tools=[meet])
    assert tool_texts(model) == ["0 False", "1 False", "2 False"], "in the order of the calls"


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
    model = Model(response_with(*calls), "done")
    go(agent_of(model), "Meet", tools=[meet])
    assert tool_texts(model) == ["0", "1", "2"]


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
    model = Model(response_with(*calls), "done")
    result = agent_of(model).run("Count", tools=[count])
    assert len(result.steps[0].results) == 100
    assert most <= MAX_CONCURRENT_CALLS


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError


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
        (asyncio.CancelledError(), "ToolError: tool cancelled itself"),
    ],
)
def test_a_tools_error_goes_back_to_the_model(go: Go, error: BaseException, text: str) -> None:
    model = Model(want("tool"), "Sorry.")
    result = go(agent_of(model), "Try", tools=[raising(error)])
    assert result.text == "Sorry."
    assert tool_texts(model) == [text]
    assert "Traceback" not in tool_texts(model)[0]
    (failed,) = result.steps[0].results
    assert failed.error == text.split(":", maxsplit=1)[0]


@each_way
def test_an_unknown_tool_and_wrong_arguments_go_back_to_the_model(go: Go) -> None:
    model = Model(
        response_with(
            ToolCall("1", "whether", {"city": "Paris"}),
            ToolCall("2", "weather", {"town": "Paris"}),
            ToolCall("3", "weather", "city=Paris"),  # type: ignore[arg-type]
        ),
        "Sorry.",
    )
    go(agent_of(model), "Weather?", tools=[weather])
    unknown, wrong, none = tool_texts(model)
    assert unknown == "ToolError: no tool is called 'whether'; known: weather"
    assert "$.city: Field required" in wrong
    assert "$.town: " in wrong
    assert "must be a JSON object" in none


@each_way
def test_a_tool_call_is_answered_even_without_tools(go: Go) -> None:
    model = Model(want("weather"), "Sorry.")
    assert go(agent_of(model), "Weather?").text == "Sorry."
    assert tool_texts(model) == ["ToolError: no tool is called 'weather'; known: none"]


@each_way
def test_a_tool_that_hangs_is_abandoned(go: Go) -> None:
    release = threading.Event()

    def hang() -> None:
        """Hang."""
        release.wait()

    async def ahang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    model = Model(response_with(ToolCall("1", "hang"), ToolCall("2", "ahang")), "Sorry.")
    try:
        result = go(agent_of(model), "Try", tools=[hang, ahang], tool_timeout=0.05)
    finally:
        release.set()
    assert result.text == "Sorry."
    assert tool_texts(model) == [
        "ToolError: hang gave no result within 0.05 s",
        "ToolError: ahang gave no result within 0.05 s",
    ]


@each_way
def test_a_huge_result_is_truncated_visibly(go: Go) -> None:
    model = Model(want("huge"), want("huge", "call-2"), "ok")

    def huge() -> str:
        """Too much."""
        return "x" * 100_000_000

    go(agent_of(model), "Try", tools=[huge])
    (text,) = tool_texts(model)
    assert text == "x" * 50_000 + "\n[cut: the first 50000 of 100000000 characters]"


def test_a_huge_error_is_truncated_too() -> None:
    model = Model(want("tool"), "ok")
    agent_of(model).run("Try", tools=[raising(ValueError("y" * 10_000))], max_tool_output=20)
    assert tool_texts(model) == ["ValueError: yyyyyyyy\n[cut: the first 20 of 10012 characters]"]


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
        (object(), "ToolError: the result, a object, cannot be converted to JSON"),
    ],
)
def test_a_result_that_is_not_a_str_becomes_json(go: Go, result: Any, text: str) -> None:
    def tool() -> Any:
        """A tool."""
        return result

    model = Model(want("tool"), "ok")
    go(agent_of(model), "Try", tools=[tool])
    assert tool_texts(model) == [text]


@each_way
def test_two_calls_with_one_id_get_different_ids(go: Go) -> None:
    same = ToolCall("id", "weather", {"city": "Paris"})
    model = Model(
        response_with(
            same, ToolCall("id", "weather", {"city": "Rome"}), same, ToolCall("", "weather")
        ),
        response_with(ToolCall("id", "weather", {"city": "Oslo"})),
        "ok",
    )
    go(agent_of(model), "Try", tools=[weather])
    last = model.requests[2].messages
    answers = {each.tool_call_id: each.text for each in last if each.role is MessageRole.TOOL}
    assert answers["id"] == "sunny in Paris", "one call repeated is one call"
    assert answers["id-2"] == "sunny in Rome"
    assert answers["id-3"] == "sunny in Oslo", "ids are the conversation's, not the answer's"
    called = [call.id for each in last for call in each.tool_calls]
    assert called == list(answers)
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
    assert tool_texts(model) == ["sunny in Paris"]


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
    assert agent.error_log[-1].task.endswith("run")
