"""OpenAI's chat completions: what is sent, and answers that no honest server gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit.errors import ContentFilterError, InvalidResponseError, LLMError, RateLimitError
from agentkit.providers.openai.chat import OpenAIChat
from agentkit.testing import WireServer
from agentkit.types import Response, ToolSpec, Usage
from tests.providers.asking import (
    CONVERSATION,
    DATA_URL,
    Asker,
    asking,
    every_way,
    sent_body,
)
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

streamed_or_not = pytest.mark.parametrize("way", ["sync", "stream"])


def adapter(server: WireServer, **settings: Any) -> OpenAIChat:
    return OpenAIChat("gpt-x", api_key="any", base_url=server.openai_url, **settings)


@pytest.mark.promise("S2-25")
def test_the_body_of_a_conversation() -> None:
    spec = ToolSpec("weather", "Reports the weather.", {"type": "object", "properties": {}})
    with WireServer() as server:
        body = sent_body(
            adapter(server), server, CONVERSATION, tools=[spec], max_tokens=50, stop=["END"]
        )
    call = {"name": "weather", "arguments": '{"city": "Köln"}'}
    assert body == {
        "model": "gpt-x",
        "max_completion_tokens": 50,
        "stop": ["END"],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Reports the weather.",
                    "parameters": {"type": "object", "properties": {}},
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {"type": "image_url", "image_url": {"url": DATA_URL}},
                ],
            },
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            },
            {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
            {"role": "user", "content": "And tomorrow?"},
        ],
    }


def test_a_schema_is_sent_in_strict_mode_and_an_open_one_unchanged() -> None:
    class Page(BaseModel):
        title: str
        words: int = 0

    class Open(BaseModel):
        counts: dict[str, int]

    with WireServer(reply='{"title": "x", "words": 1, "counts": {}}') as server:
        strict = sent_body(adapter(server), server, response_model=Page)["response_format"]
        loose = sent_body(adapter(server), server, response_model=Open)["response_format"]
    assert strict["type"] == loose["type"] == "json_schema"
    assert (strict["json_schema"]["strict"], loose["json_schema"]["strict"]) == (True, False)
    schema = strict["json_schema"]["schema"]
    assert (schema["required"], schema["additionalProperties"]) == (["title", "words"], False)


@pytest.mark.promise("S2-25")
def test_json_mode_is_sent_and_a_stream_requests_its_usage() -> None:
    with WireServer(reply="{}") as server:
        body = sent_body(adapter(server), server, response_format={"type": "json_object"})
        assert body["response_format"] == {"type": "json_object"}
        with asking(adapter(server)) as asker:
            asker.ask("stream")
    assert server.requests[-1].body["stream_options"] == {"include_usage": True}


@every_way
def test_a_truncated_answer_has_finish_reason_length(way: str) -> None:
    with (
        WireServer(reply=Response("Par", finish_reason="length")) as server,
        asking(adapter(server)) as asker,
    ):
        assert asker.ask(way).finish_reason == "length"


def answer(message: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": fields.pop("finish", "stop")}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **fields,
    }


def complete(server: Canned, asked: Any) -> Response[Any]:
    server.json(asked)
    with asking(OpenAIChat("gpt-x", api_key="any", base_url=server.url)) as asker:
        return asker.ask("sync")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        [],
        None,
        "text",
        answer(choices=[]),
        answer(choices=None),
        answer(choices=[{}]),
        answer(choices=["text"]),
        answer(None),
        answer({"role": "assistant"}),
        answer({"role": "assistant", "content": None}),
        answer({"role": "assistant", "content": 7}),
        answer({"content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]}),
        answer({"content": None, "tool_calls": "weather"}),
        *(
            answer(
                {
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": arguments},
                        }
                    ],
                }
            )
            for arguments in ("{'city'", "[1]", "null", "7", "{} {}")
        ),
    ],
    ids=str,
)
def test_an_unexpected_response_is_an_invalid_response(odd: Any) -> None:
    with canned() as server, pytest.raises(InvalidResponseError):
        complete(server, odd)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ("many", Usage()),
        ({"prompt_tokens": -5, "completion_tokens": "three"}, Usage()),
        ({"prompt_tokens": "4", "completion_tokens": 3.0}, Usage(4, 3)),
        ({"prompt_tokens": 4, "completion_tokens": None}, Usage(4)),
        ({"prompt_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(4, 0, 3)),
    ],
)
def test_missing_or_invalid_usage_counts_as_zero(usage: Any, expected: Usage) -> None:
    with canned() as server:
        reply = complete(server, answer({"content": "Paris."}, usage=usage))
    assert (reply.text, reply.usage) == ("Paris.", expected)


def test_an_unknown_finish_reason_is_passed_on() -> None:
    with canned() as server:
        reply = complete(server, answer({"content": "Paris."}, finish="phase_of_the_moon"))
    assert reply.finish_reason == "phase_of_the_moon"


def test_a_refusal_is_a_content_filter_error() -> None:
    with canned() as server, pytest.raises(ContentFilterError):
        complete(server, answer({"content": None, "refusal": "I cannot help with that."}))


def test_an_error_in_a_response_with_status_200_is_raised() -> None:
    with canned() as server, pytest.raises(RateLimitError):
        complete(server, {"error": {"code": 429, "message": "slow down"}})


def chunk(delta: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], **more}


def streamed(server: Canned, asker_way: str = "stream") -> Response[Any]:
    with asking(OpenAIChat("gpt-x", api_key="any", base_url=server.url)) as asker:
        return asker.ask(asker_way)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_with_comments_empty_choices_and_mixed_line_ends_is_read(way: str) -> None:
    lines = [
        chunk({"content": "Grü"}),
        {"id": "x", "choices": []},
        chunk({"content": "ße"}),
        chunk({}, "stop"),
        {"choices": [], "usage": {"prompt_tokens": 2}},
    ]
    raw = ": a comment\r\r" + "".join(f"data: {json.dumps(each)}\r\r" for each in lines)
    with canned() as server:
        server.events(raw=(raw + "data: [DONE]\r\r").encode())
        reply = streamed(server, way)
    assert (reply.text, reply.usage) == ("Grüße", Usage(2))


@pytest.mark.parametrize(
    "odd",
    [
        [chunk({"tool_calls": "weather"}), chunk({}, "stop")],
        [chunk("text"), chunk({}, "stop")],
        [7],
        [[1, 2]],
        [
            chunk({"tool_calls": [{"index": 0, "function": {"name": "w", "arguments": "{"}}]}),
            chunk({}, "tool_calls"),
        ],
        [{"choices": "none"}],
    ],
    ids=str,
)
def test_an_unexpected_stream_is_an_invalid_response(odd: list[Any]) -> None:
    with canned() as server:
        server.events(raw=b"".join(b"data: %s\n\n" % _json(each) for each in odd))
        with pytest.raises(InvalidResponseError):
            streamed(server)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_a_streamed_refusal_is_a_content_filter_error() -> None:
    with canned() as server:
        server.events(chunk({"refusal": "I cannot."}), chunk({}, "stop"))
        with pytest.raises(ContentFilterError):
            streamed(server)


def test_an_event_of_ten_megabytes_is_read() -> None:
    text = "x" * 10_000_000
    with canned() as server:
        server.events(chunk({"content": text}), chunk({}, "stop"))
        assert len(streamed(server).text) == len(text)


@streamed_or_not
def test_rate_limits_are_read_from_the_headers(way: str) -> None:
    with canned() as server:
        server.headers = {"x-ratelimit-limit-requests": "500"}
        server.json(answer({"content": "Paris."}))
        if way == "stream":
            server.events(chunk({"content": "Paris."}), chunk({}, "stop"))
        asker = Asker(OpenAIChat("gpt-x", api_key="any", base_url=server.url))
        with asker.llm:
            reply = asker.ask(way)
        asker.adapter.close()
    assert reply.quota is not None
    assert reply.quota.requests_per_minute == 500


def test_no_key_is_a_configuration_error_that_names_the_variable() -> None:
    with (
        WireServer() as server,
        asking(OpenAIChat("m", base_url=server.openai_url)) as asker,
        pytest.raises(LLMError, match="OPENAI_API_KEY"),
    ):
        asker.ask("sync")
