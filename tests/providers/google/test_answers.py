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
both_ways = pytest.mark.parametrize("way", ["blocking", "stream"])


def adapter(server: WireServer) -> Google:
    return Google(MODEL, api_key="any", base_url=server.google_url)


@every_way
@pytest.mark.parametrize(
    ("reason", "expected"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("LANGUAGE", "language"),
     ("PHASE_OF_THE_MOON", "phase_of_the_moon")],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:PHASE_OF_THE_MOON is not a valid FinishReason")
def test_a_finish_reason_is_told_in_the_common_words(way: str, reason: str, expected: str) -> None:
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
def test_an_answer_without_content_is_no_answer(
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


def told(server: Canned, way: str, *answers: Any) -> Response[Any]:
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
def test_an_odd_answer_is_an_invalid_one(odd: Any, way: str) -> None:
    with canned() as server, pytest.raises(e.InvalidResponseError):
        told(server, way, odd)


@both_ways
def test_a_blocked_prompt_is_refused(way: str) -> None:
    with canned() as server, pytest.raises(e.ContentFilterError):
        told(server, way, {"promptFeedback": {"blockReason": "SAFETY"}})


@both_ways
def test_an_answer_cut_before_its_first_word_says_so(way: str) -> None:
    """Thoughts may use up all that was allowed."""
    cut = {"candidates": [{"finishReason": "MAX_TOKENS", "index": 0}]}
    with canned() as server:
        reply = told(server, way, cut)
    assert (reply.text, reply.finish_reason) == ("", "length")


@both_ways
@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"promptTokenCount": -5, "candidatesTokenCount": None}, Usage()),
        (
            {"promptTokenCount": 44, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 2,
             "thoughtsTokenCount": 3, "cachedContentTokenCount": 30},
            Usage(50, 5, 30, 0, 3),
        ),
    ],
)  # fmt: skip
def test_usage_counts_thoughts_as_output_and_odd_numbers_not(
    usage: Any, expected: Usage, way: str
) -> None:
    with canned() as server:
        reply = told(server, way, answer(PARIS, usageMetadata=usage))
    assert (reply.text, reply.usage) == ("Paris.", expected)


@both_ways
def test_a_calls_own_id_is_kept_and_code_that_was_run_is_content(way: str) -> None:
    with canned() as server:
        call = {"functionCall": {"id": "own", "name": "now"}}
        assert told(server, way, answer(call)).tool_calls == (ToolCall("own", "now", {}),)
        ran = {"executableCode": {"code": "1+1", "language": "PYTHON"}}
        assert told(server, way, answer(ran)).text == ""


@every_way
@pytest.mark.parametrize("reason", ["API_KEY_INVALID", "API_KEY_EXPIRED"])
def test_a_wrong_key_is_told_though_its_status_says_otherwise(reason: str, way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(400, kind=reason))
        with pytest.raises(e.AuthenticationError) as caught:
            asker.ask(way)
    assert caught.value.status == 400


@every_way
def test_the_wait_it_asks_for_stands_in_the_body(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(429, retry_after=34.5))
        with pytest.raises(e.RateLimitError) as caught:
            asker.ask(way)
    assert caught.value.retry_after == 34.5


def test_its_words_are_read_whether_or_not_a_header_repeats_them() -> None:
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
        End("stop", Usage(9, 2), (), "response-1"),
    ]
