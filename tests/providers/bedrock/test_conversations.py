"""Conversations in the words of other APIs, and what a model needs back, as Converse takes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from agentkit import InvalidRequestError, Response
from agentkit.providers.bedrock.encoding import arguments_of
from agentkit.providers.bedrock.events import EventReader
from agentkit.providers.state import StateMemory
from agentkit.testing import WireServer, faults
from agentkit.types import End, Message, Request, ResponseBuilder, StreamEvent, ToolCall, ToolSpec
from tests.bedrock.messages import samples as s
from tests.providers.bedrock.wired import MODES, ask, clients_at, manager, target

CODED = base64.b64encode(s.PNG).decode()
USE = {"toolUse": {"toolUseId": "call-1", "name": "weather", "input": {"city": "Rome"}}}
CALL = ToolCall("call-1", "weather", {"city": "Rome"})
WEATHER = ToolSpec("weather", "The weather.", {"type": "object", "properties": {}})
HISTORY = (
    Message("user", "Rome?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "rain", tool_call_id="call-1"),
)


def arguments(*messages: Message, origin: str = "bedrock:Model", **options: Any) -> dict[str, Any]:
    """Converse's arguments, which botocore accepts."""
    tools = options.pop("tools", ())
    request = Request(messages=messages, params=options, tools=tools)
    made = arguments_of(request, StateMemory(origin))
    fields = {name: value for name, value in made.items() if name != "messages"}
    assert s.accepts(*made["messages"], **fields)
    return made


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ("any", {"any": {}}),
        ("weather", {"tool": {"name": "weather"}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
        ({"type": "tool", "name": "weather"}, {"tool": {"name": "weather"}}),
        ({"type": "any"}, {"any": {}}),
        ({"tool": {"name": "weather"}}, {"tool": {"name": "weather"}}),
        ({"auto": {}}, {"auto": {}}),
        (None, None),
    ],
)
def test_the_choice_of_a_tool_is_part_of_the_tools(choice: Any, expected: Any) -> None:
    made = arguments(Message("user", "Rome?"), tools=(WEATHER,), tool_choice=choice)
    assert made["toolConfig"].get("toolChoice") == expected
    assert "additionalModelRequestFields" not in made


def test_no_tool_may_be_called_if_the_choice_is_none() -> None:
    assert "toolConfig" not in arguments(HISTORY[0], tools=(WEATHER,), tool_choice="none")
    config = arguments(*HISTORY, tools=(WEATHER,), tool_choice="none")["toolConfig"]
    assert config.keys() == {"tools"}, "the service requires the tools of the history"


def test_tools_that_only_the_history_has_are_declared() -> None:
    made = arguments(*HISTORY, tool_choice="auto")
    (tool,) = made["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "weather"
    assert made["toolConfig"].keys() == {"tools"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "data": s.PNG, "media_type": "image/png"},
        {"type": "image", "data": CODED, "media_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CODED}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{CODED}"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": CODED},
        },
    ],
)
def test_an_image_in_any_shape_is_sent_as_its_bytes(part: dict[str, Any]) -> None:
    image = {"image": {"format": "png", "source": {"bytes": s.PNG}}}
    assert arguments(Message("user", [part]))["messages"][0]["content"] == [image]
    result = Message("tool", [{"type": "text", "text": "see"}, part], tool_call_id="call-1")
    last = arguments(*HISTORY[:2], result)["messages"][-1]["content"][0]["toolResult"]
    assert last["content"] == [{"text": "see"}, image]


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "name": "city", "schema": {"type": "object"}},
        {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}},
        {"type": "json_object"},
    ],
)
def test_a_response_format_becomes_an_instruction(response_format: Any) -> None:
    made = arguments(Message("user", "Rome?"), response_format=response_format)
    assert "JSON" in made["system"][0]["text"]
    assert ('{"type": "object"}' in made["system"][0]["text"]) == ("schema" in str(response_format))
    assert "additionalModelRequestFields" not in made


def test_an_unknown_response_format_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="response_format"):
        arguments(Message("user", "Rome?"), response_format={"type": "yaml"})


def test_blank_text_is_not_sent() -> None:
    made = arguments(
        Message("system", " \n"),
        Message("user", "\t"),
        Message("assistant", "  ", tool_calls=(CALL,)),
        Message("tool", "", tool_call_id="call-1"),
        Message("user", [{"type": "text", "text": " "}, {"type": "text", "text": "Well?"}]),
    )
    assert "system" not in made
    assert made["messages"] == [
        {"role": "user", "content": [{"text": "(empty)"}]},
        {"role": "assistant", "content": [USE]},
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call-1", "content": [{"text": "(empty)"}]}},
                {"text": "Well?"},
            ],
        },
    ]


@pytest.mark.parametrize("call_id", ["x" * 65, "call/1", ""])
def test_an_id_that_the_service_refuses_is_replaced_in_call_and_result(call_id: str) -> None:
    call = ToolCall(call_id, "weather")
    made = arguments(
        Message("user", "Rome?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "rain", tool_call_id=call_id),
    )
    use, result = (each["content"][0] for each in made["messages"][1:])
    sent = use["toolUse"]["toolUseId"]
    assert sent == result["toolResult"]["toolUseId"]
    assert len(sent) == 37


SIGNED = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "signed"}}}
HIDDEN = {"reasoningContent": {"redactedContent": b"\x00secret"}}
OPEN = {"reasoningContent": {"reasoningText": {"text": "unsigned"}}}
BLOCKS = [SIGNED, {"text": "Let me look."}, HIDDEN, OPEN, {"text": "Wait."}, USE]
EVENTS = [
    {"messageStart": {"role": "assistant"}},
    *(
        {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}
        for index, delta in [
            (0, {"reasoningContent": {"text": "H"}}),
            (0, {"reasoningContent": {"text": "m."}}),
            (0, {"reasoningContent": {"signature": "signed"}}),
            (1, {"text": "Let me "}),
            (1, {"text": "look."}),
            (2, {"reasoningContent": {"redactedContent": b"\x00secret"}}),
            (3, {"reasoningContent": {"text": "unsigned"}}),
            (4, {"text": "Wait."}),
        ]
    ),
    {
        "contentBlockStart": {
            "contentBlockIndex": 5,
            "start": {"toolUse": {"toolUseId": "call-1", "name": "weather"}},
        }
    },
    {
        "contentBlockDelta": {
            "contentBlockIndex": 5,
            "delta": {"toolUse": {"input": '{"city": "Rome"}'}},
        }
    },
    {"messageStop": {"stopReason": "tool_use"}},
]


def through_json(message: Message) -> Message:
    return Message.from_dict(json.loads(json.dumps(message.to_dict())))


def events_of(source: Any) -> list[StreamEvent]:
    reader = EventReader("Model", origin="bedrock:Model")
    return [*reader.read(source), *reader.end(None)]


def test_reasoning_goes_back_in_its_order() -> None:
    """What is neither signed nor encrypted is left out, as models refuse it."""
    events = events_of(EVENTS)
    assert isinstance(events[-1], End)
    called = through_json(ResponseBuilder(events).response().message)
    assert called.text == "Let me look.\nWait."
    made = arguments(HISTORY[0], called, HISTORY[2])
    assert made["messages"][1]["content"] == [each for each in BLOCKS if each is not OPEN]


def test_another_model_gets_no_reasoning() -> None:
    called = ResponseBuilder(events_of(EVENTS)).response().message
    made = arguments(HISTORY[0], called, HISTORY[2], origin="bedrock:Other")
    assert made["messages"][1]["content"] == [{"text": "Let me look.\nWait."}, USE]


def test_reasoning_comes_first_in_a_message_that_was_changed() -> None:
    called = ResponseBuilder(events_of(EVENTS)).response()
    changed = Message("assistant", "Well.", tool_calls=called.tool_calls, state=called.state)
    made = arguments(HISTORY[0], changed, HISTORY[2])
    assert made["messages"][1]["content"] == [SIGNED, HIDDEN, {"text": "Well."}, USE]


@pytest.mark.wire
@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
@pytest.mark.parametrize("built", ["message", "by hand"])
def test_a_model_gets_its_reasoning_before_the_result_of_its_call(
    mode: str, stream: bool, built: str
) -> None:
    thought: Response[Any] = Response("Wait.", reasoning="Hm.", tool_calls=(CALL,))
    with WireServer(reply=thought) as server, clients_at(server.bedrock_url) as clients:
        llm = manager(target(clients))
        called = ask(llm, mode, stream=stream, tools=[WEATHER], tool_choice="weather")
        by_hand = Message("assistant", called.text, tool_calls=called.tool_calls)
        turn = by_hand if built == "by hand" else through_json(called.message)
        ask(llm, mode, stream=stream, prompt_or_messages=[HISTORY[0], turn, HISTORY[2]])
        first, second = (request.body for request in server.requests)
    assert first["toolConfig"]["toolChoice"] == {"tool": {"name": "weather"}}
    assert second["messages"][1]["content"] == [SIGNED, {"text": "Wait."}, USE]
    assert second["toolConfig"]["tools"][0]["toolSpec"]["name"] == "weather"


@pytest.mark.wire
@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])
def test_refused_reasoning_is_left_out_within_the_attempt(mode: str, stream: bool) -> None:
    with WireServer(reply="Sunny.") as server, clients_at(server.bedrock_url) as clients:
        adapter = target(clients)
        llm = manager(adapter)
        server.script(
            Response("Wait.", reasoning="Hm.", tool_calls=(CALL,)),
            faults.status(
                400, message="messages.1.content.0: Invalid `signature` in `thinking` block"
            ),
        )
        budget = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
        called = ask(llm, mode, stream=stream, **budget)
        history = [HISTORY[0], called.message, HISTORY[2]]
        reply = ask(llm, mode, stream=stream, prompt_or_messages=history, **budget)
        _, refused, sent = (request.body for request in server.requests)
    assert refused["messages"][1]["content"] == [SIGNED, {"text": "Wait."}, USE]
    assert sent["messages"][1]["content"] == [{"text": "Wait."}, USE]
    assert "thinking" in refused["additionalModelRequestFields"]
    assert "thinking" not in sent.get("additionalModelRequestFields", {})
    assert reply.text == "Sunny."
    (entry,) = reply.ledger.sent
    assert entry.omitted == ("thinking", "reasoning_state")
