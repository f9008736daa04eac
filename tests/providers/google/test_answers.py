"""Gemini's answers, also those that no honest server gives, and its words for failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import errors as e
from agentkit.providers.google.generate import Google
from agentkit.testing import WireServer, faults
from agentkit.types import End, ReasoningDelta, Request, Response, TextDelta, ToolCall, Usage
from tests.providers.asking import asking, every_way
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

MODEL = "gemini-3.8-flash"
both_ways = pytest.mark.parametrize("way", ["sync", "stream"])


def adapter(server: WireServer) -> Google:
    return Google(MODEL, api_key="any", base_url=server.google_url)


@every_way
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("LANGUAGE", "language"),
        ("PHASE_OF_THE_MOON", "phase_of_the_moon"),
    ],
)
@pytest.mark.filterwarnings("ignore:PHASE_OF_THE_MOON is not a valid FinishReason")
def test_a_finish_reason_has_its_common_name(way: str, reason: str, expected: str) -> None:
    reply: Response[Any] = Response("Par", finish_reason=reason)
    with WireServer(reply=reply) as server, asking(adapter(server)) as asker:
        assert asker.ask(way).finish_reason == expected


@every_way
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("SAFETY", e.ContentFilterError),
        ("PROHIBITED_CONTENT", e.ContentFilterError),
        ("RECITATION", e.ContentFilterError),
        ("MALFORMED_FUNCTION_CALL", e.InvalidResponseError),
        ("STOP", e.InvalidResponseError),
    ],
)
def test_an_answer_without_content_is_an_invalid_response(
    way: str, reason: str, error: type[e.LLMError]
) -> None:
    reply: Response[Any] = Response("", finish_reason=reason)
    with (
        WireServer(reply=reply) as server,
        asking(adapter(server)) as asker,
        pytest.raises(error),
    ):
        asker.ask(way)


def answer(*parts: Any, **fields: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], **fields}


PARIS = {"text": "Paris."}


def ask(server: Canned, way: str, *answers: Any) -> Response[Any]:
    server.json(answers[0])
    if way == "stream":
        lines = (f"data: {json.dumps(each)}\n\n" for each in answers)
        server.events(raw="".join(lines).encode())
    with asking(Google(MODEL, api_key="any", base_url=server.url)) as asker:
        return asker.ask(way)


@both_ways
@pytest.mark.parametrize(
    "odd",
    [
        {},
        [],
        None,
        "text",
        7,
        answer(),
        {"candidates": []},
        {"candidates": None},
        {"candidates": "text"},
        {"candidates": [{}]},
        {"candidates": [{"finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [PARIS]}}]},
        answer("text"),
        answer({"text": 7}),
        answer({"functionCall": {"args": {}}}),
        answer({"functionCall": {"name": "weather", "args": "{"}}),
        {"error": "text"},
    ],
    ids=str,
)
def test_an_unexpected_response_is_an_invalid_response(odd: Any, way: str) -> None:
    with canned() as server, pytest.raises(e.InvalidResponseError):
        ask(server, way, odd)


@both_ways
def test_a_blocked_prompt_is_refused(way: str) -> None:
    with canned() as server, pytest.raises(e.ContentFilterError):
        ask(server, way, {"promptFeedback": {"blockReason": "SAFETY"}})


@both_ways
def test_an_answer_truncated_before_its_first_word_is_an_error(way: str) -> None:
    """Thoughts may use up all that was allowed."""
    cut = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}]}
    with canned() as server, pytest.raises(e.InvalidResponseError, match="limit") as caught:
        ask(server, way, cut)
    assert caught.value.at_token_limit


@both_ways
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"promptTokenCount": -5, "candidatesTokenCount": None}, Usage()),
        (
            {
                "promptTokenCount": 44,
                "toolUsePromptTokenCount": 6,
                "candidatesTokenCount": 2,
                "thoughtsTokenCount": 3,
                "cachedContentTokenCount": 30,
            },
            Usage(50, 5, 30, 0, 3),
        ),
    ],
)
def test_usage_counts_thinking_as_output_and_ignores_invalid_numbers(
    usage: Any, expected: Usage, way: str
) -> None:
    with canned() as server:
        reply = ask(server, way, answer(PARIS, usageMetadata=usage))
    assert (reply.text, reply.usage) == ("Paris.", expected)


@both_ways
def test_the_id_of_a_call_is_kept_and_executed_code_counts_as_content(way: str) -> None:
    with canned() as server:
        call = {"functionCall": {"id": "own", "name": "now"}}
        assert ask(server, way, answer(call)).tool_calls == (ToolCall("own", "now", {}),)
        ran = {"executableCode": {"code": "1+1", "language": "PYTHON"}}
        assert ask(server, way, answer(ran)).text == ""


@every_way
@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_EXPIRED"])
def test_a_wrong_key_is_recognised_behind_a_status_400(reason: str, way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(400, kind=reason))
        with pytest.raises(e.AuthenticationError) as caught:
            asker.ask(way)
    assert caught.value.status == 400


@every_way
def test_the_retry_delay_is_read_from_the_body(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(429, retry_after=34.5))
        with pytest.raises(e.RateLimitError) as caught:
            asker.ask(way)
    assert caught.value.retry_after == 34.5


def test_the_retry_delay_in_the_body_is_read_with_and_without_a_header() -> None:
    from google.genai.errors import ClientError, ServerError

    asked = Google(MODEL, api_key="any")
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [info, "odd"]}}
    error = asked.translate(ClientError(429, body))
    assert isinstance(error, e.RateLimitError)
    assert error.retry_after == 7
    odd_ones: list[Any] = [{}, {"error": {"details": None}}, {"error": {"details": "text"}}]
    for odd in odd_ones:
        assert asked.translate(ServerError(503, odd)) is None


def test_the_events_of_a_stream_in_order() -> None:
    reply: Response[Any] = Response("Pa ris", reasoning="Hm.", usage=Usage(9, 2))
    with WireServer(reply=reply) as server:
        asked = adapter(server)
        events = list(asked.stream(Request(prompt="capital?")))
        asked.close()
    assert events == [
        ReasoningDelta("Hm."),
        TextDelta("Pa"),
        TextDelta(" ris"),
        End("stop", Usage(9, 2), (), "response-1", model_id="gemini-3.8-flash"),
    ]
