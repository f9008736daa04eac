"""Where the manager records content, the spans of an agent and of its tools have it, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # no stubs are installed

from agentkit.agent.agent import Agent
from agentkit.telemetry.capture import Redactor
from agentkit.types import Message, Response
from tests.agent.runs import Model, want
from tests.telemetry.conventions import SCHEMAS
from tests.telemetry.observing import Observed, attributes

CONTENT = {*SCHEMAS, "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"}


def look(at: str) -> dict[str, str]:
    """Looks around."""
    return {"seen": f"a lion at {at}"}


def fail() -> None:
    """Fails."""
    raise ValueError("the lion left")


def run(agent: Agent, prompt: Any, tools: Any) -> None:
    agent.run(prompt, tools)


def arun(agent: Agent, prompt: Any, tools: Any) -> None:
    asyncio.run(agent.arun(prompt, tools))


def stream(agent: Agent, prompt: Any, tools: Any) -> None:
    list(agent.stream(prompt, tools))


def astream(agent: Agent, prompt: Any, tools: Any) -> None:
    async def main() -> None:
        async with agent.astream(prompt, tools) as events:
            async for _ in events:
                pass

    asyncio.run(main())


Go = Callable[[Agent, Any, Any], None]
each_way = pytest.mark.parametrize("go", [run, arun, stream, astream])


def agent_of(seen: Observed, *steps: Any) -> Agent:
    """An agent whose model answers in these steps."""
    return Agent(
        seen.manager(("a", Model(*steps))),
        instructions="Be brief.",
        tracer_provider=seen.tracers,
        meter_provider=seen.meters,
    )


def span(seen: Observed, prefix: str) -> dict[str, Any]:
    (found,) = seen.named(prefix)
    return attributes(found)


@each_way
def test_a_run_and_its_tools_have_their_content(observing: Callable[..., Observed], go: Go) -> None:
    seen = observing(content="span")
    go(agent_of(seen, want("look", at="the door"), "A lion."), "What is there?", [look])
    agent, tool = span(seen, "invoke_agent"), span(seen, "execute_tool")
    for name, schema in SCHEMAS.items():
        Draft7Validator(schema).validate(json.loads(agent[name]))
    assert json.loads(agent["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "What is there?"}]},
    ]
    (answered,) = json.loads(agent["gen_ai.output.messages"])
    assert answered["parts"] == [{"type": "text", "content": "A lion."}]
    (defined,) = json.loads(agent["gen_ai.tool.definitions"])
    assert defined["name"] == "look"
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"at": "the door"}
    assert json.loads(tool["gen_ai.tool.call.result"]) == {"seen": "a lion at the door"}
    assert not {"input.value", "output.value", "openinference.span.kind"} & {*agent, *tool}


@each_way
def test_rows_of_a_viewer_show_a_run_and_its_tools(
    observing: Callable[..., Observed], go: Go
) -> None:
    seen = observing(content="span", openinference=True)
    go(agent_of(seen, want("look", at="the door"), "A lion."), "What is there?", [look])
    agent, tool = span(seen, "invoke_agent"), span(seen, "execute_tool")
    assert agent["openinference.span.kind"] == "AGENT"
    assert agent["input.value"].endswith("What is there?")
    assert agent["output.value"] == "A lion."
    assert tool["openinference.span.kind"] == "TOOL"
    assert (tool["input.value"], tool["input.mime_type"]) == (
        '{"at":"the door"}',
        "application/json",
    )
    assert tool["output.value"] == '{"seen":"a lion at the door"}'


@each_way
@pytest.mark.parametrize("content", ["none", "event", None])
def test_spans_have_no_content_otherwise(
    observing: Callable[..., Observed], go: Go, content: Any
) -> None:
    seen = observing(content=content, openinference=True)
    go(agent_of(seen, want("look", at="the door"), "A lion."), "What is there?", [look])
    for found in (span(seen, "invoke_agent"), span(seen, "execute_tool")):
        assert not {*CONTENT, "input.value", "output.value"} & set(found)


def refuse(text: str) -> str:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("redactor", "limit", "arguments"),
    [(lambda text: text.replace("door", "***"), 8192, '{"at":"the ***"}'), (None, 5, '{"at"')],
)
def test_content_is_redacted_and_truncated(
    observing: Callable[..., Observed], redactor: Redactor | None, limit: int, arguments: str
) -> None:
    seen = observing(content="span", redactor=redactor, max_content_chars=limit)
    agent_of(seen, want("look", at="the door"), "A lion.").run("What is there?", [look])
    tool = span(seen, "execute_tool")
    assert tool["gen_ai.tool.call.arguments"] == arguments
    assert tool.get("agentkit.content.truncated", False) is (limit == 5)
    assert not redactor or "door" not in tool["gen_ai.tool.call.result"]


def test_a_redactor_that_fails_records_nothing(observing: Callable[..., Observed]) -> None:
    seen = observing(content="span", redactor=refuse)
    agent_of(seen, want("look", at="the door"), "A lion.").run("What is there?", [look])
    for found in (span(seen, "invoke_agent"), span(seen, "execute_tool")):
        assert not CONTENT & set(found)


def test_the_result_of_a_failed_tool_is_what_the_model_receives(
    observing: Callable[..., Observed],
) -> None:
    seen = observing(content="span")
    agent_of(seen, want("fail"), "Gone.").run("Where is it?", [fail])
    assert span(seen, "execute_tool")["gen_ai.tool.call.result"] == "ValueError: the lion left"


def test_a_run_that_fails_has_its_input(observing: Callable[..., Observed]) -> None:
    seen = observing(content="span")
    agent = agent_of(seen, ValueError("no"))
    with pytest.raises(Exception, match="a failed"):
        agent.run([Message("user", "What is there?")])
    found = span(seen, "invoke_agent")
    assert "What is there?" in found["gen_ai.input.messages"]
    assert "gen_ai.output.messages" not in found


def test_a_question_is_the_content_of_its_task(observing: Callable[..., Observed]) -> None:
    seen = observing(content="span", openinference=True)
    agent = agent_of(seen, Response("A lion."), "Another.")
    assert agent.ask("What is there?") == "A lion."
    assert asyncio.run(agent.aask("And there?")) == "Another."
    shown = [
        (attributes(each)["input.value"], attributes(each)["output.value"])
        for each in seen.named("invoke_agent")
    ]
    assert shown == [("What is there?", "A lion."), ("And there?", "Another.")]
