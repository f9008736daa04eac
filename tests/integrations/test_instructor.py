"""`chat_create`: a manager in the shape of a chat-completions function."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

import pytest
from pydantic import BaseModel, Field

from agentkit import (
    ConfigurationError,
    MissingDependencyError,
    Request,
    RequestValidationError,
    Response,
    ToolCall,
    Usage,
)
from agentkit.integrations.instructor import achat_create, chat_create
from agentkit.testing import ScriptedModel, overloaded
from tests.helpers import manager_of

ASK = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": "a city"}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = {"type": "function", "function": {"name": "City", "parameters": SCHEMA}}
FORCED = {"type": "function", "function": {"name": "City"}}


class Recorder:
    """A provider that keeps what it was asked."""

    capabilities = ("messages", "tools", "json_schema")

    def __init__(self, *answers: Response[Any] | str) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []

    def send(self, request: Request) -> Response[Any] | str:
        self.asked.append(request)
        return self.answers.pop(0)


def test_an_answer_is_a_chat_completion_with_its_usage() -> None:
    model = Recorder(Response("Paris", Usage(7, 2), finish_reason="max_tokens", response_id="r1"))
    reply = chat_create(manager_of(model))(messages=ASK, temperature=0)
    choice = reply.choices[0]
    assert (choice.message.content, choice.finish_reason, reply.id) == ("Paris", "length", "r1")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (7, 9)
    asked = model.asked[0]
    assert [each.role for each in asked.messages] == ["system", "user"]
    assert asked.params["temperature"] == 0


def test_a_forced_tool_is_asked_for_as_a_schema_and_answered_as_its_call() -> None:
    model = Recorder('{"name": "Paris"}')
    reply = chat_create(manager_of(model))(messages=ASK, tools=[TOOL], tool_choice=FORCED)
    calls: Any = reply.choices[0].message.tool_calls
    assert [(each.function.name, each.function.arguments) for each in calls] == [
        ("City", '{"name": "Paris"}')
    ]
    shape = model.asked[0].response_format
    assert shape is not None
    assert (shape["name"], shape["schema"]["properties"]) == ("City", SCHEMA["properties"])
    assert model.asked[0].tools == ()


def test_a_free_choice_of_tools_stays_one() -> None:
    response: Response[Any] = Response("", tool_calls=(ToolCall("c1", "City", {"name": "Rome"}),))
    model = Recorder(response)
    reply = chat_create(manager_of(model))(messages=ASK, tools=[TOOL], tool_choice="auto")
    calls: Any = reply.choices[0].message.tool_calls
    assert (calls[0].id, json.loads(calls[0].function.arguments)) == ("c1", {"name": "Rome"})
    assert reply.choices[0].finish_reason == "tool_calls"
    assert [each.name for each in model.asked[0].tools] == ["City"]


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "City", "schema": SCHEMA}},
    ],
    ids=lambda shape: shape["type"],
)
def test_a_response_format_brings_json_as_content(shape: dict[str, Any]) -> None:
    model = Recorder('Sure: {"name": "Paris"}')
    reply = asyncio.run(achat_create(manager_of(model))(messages=ASK, response_format=shape))
    assert json.loads(reply.choices[0].message.content or "") == {"name": "Paris"}


def test_retries_fallbacks_and_breakers_are_the_managers() -> None:
    model = ScriptedModel(overloaded(), "no JSON", '{"name": "Paris"}')
    reply = chat_create(manager_of(model), model="m0")(
        messages=ASK, tools=[TOOL], tool_choice="required", deadline=60
    )
    assert reply.choices[0].message.tool_calls
    assert len(model.calls) == 3


def test_earlier_calls_reach_a_provider_without_tools_as_text() -> None:
    model = Recorder('{"name": "Paris"}')
    call = {"id": "c1", "type": "function", "function": {"name": "City", "arguments": '{"x": 1}'}}
    rejected = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "name is missing"},
    ]
    chat_create(manager_of(model))(messages=rejected, tools=[TOOL], tool_choice=FORCED)
    history = [(each.role, each.text, each.tool_calls) for each in model.asked[0].messages[2:]]
    assert history == [("assistant", '{"x": 1}', ()), ("user", "name is missing", ())]


@pytest.mark.parametrize("message", ["text", {"content": "no role"}, {"role": "unknown"}])
def test_an_invalid_chat_message_is_refused(message: Any) -> None:
    from agentkit import InvalidRequestError

    with pytest.raises((RequestValidationError, InvalidRequestError)):
        chat_create(manager_of(Recorder()))(messages=[message])


def test_streaming_is_declined_with_the_way_to_do_it() -> None:
    with pytest.raises(ConfigurationError, match="partials"):
        chat_create(manager_of(Recorder()))(messages=ASK, stream=True)


def test_without_openai_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai.types.chat", None)
    for make in (chat_create, achat_create):
        with pytest.raises(MissingDependencyError, match=r'pip install "agentkit-llms\[openai\]"'):
            make(manager_of(Recorder()))


def test_instructor_itself_validates_and_asks_again_through_the_manager() -> None:
    pytest.importorskip("instructor", reason="its pins hold older releases of openai and jiter")
    instructor = importlib.import_module("instructor")

    class Town(BaseModel):
        name: str
        population: int = Field(gt=0)

    bad, good = '{"name": "P", "population": 0}', '{"name": "P", "population": 3}'
    model = ScriptedModel(overloaded(), bad, good)
    create = instructor.patch(create=chat_create(manager_of(model)))
    town = create(messages=ASK, response_model=Town, max_retries=2)
    assert (town.name, town.population) == ("P", 3)
    assert "greater than 0" in model.calls[-1].prompt
