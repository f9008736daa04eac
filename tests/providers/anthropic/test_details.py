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
WEATHER = ToolSpec("weather", "Tells the weather.")
both_ways = pytest.mark.parametrize("way", ["blocking", "stream"])


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


def said(role: str, content: Any, **rest: Any) -> Message:
    return Message(role, content, **rest)


def test_system_messages_are_joined_wherever_they_stand() -> None:
    body = body_of(said("system", "One."), said("user", "hi"), said("system", "Two."))
    assert body["system"] == "One.\n\nTwo."
    assert body["messages"] == [{"role": "user", "content": "hi"}]


def test_results_of_calls_side_by_side_are_one_turn() -> None:
    calls = (ToolCall("a", "weather"), ToolCall("b", "weather"))
    body = body_of(
        said("user", "hi"),
        said("assistant", "", tool_calls=calls),
        said("tool", "rain", tool_call_id="a"),
        said("tool", "sun", tool_call_id="b"),
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["a", "b"]


@pytest.mark.parametrize("given", ["call:1/α", "functions.weather:0", "x" * 65, ""])
def test_an_id_of_another_vendor_becomes_one_that_fits_in_both_places(given: str) -> None:
    body = body_of(
        said("user", "hi"),
        said("assistant", "", tool_calls=(ToolCall(given, "weather"),)),
        said("tool", "rain", tool_call_id=given),
    )
    (call,), (result,) = (turn["content"] for turn in body["messages"][1:])
    assert call["id"] == result["tool_use_id"] == valid_id(given)
    assert call["id"].replace("_", "").isalnum()
    assert len(call["id"]) <= 64


def test_ids_that_differ_only_in_odd_characters_stay_apart() -> None:
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
def test_the_limit_is_the_callers_or_that_of_the_family(
    model: str, params: dict[str, Any], expected: int
) -> None:
    assert body_of(model=model, **params)["max_tokens"] == expected


def test_a_large_limit_needs_no_stream() -> None:
    """The SDK refuses one unless it is told how long it may wait."""
    with WireServer(reply="Paris.") as server:
        asked = adapter(server)
        assert asked.send(Request(prompt="capital?", params={"max_tokens": 100_000})).text
        asked.close()


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
        ({"type": "any"}, {"type": "any"}),
    ],
)
def test_a_tool_choice_is_put_into_its_words(wish: Any, expected: dict[str, Any]) -> None:
    assert body_of(tools=[WEATHER], tool_choice=wish)["tool_choice"] == expected


def test_documents_addresses_and_cache_marks_travel() -> None:
    mark = {"type": "ephemeral"}
    body = body_of(
        said(
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


def test_a_tool_may_answer_with_a_picture() -> None:
    picture = [{"type": "text", "text": "here"}, {"type": "image", "data": PNG}]
    body = body_of(
        said("user", "hi"),
        said("assistant", "", tool_calls=(ToolCall("a", "draw"),)),
        said("tool", picture, tool_call_id="a"),
    )
    (result,) = body["messages"][2]["content"]
    assert [block["type"] for block in result["content"]] == ["text", "image"]


def test_a_schema_stands_beside_the_callers_own_settings_of_the_output() -> None:
    config = body_of(reply='{"name": "Paris"}', response_model=City,
                     output_config={"effort": "low"})["output_config"]  # fmt: skip
    assert config["effort"] == "low"
    assert config["format"]["type"] == "json_schema"
    assert config["format"]["schema"]["additionalProperties"] is False


@every_way
def test_an_open_schema_is_a_tool_to_call(way: str) -> None:
    """Structured outputs know closed objects only."""
    call = ToolCall("toolu_1", "answer_as_json", {"counts": {"a": 1}})
    with WireServer(reply=Response("", tool_calls=(call,))) as server:
        with asking(adapter(server)) as asker:
            told = asker.ask(way, response_model=Open)
        body = server.requests[0].body
    assert told.parsed == Open(counts={"a": 1})
    assert (told.tool_calls, told.finish_reason) == ((), "stop")
    assert body["tools"][0]["input_schema"] == Open.model_json_schema()


@pytest.mark.parametrize(
    "wish",
    [
        {"type": "json_schema", "name": "City", "schema": City.model_json_schema()},
        {"type": "json_schema", "json_schema": {"schema": City.model_json_schema()}},
    ],
)
def test_a_schema_among_the_parameters_counts_in_either_shape(wish: dict[str, Any]) -> None:
    body = body_of(reply="{}", response_format=wish)
    assert body["output_config"]["format"]["type"] == "json_schema"
    assert "response_format" not in body


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body = body_of(said("system", "Be brief."), said("user", "hi"), reply="{}",
                   response_format={"type": "json_object"})  # fmt: skip
    assert "JSON" in body["system"]
    assert "Be brief." in body["system"]


@every_way
@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop_sequence", "stop"), ("max_tokens", "length"), ("pause_turn", "pause_turn")],
)
def test_a_stop_reason_is_told_in_the_common_words(way: str, reason: str, expected: str) -> None:
    reply: Response[Any] = Response("Par", finish_reason=reason)
    with WireServer(reply=reply) as server, asking(adapter(server)) as asker:
        assert asker.ask(way).finish_reason == expected


@every_way
def test_a_refusal_is_told_apart_from_an_answer(way: str) -> None:
    refused: Response[Any] = Response("", finish_reason="content_filter")
    with (
        WireServer(reply=refused) as server,
        asking(adapter(server)) as asker,
        pytest.raises(ContentFilterError),
    ):
        asker.ask(way)


@every_way
def test_an_overload_inside_a_successful_answer_is_told_as_itself(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.stream_error(0, status=529))
        with pytest.raises(OverloadedError):
            asker.ask(way)


def test_an_error_carries_the_providers_id_of_the_request() -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(500))
        with pytest.raises(ServerError) as caught:
            asker.ask("blocking")
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    ("model", "takes"),
    [("claude-3-5-haiku-latest", True), ("claude-opus-4-5", True), (MODEL, False)],
)
def test_only_models_that_go_on_from_a_beginning_say_so(model: str, takes: bool) -> None:
    assert ("prefill" in AnthropicMessages(model).capabilities) is takes


def test_a_beginning_ends_without_blanks() -> None:
    """The API refuses one that does not."""
    body = body_of(said("user", "hi"), said("assistant", "The quick  \n"), model="claude-opus-4-5")
    assert body["messages"][-1] == {"role": "assistant", "content": "The quick"}


def answer(*content: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "msg", "type": "message", "role": "assistant", "model": "m",
            "content": list(content), "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1}, **fields}  # fmt: skip


PARIS = {"type": "text", "text": "Paris."}


def told(server: Canned, way: str) -> Response[Any]:
    with asking(AnthropicMessages(MODEL, api_key="any", base_url=server.url)) as asker:
        return asker.ask(way)


def test_a_call_of_no_name_is_an_invalid_answer() -> None:
    with canned() as server:
        server.json(answer({"type": "tool_use", "input": {}}))
        with pytest.raises(InvalidResponseError):
            told(server, "blocking")


def test_cached_tokens_are_counted_in() -> None:
    usage = {"input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 30,
             "cache_creation_input_tokens": 10}  # fmt: skip
    with canned() as server:
        server.json(answer(PARIS, usage=usage))
        assert told(server, "blocking").usage == Usage(44, 2, 30, 10)


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
def test_limits_are_learned_from_the_headers(way: str) -> None:
    with canned() as server:
        server.headers = {
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-input-tokens-limit": "40000",
            "anthropic-ratelimit-output-tokens-limit": "8000",
        }
        server.json(answer(PARIS))
        if way == "stream":
            server.events(*stream_of({"type": "text", "text": ""},
                                     {"type": "text_delta", "text": "Paris."}))  # fmt: skip
        assert told(server, way).quota == Quota(50, 40000, 8000)


def test_a_call_without_arguments_has_none() -> None:
    with canned() as server:
        block = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
        server.events(*stream_of(block, stop="tool_use"))
        reply = told(server, "stream")
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
def test_thoughts_before_a_call_go_back_with_it_also_with_another_key(way: str) -> None:
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
            asker.ask("blocking", messages)
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
        End("stop", Usage(9, 2), (), "msg_1"),
    ]
