"""OpenAI's responses: what is sent, and every way in which a response can end."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import errors as e
from agentkit.providers.openai.responses import OpenAIResponses
from agentkit.testing import WireServer, faults
from agentkit.types import Message, Response, ToolSpec, Usage
from tests.providers.asking import CONVERSATION, DATA_URL, asking, either_way, every_way, sent_body
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire


def adapter(server: WireServer, **settings: Any) -> OpenAIResponses:
    return OpenAIResponses("gpt-x", api_key="any", base_url=server.openai_url, **settings)


def test_the_body_of_a_conversation() -> None:
    spec = ToolSpec("weather", "", {"type": "object", "properties": {}})
    with WireServer() as server:
        body = sent_body(
            adapter(server),
            server,
            CONVERSATION,
            tools=[spec],
            tool_choice="weather",
            max_tokens=50,
            reasoning_effort="low",
        )
    parameters = {"type": "object", "properties": {}}
    assert body == {
        "model": "gpt-x",
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "reasoning": {"effort": "low"},
        "tools": [
            {"type": "function", "name": "weather", "parameters": parameters, "strict": False}
        ],
        "tool_choice": {"type": "function", "name": "weather"},
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Where is this?"},
                    {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
                ],
            },
            {"role": "assistant", "content": "Let me look."},
            {
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city": "Köln"}',
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
            {"role": "user", "content": "And tomorrow?"},
        ],
    }


def test_files_are_sent_as_data_or_as_a_url() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "document", "data": b"%PDF", "media_type": "application/pdf", "name": "a.pdf"},
        {"type": "document", "url": "https://example.org/b.pdf"},
    ]
    with WireServer() as server:
        body = sent_body(adapter(server), server, [Message("user", parts)])
    given, linked = body["input"][0]["content"]
    assert given == {
        "type": "input_file",
        "filename": "a.pdf",
        "file_data": "data:application/pdf;base64,JVBERg==",
    }
    assert linked == {"type": "input_file", "file_url": "https://example.org/b.pdf"}


def test_a_schema_json_mode_and_the_store_option() -> None:
    class Page(BaseModel):
        title: str

    with WireServer(reply='{"title": "x"}') as server:
        body = sent_body(
            adapter(server), server, response_model=Page, text={"verbosity": "low"}, store=True
        )
        assert body["store"] is True
        assert body["text"]["verbosity"] == "low"
        form = body["text"]["format"]
        assert (form["type"], form["name"], form["strict"]) == ("json_schema", "Page", True)
        assert form["schema"]["additionalProperties"] is False


@every_way
def test_a_truncated_answer_has_finish_reason_length(way: str) -> None:
    with (
        WireServer(reply=Response("Pa", finish_reason="length", usage=Usage(3, 9))) as server,
        asking(adapter(server)) as asker,
    ):
        reply = asker.ask(way)
    assert (reply.text, reply.finish_reason, reply.usage) == ("Pa", "length", Usage(3, 9))


def response(*output: Any, status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": list(output),
        **fields,
    }


def message(*content: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "status": "completed",
        "content": list(content),
    }


def asked(server: Canned, way: str, body: Any) -> Response[Any]:
    """The reply to one response, sent as JSON or as the last event of a stream."""
    server.json(body)
    if "stream" in way:
        server.events({"type": f"response.{body['status']}", "response": body})
    with asking(OpenAIResponses("gpt-x", api_key="any", base_url=server.url)) as asker:
        return asker.ask(way)


_CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "weather"}


@either_way
@pytest.mark.parametrize(
    "odd",
    [
        response(),
        response(message()),
        response({"type": "reasoning", "id": "r", "summary": []}),
        response({**_CALL, "arguments": "{'city'"}),
        response({**_CALL, "arguments": "[1]"}),
        response("text"),
        response(output=7),
        response({"type": "message", "content": None}),
    ],
    ids=str,
)
def test_an_unexpected_response_is_an_invalid_response(way: str, odd: Any) -> None:
    with canned() as server, pytest.raises(e.InvalidResponseError):
        asked(server, way, odd)


@either_way
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("server_error", e.ServerError),
        ("vector_store_timeout", e.ServerError),
        ("never_heard_of", e.ServerError),
        ("rate_limit_exceeded", e.RateLimitError),
        ("invalid_prompt", e.InvalidRequestError),
        ("image_too_large", e.InvalidRequestError),
        ("image_content_policy_violation", e.ContentFilterError),
        ("bio_policy", e.ContentFilterError),
        ("context_length_exceeded", e.ContextLengthError),
    ],
)
def test_a_failed_response_is_the_error_of_its_code(
    way: str, code: str, error: type[e.LLMError]
) -> None:
    failed = response(status="failed", error={"code": code, "message": "no"})
    with canned() as server, pytest.raises(error) as caught:
        asked(server, way, failed)
    assert type(caught.value) is error


@either_way
def test_a_refusal_is_a_content_filter_error(way: str) -> None:
    with canned() as server, pytest.raises(e.ContentFilterError):
        asked(server, way, response(message({"type": "refusal", "refusal": "I cannot."})))


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    ("status", "error"),
    [(429, e.RateLimitError), (500, e.ServerError)],
)
def test_an_error_event_ends_a_stream(way: str, status: int, error: type[e.LLMError]) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.stream_error(0, status=status))
        with pytest.raises(error):
            asker.ask(way)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_without_its_last_event_is_not_an_answer(way: str) -> None:
    with canned() as server:
        delta = {"type": "response.output_text.delta", "delta": "Par", "item_id": "m"}
        server.events({"type": "response.created", "response": response()}, delta)
        with (
            asking(OpenAIResponses("gpt-x", api_key="any", base_url=server.url)) as asker,
            pytest.raises(e.StreamInterruptedError) as caught,
        ):
            asker.ask(way)
    assert caught.value.partial == "Par"


@either_way
@pytest.mark.parametrize("details", [None, {}, {"reason": None}])
def test_an_incomplete_response_without_details_is_not_complete(way: str, details: Any) -> None:
    text = message({"type": "output_text", "text": "Par", "annotations": []})
    with canned() as server:
        body = response(text, status="incomplete", incomplete_details=details)
        reply = asked(server, way, body)
    assert reply.finish_reason == "incomplete"


@either_way
@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1, "output_tokens": "x"}])
def test_missing_or_invalid_usage_counts_as_zero(way: str, usage: Any) -> None:
    text = {"type": "output_text", "text": "Paris.", "annotations": []}
    with canned() as server:
        assert asked(server, way, response(message(text), usage=usage)).usage == Usage()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_reasoning_summaries_are_separated(way: str) -> None:
    thoughts = [{"type": "summary_text", "text": text} for text in ("First.", "Then.")]
    body = response(
        {"type": "reasoning", "id": "r", "summary": thoughts},
        message({"type": "output_text", "text": "Paris.", "annotations": []}),
    )
    with canned() as server:
        reply = asked(server, way, body)
    assert (reply.text, reply.reasoning) == ("Paris.", "First.\n\nThen.")
