"""Anthropic's messages: what is sent, and answers that no honest server gives."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import errors as e
from agentkit.providers.anthropic.messages import AnthropicMessages
from agentkit.testing import WireServer
from agentkit.types import Message, Response, ToolSpec, Usage
from tests.helpers import City
from tests.providers.asking import CONVERSATION, DATA_URL, asking, either_way, sent_body
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

MODERN, OLDER = "claude-sonnet-5-5", "claude-3-5-sonnet-latest"


def adapter(server: WireServer, model: str = MODERN, **settings: Any) -> AnthropicMessages:
    return AnthropicMessages(model, api_key="any", base_url=server.anthropic_url, **settings)


def test_the_body_of_a_conversation() -> None:
    spec = ToolSpec("weather", "Reports the weather.", {"type": "object", "properties": {}})
    with WireServer() as server:
        body = sent_body(
            adapter(server),
            server,
            CONVERSATION,
            tools=[spec],
            tool_choice="required",
            max_tokens=50,
            stop="END",
        )
    image = {
        "type": "base64",
        "media_type": "image/png",
        "data": DATA_URL.partition(",")[2],
    }
    assert body == {
        "model": MODERN,
        "max_tokens": 50,
        "stop_sequences": ["END"],
        "system": "Be brief.",
        "tools": [
            {
                "name": "weather",
                "description": "Reports the weather.",
                "input_schema": {"type": "object", "properties": {}},
            }
        ],
        "tool_choice": {"type": "any"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image", "source": image},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Köln"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                    {"type": "text", "text": "And tomorrow?"},
                ],
            },
        ],
    }


def test_max_tokens_is_always_sent() -> None:
    with WireServer() as server:
        assert sent_body(adapter(server), server)["max_tokens"] == 8192
        assert sent_body(adapter(server, "claude-3-opus-latest"), server)["max_tokens"] == 4096


def test_system_messages_may_have_any_position_and_carry_cache_marks() -> None:
    mark = {"type": "ephemeral"}
    parts = [{"type": "text", "text": "Long.", "cache_control": mark}]
    messages = [Message("user", "hi"), Message("system", parts), Message("user", "there")]
    with WireServer() as server:
        body = sent_body(adapter(server), server, messages)
    assert body["system"] == [{"type": "text", "text": "Long.", "cache_control": mark}]
    assert [each["role"] for each in body["messages"]] == ["user"]


def test_a_modern_model_gets_the_schema_and_an_older_one_a_forced_tool_call() -> None:
    with WireServer(reply='{"name": "Paris"}') as server:
        modern = sent_body(adapter(server), server, response_model=City)
        older = sent_body(adapter(server, OLDER), server, response_model=City)
    assert modern["output_config"]["format"]["type"] == "json_schema"
    assert "tools" not in modern
    assert older["tool_choice"]["type"] == "tool"
    assert older["tools"][0]["input_schema"]["required"] == ["name"]


@either_way
def test_the_arguments_of_the_forced_call_are_the_answer(way: str) -> None:
    from agentkit.providers.anthropic.encoder import ANSWER_TOOL
    from agentkit.types import ToolCall

    reply: Response[Any] = Response("", tool_calls=(ToolCall("t", ANSWER_TOOL, {"name": "Köln"}),))
    with WireServer(reply=reply) as server, asking(adapter(server, OLDER)) as asker:
        reply = asker.ask(way, response_model=City)
    assert reply.parsed == City(name="Köln")
    assert (reply.tool_calls, reply.finish_reason) == ((), "stop")


def message(*content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": "end_turn",
        "usage": {},
        **fields,
    }


def complete(server: Canned, body: Any) -> Response[Any]:
    server.json(body)
    with asking(AnthropicMessages(MODERN, api_key="any", base_url=server.url)) as asker:
        return asker.ask("sync")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        [],
        None,
        message(),
        message(content=None),
        message(content="text"),
        message("text"),
        message({"type": "tool_use", "id": "t", "name": "weather", "input": "{'city'"}),
        message({"type": "tool_use", "id": "t", "name": "weather", "input": [1]}),
    ],
    ids=str,
)
def test_an_unexpected_response_is_an_invalid_response(odd: Any) -> None:
    with canned() as server, pytest.raises(e.InvalidResponseError):
        complete(server, odd)


TEXT = {"type": "text", "text": "Paris."}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"input_tokens": -5, "output_tokens": "three"}, Usage()),
        ({"input_tokens": "4", "output_tokens": 3.0}, Usage(4, 3)),
        ({"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 1}, Usage(7, 1, 3)),
    ],
)
def test_missing_or_invalid_usage_counts_as_zero(usage: Any, expected: Usage) -> None:
    with canned() as server:
        assert complete(server, message(TEXT, usage=usage)).usage == expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("phase_of_the_moon", "phase_of_the_moon"),
    ],
)
def test_a_stop_reason_has_its_common_name(reason: str, expected: str) -> None:
    with canned() as server:
        assert complete(server, message(TEXT, stop_reason=reason)).finish_reason == expected


def test_a_refusal_is_a_content_filter_error() -> None:
    with canned() as server, pytest.raises(e.ContentFilterError):
        complete(server, message(TEXT, stop_reason="refusal"))


def test_an_error_in_a_response_with_status_200_is_raised() -> None:
    with canned() as server, pytest.raises(e.OverloadedError):
        complete(
            server, {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
        )


def start(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


STOP = {"type": "message_stop"}
TOOL = start(0, {"type": "tool_use", "id": "t", "name": "weather", "input": {}})


def test_a_polite_end_without_a_stop_reason_is_a_cut() -> None:
    with canned() as server:
        text = start(0, {"type": "text", "text": ""})
        server.events(text, delta(0, type="text_delta", text="Par"), STOP)
        with (
            asking(AnthropicMessages(MODERN, api_key="any", base_url=server.url)) as asker,
            pytest.raises(e.StreamInterruptedError) as caught,
        ):
            asker.ask("stream")
    assert caught.value.partial == "Par"


@pytest.mark.parametrize(
    "odd",
    [
        [delta(3, type="input_json_delta", partial_json="{}"), STOP],
        [TOOL, delta(0, type="input_json_delta", partial_json="{'city"), STOP],
        [{"type": "message_start", "message": "text"}, STOP],
        [{"type": "content_block_start", "index": 0}, STOP],
        [start(0, {"type": "text", "text": ""})],
        [start(0, {"type": "text", "text": ""}), STOP],
    ],
    ids=str,
)
def test_an_unexpected_stream_is_an_invalid_response(odd: list[Any]) -> None:
    with canned() as server:
        server.events(*odd)
        with (
            asking(AnthropicMessages(MODERN, api_key="any", base_url=server.url)) as asker,
            pytest.raises(e.InvalidResponseError),
        ):
            asker.ask("stream")
