"""Anthropic's messages in detail: whatever a conversation holds, and thoughts that go back."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentkit.errors import ContentFilterError, InvalidResponseError, OverloadedError, ServerError
from agentkit.providers.anthropic.encoder import valid_id
from agentkit.providers.anthropic.messages import AnthropicMessages
from agentkit.testing import WireServer, faults
from agentkit.types import (
    End,
    Message,
    MessageRole,
    Quota,
    ReasoningDelta,
    Request,
    Response,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from tests.providers.asking import PNG, asking, every_way, sent_body
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

MODEL = "claude-sonnet-5-5"
WEATHER = ToolSpec("weather", "Reports the weather.")
both_ways = pytest.mark.parametrize("way", ["sync", "stream"])


class City(BaseModel):
    name: str
    people: int = 0


class Open(BaseModel):
    counts: dict[str, int]


def adapter(server: WireServer, model: str = MODEL, **settings: Any) -> AnthropicMessages:
    return AnthropicMessages(model, api_key="any", base_url=server.anthropic_url, **settings)


def body_of(
    *messages: Message, model: str = MODEL, reply: Any = "Fine.", **options: Any
) -> dict[str, Any]:
    with WireServer(reply=reply) as server:
        prompt = list(messages) or "capital?"
        return sent_body(adapter(server, model), server, prompt, **options)


def message(role: str, content: Any, **rest: Any) -> Message:
    return Message(role, content, **rest)


def test_system_messages_are_joined_whatever_their_position() -> None:
    body = body_of(message("system", "One."), message("user", "hi"), message("system", "Two."))
    assert body["system"] == "One.\n\nTwo."
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_results_of_parallel_calls_are_one_turn() -> None:
    calls = (ToolCall("a", "weather"), ToolCall("b", "weather"))
    body = body_of(
        message("user", "hi"),
        message("assistant", "", tool_calls=calls),
        message("tool", "rain", tool_call_id="a"),
        message("tool", "sun", tool_call_id="b"),
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["a", "b"]


@pytest.mark.parametrize("given", ["call:1/α", "functions.weather:0", "x" * 65, ""])
def test_an_invalid_id_is_replaced_in_the_call_and_the_result(given: str) -> None:
    body = body_of(
        message("user", "hi"),
        message("assistant", "", tool_calls=(ToolCall(given, "weather"),)),
        message("tool", "rain", tool_call_id=given),
    )
    (call,), (result,) = (turn["content"] for turn in body["messages"][1:])
    assert call["id"] == result["tool_use_id"] == valid_id(given)
    assert call["id"].replace("_", "").isalnum()
    assert len(call["id"]) <= 64


def test_ids_that_differ_only_in_invalid_characters_stay_different() -> None:
    assert len({valid_id("call.1"), valid_id("call:1"), valid_id("call_1")}) == 3


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        (MODEL, {"max_tokens": 7}, 7),
        ("claude-3-haiku-latest", {}, 4096),
        ("claude-3-7-sonnet-latest", {}, 8192),
        ("claude-opus-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, 10192),
    ],
)
@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
def test_max_tokens_is_the_callers_or_that_of_the_model_family(
    model: str, params: dict[str, Any], expected: int
) -> None:
    assert body_of(model=model, **params)["max_tokens"] == expected


def test_a_large_max_tokens_does_not_require_a_stream() -> None:
    """The SDK refuses one without a time limit."""
    with WireServer(reply="Paris.") as server:
        asked = adapter(server)
        assert asked.send(Request(prompt="capital?", params={"max_tokens": 100_000})).text
        asked.close()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
        ({"type": "any"}, {"type": "any"}),
    ],
)
def test_a_tool_choice_is_translated(choice: Any, expected: dict[str, Any]) -> None:
    assert body_of(tools=[WEATHER], tool_choice=choice)["tool_choice"] == expected


def test_documents_urls_and_cache_marks_are_sent() -> None:
    mark = {"type": "ephemeral"}
    body = body_of(
        message(
            "user",
            [
                {"type": "document", "data": b"%PDF", "media_type": "application/pdf", "name": "P"},
                {"type": "document", "data": b"Hi", "media_type": "text/markdown", "name": "M"},
                {"type": "image", "url": "https://example.org/a.png"},
                {"type": "text", "text": ""},
                {"type": "text", "text": "Compare.", "cache_control": mark},
            ],
        ),
        cache_control=mark,
    )
    assert body["cache_control"] == mark
    pdf, plain, image, text = body["messages"][0]["content"]
    assert pdf["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert pdf["title"] == "P"
    assert plain["source"] == {"type": "text", "media_type": "text/plain", "data": "Hi"}
    assert image["source"] == {"type": "url", "url": "https://example.org/a.png"}
    assert text == {"type": "text", "text": "Compare.", "cache_control": mark}


def test_a_tool_result_may_be_an_image() -> None:
    picture = [{"type": "text", "text": "here"}, {"type": "image", "data": PNG}]
    body = body_of(
        message("user", "hi"),
        message("assistant", "", tool_calls=(ToolCall("a", "draw"),)),
        message("tool", picture, tool_call_id="a"),
    )
    (result,) = body["messages"][2]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image"]


def test_a_schema_is_merged_with_the_callers_own_output_config() -> None:
    config = body_of(
        reply='{"name": "Paris"}', response_model=City, output_config={"effort": "low"}
    )["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["type"] == "json_schema"
    assert config["format"]["schema"]["additionalProperties"] is False


@every_way
def test_an_open_schema_becomes_a_forced_tool_call(way: str) -> None:
    """Structured outputs know closed objects only."""
    call = ToolCall("toolu_1", "answer_as_json", {"counts": {"a": 1}})
    with WireServer(reply=Response("", tool_calls=(call,))) as server:
        with asking(adapter(server)) as asker:
            reply = asker.ask(way, response_model=Open)
        body = server.requests[0].body
    assert reply.parsed == Open(counts={"a": 1})
    assert (reply.tool_calls, reply.finish_reason) == ((), "stop")
    assert body["tools"][0]["input_schema"] == Open.model_json_schema()


@pytest.mark.parametrize(
    "response_format",
    [
        {"type": "json_schema", "name": "City", "schema": City.model_json_schema()},
        {"type": "json_schema", "json_schema": {"schema": City.model_json_schema()}},
    ],
)
def test_a_response_format_parameter_is_understood_in_either_shape(
    response_format: dict[str, Any],
) -> None:
    body = body_of(reply="{}", response_format=response_format)
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert "response_format" not in body


def test_json_mode_becomes_an_instruction_in_the_prompt() -> None:
    body = body_of(
        message("system", "Be brief."),
        message("user", "hi"),
        reply="{}",
        response_format={"type": "json_object"},
    )
    assert "JSON" in body["system"]
    assert "Be brief." in body["system"]


@every_way
@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop_sequence", "stop"), ("max_tokens", "length"), ("pause_turn", "pause_turn")],
)
def test_a_stop_reason_has_its_common_name(way: str, reason: str, expected: str) -> None:
    reply: Response[Any] = Response("Par", finish_reason=reason)
    with WireServer(reply=reply) as server, asking(adapter(server)) as asker:
        assert asker.ask(way).finish_reason == expected


@every_way
def test_a_refusal_is_a_content_filter_error(way: str) -> None:
    refused: Response[Any] = Response("", finish_reason="content_filter")
    with (
        WireServer(reply=refused) as server,
        asking(adapter(server)) as asker,
        pytest.raises(ContentFilterError),
    ):
        asker.ask(way)


@every_way
def test_an_overload_in_a_response_with_status_200_is_raised(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.stream_error(0, status=529))
        with pytest.raises(OverloadedError):
            asker.ask(way)


def test_an_error_carries_the_providers_id_of_the_request() -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(500))
        with pytest.raises(ServerError) as caught:
            asker.ask("sync")
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    ("model", "takes"),
    [("claude-3-5-haiku-latest", True), ("claude-opus-4-5", True), (MODEL, False)],
)
def test_only_models_that_continue_an_answer_support_prefill(model: str, takes: bool) -> None:
    assert ("prefill" in AnthropicMessages(model).capabilities) is takes
    assert "prefill" not in AnthropicMessages(model, thinking={"budget_tokens": 2000}).capabilities


def test_a_prefill_ends_without_white_space() -> None:
    """The API refuses one that does not."""
    body = body_of(
        message("user", "hi"), message("assistant", "The quick  \n"), model="claude-opus-4-5"
    )
    assert body["messages"][-1] == {"role": "assistant", "content": "The quick"}


def answer(*content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        **fields,
    }


PARIS = {"type": "text", "text": "Paris."}


def ask(server: Canned, way: str) -> Response[Any]:
    with asking(AnthropicMessages(MODEL, api_key="any", base_url=server.url)) as asker:
        return asker.ask(way)


def test_a_tool_call_without_a_name_is_an_invalid_response() -> None:
    with canned() as server:
        server.json(answer({"type": "tool_use", "input": {}}))
        with pytest.raises(InvalidResponseError):
            ask(server, "sync")


def test_input_tokens_include_cached_ones() -> None:
    usage = {
        "input_tokens": 4,
        "output_tokens": 2,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 10,
    }
    with canned() as server:
        server.json(answer(PARIS, usage=usage))
        assert ask(server, "sync").usage == Usage(44, 2, 30, 10)


def stream_of(block: Any, *deltas: Any, stop: str = "end_turn") -> list[dict[str, Any]]:
    return [
        {"type": "message_start", "message": {**answer(), "stop_reason": None}},
        {"type": "ping"},
        *block_of(0, block, *deltas),
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]


def block_of(index: int, block: Any, *deltas: Any) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@both_ways
def test_rate_limits_are_read_from_the_headers(way: str) -> None:
    with canned() as server:
        server.headers = {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-output-tokens-limit": "8000",
        }
        server.json(answer(PARIS))
        if way == "stream":
            server.events(
                *stream_of({"type": "text", "text": ""}, {"type": "text_delta", "text": "Paris."})
            )
        assert ask(server, way).quota == Quota(50, 40000, 8000)


def test_a_tool_call_without_arguments_has_empty_ones() -> None:
    with canned() as server:
        block = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
        server.events(*stream_of(block, stop="tool_use"))
        reply = ask(server, "stream")
    assert reply.tool_calls == (ToolCall("toolu_1", "now", {}),)
    assert reply.finish_reason == "tool_calls"


THOUGHT = {"type": "thinking", "thinking": "Rain?", "signature": "sig"}
HIDDEN = {"type": "redacted_thinking", "data": "xyz"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}


def thinking_stream() -> list[dict[str, Any]]:
    first = block_of(
        0,
        {**THOUGHT, "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Ra"},
        {"type": "thinking_delta", "thinking": "in?"},
        {"type": "signature_delta", "signature": "sig"},
    )
    events = stream_of({"type": "text", "text": ""}, stop="tool_use")
    return [*events[:2], *first, *block_of(1, HIDDEN), *block_of(2, USE), *events[-2:]]


@both_ways
def test_thinking_before_a_tool_call_is_sent_back_even_with_another_key(way: str) -> None:
    """The API demands them of a model that thinks; a conversation has no place for them."""
    with canned() as server:
        first = AnthropicMessages(MODEL, api_key="any", base_url=server.url)
        second = first.with_key("other")
        server.json(answer(THOUGHT, HIDDEN, USE, stop_reason="tool_use"))
        if way == "stream":
            server.events(*thinking_stream())
        with asking(first) as asker:
            reply = asker.ask(way)
        server.json(answer(PARIS))
        messages = [
            Message(MessageRole.USER, "Weather?"),
            Message(MessageRole.ASSISTANT, reply.text, tool_calls=reply.tool_calls),
            Message(MessageRole.TOOL, "rain", tool_call_id="toolu_1"),
        ]
        with asking(second) as asker:
            asker.ask("sync", messages)
        sent = server.requests[-1]["messages"][1]["content"]
    assert reply.reasoning == "Rain?"
    assert sent == [THOUGHT, HIDDEN, USE]


def test_the_events_of_a_stream_in_order() -> None:
    with WireServer(reply=Response("Pa ris", reasoning="Hm.", usage=Usage(9, 2))) as server:
        asked = adapter(server)
        events = list(asked.stream(Request(prompt="capital?")))
        asked.close()
    assert events == [
        ReasoningDelta("Hm."),
        TextDelta("Pa"),
        TextDelta(" ris"),
        End("stop", Usage(9, 2), (), "msg_1", model_id="claude-sonnet-5-5"),
    ]
