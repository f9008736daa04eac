"""Gemini: what is sent, what is kept between turns, and what the SDK must not do in secret."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import errors as e
from agentkit.providers.google.generate import Google
from agentkit.testing import WireServer, faults
from agentkit.testing.wire.google import signature_of
from agentkit.types import Message, Response, ToolCall, ToolSpec
from tests.helpers import City
from tests.providers.asking import (
    CALL,
    CONVERSATION,
    DATA_URL,
    PNG,
    asking,
    either_way,
    every_way,
    sent_body,
)
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

NEWER, OLDER = "gemini-3-flash", "gemini-2.5-flash"
FOREIGN = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""What Google documents for a call that its model did not make, in base64."""
TOKEN = "dG9rZW4="  # where an answer may be taken up, in base64
WEATHER = ToolSpec("weather", "Reports the weather.", {"type": "object", "properties": {}})


def adapter(server: WireServer, model: str = NEWER, **settings: Any) -> Google:
    return Google(model, api_key="any", base_url=server.google_url, **settings)


def contents(model: str, *messages: Message) -> list[dict[str, Any]]:
    with WireServer() as server:
        body = sent_body(adapter(server, model), server, list(messages))
    found: list[dict[str, Any]] = body["contents"]
    return found


def test_the_body_of_a_conversation() -> None:
    with WireServer() as server:
        body = sent_body(
            adapter(server),
            server,
            CONVERSATION,
            tools=[WEATHER],
            tool_choice="required",
            max_tokens=50,
            stop="END",
            temperature=0,
        )
        assert server.requests[0].model == NEWER
    function = {"id": "call_1", "name": "weather", "args": {"city": "Köln"}}
    result = {"id": "call_1", "name": "weather", "response": {"output": "rain"}}
    image = {"data": DATA_URL.partition(",")[2], "mime_type": "image/png"}
    declaration = {
        "name": "weather",
        "description": "Reports the weather.",
        "parameters_json_schema": {"type": "object", "properties": {}},
    }
    assert body == {
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Where is this?"}, {"inlineData": image}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    {"functionCall": function, "thoughtSignature": FOREIGN},
                ],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": result}, {"text": "And tomorrow?"}],
            },
        ],
        "tools": [{"functionDeclarations": [declaration]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "generationConfig": {"maxOutputTokens": 50, "stopSequences": ["END"], "temperature": 0},
    }


def test_a_url_and_a_document_are_sent_unchanged() -> None:
    address = "https://example.com/a.png"
    (turn,) = contents(
        NEWER,
        Message(
            "user",
            [
                {"type": "image", "url": address, "media_type": "image/png"},
                {"type": "document", "data": PNG, "media_type": "application/pdf"},
            ],
        ),
    )
    inline = {"data": DATA_URL.partition(",")[2], "mime_type": "application/pdf"}
    assert turn["parts"] == [
        {"fileData": {"file_uri": address, "mime_type": "image/png"}},
        {"inlineData": inline},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("weather", {"mode": "ANY", "allowedFunctionNames": ["weather"]}),
    ],
)
def test_a_tool_choice_is_translated(choice: str, expected: dict[str, Any]) -> None:
    with WireServer() as server:
        body = sent_body(adapter(server), server, tools=[WEATHER], tool_choice=choice)
    assert body["toolConfig"]["functionCallingConfig"] == expected


CALLS = (ToolCall("a", "weather", {"city": "Köln"}), ToolCall("b", "clock"))


@pytest.mark.parametrize("ids", [("a", "b"), (None, None), ("b", "a")], ids=str)
def test_results_are_matched_to_calls_by_id_or_else_by_order(ids: tuple[str | None, ...]) -> None:
    texts = {"a": "rain", "b": "noon"}
    answers = [
        Message("tool", texts[given or known], tool_call_id=given)
        for given, known in zip(ids, ("a", "b"), strict=True)
    ]
    turns = contents(
        NEWER, Message("user", "?"), Message("assistant", "", tool_calls=CALLS), *answers
    )
    results = {
        each["functionResponse"]["name"]: each["functionResponse"]["response"]["output"]
        for each in turns[2]["parts"]
    }
    assert results == {"weather": "rain", "clock": "noon"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"sky": "grey"}', {"sky": "grey"}),
        ("[1, 2]", {"output": "[1, 2]"}),
        ("{oops", {"output": "{oops"}),
        ("", {"output": ""}),
    ],
)
def test_a_result_that_is_not_an_object_is_wrapped_in_one(text: str, expected: Any) -> None:
    turns = contents(
        NEWER,
        Message("user", "?"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", text, tool_call_id="call_1"),
    )
    assert turns[2]["parts"][0]["functionResponse"]["response"] == expected


@every_way
def test_a_thought_signature_is_sent_back_with_its_call(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        server.script(Response("", tool_calls=CALLS))
        reply = asker.ask(way, tools=[WEATHER])
        asker.ask(
            way,
            [
                Message("user", "capital?"),
                Message("assistant", "", tool_calls=reply.tool_calls),
                *(Message("tool", "?", tool_call_id=each.id) for each in reply.tool_calls),
            ],
        )
        parts = server.requests[1].body["contents"][1]["parts"]
    assert [each["thoughtSignature"] for each in parts] == [signature_of(each) for each in CALLS]
    assert len({each.id for each in reply.tool_calls}) == 2, "calls without ids get some"


def test_another_key_remembers_the_same_signatures() -> None:
    with WireServer() as server:
        server.script(Response("", tool_calls=(CALL,)))
        first = adapter(server)
        with asking(first) as asker:
            (call,) = asker.ask("sync", tools=[WEATHER]).tool_calls
        messages = [
            Message("user", "?"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "rain", tool_call_id=call.id),
        ]
        body = sent_body(first.with_key("other"), server, messages)
    assert body["contents"][1]["parts"][0]["thoughtSignature"] == signature_of(CALL)


def test_models_that_require_signatures_get_a_placeholder_for_foreign_calls() -> None:
    messages = Message("user", "?"), Message("assistant", "", tool_calls=CALLS)
    signed = [
        [each.get("thoughtSignature") for each in contents(model, *messages)[1]["parts"]]
        for model in (NEWER, OLDER)
    ]
    assert signed == [[FOREIGN, None], [None, None]]


def test_older_models_get_the_schema_in_the_prompt_if_there_are_tools() -> None:
    with WireServer(reply='{"name": "Paris"}') as server:
        newer = sent_body(adapter(server), server, response_model=City, tools=[WEATHER])
        older = sent_body(adapter(server, OLDER), server, response_model=City, tools=[WEATHER])
        alone = sent_body(adapter(server, OLDER), server, response_model=City)
    for body in (newer, alone):
        asked = body["generationConfig"]
        assert asked["responseMimeType"] == "application/json"
        assert asked["responseJsonSchema"]["required"] == ["name"]
    assert "responseMimeType" not in older.get("generationConfig", {})
    assert "JSON" in str(older)


@pytest.mark.parametrize(("seconds", "server_limit"), [(2.5, "10"), (30.2, "31")])
def test_the_server_gets_the_time_limit(seconds: float, server_limit: str) -> None:
    with WireServer() as server:
        with asking(adapter(server)) as asker:
            asker.ask("sync", deadline=seconds)
        assert server.requests[0].headers["x-server-timeout"] == server_limit


@either_way
def test_a_parameter_that_the_sdk_rejects_is_named_in_an_invalid_request(way: str) -> None:
    with WireServer() as server, asking(adapter(server)) as asker:
        with pytest.raises(e.InvalidRequestError, match="temperature"):
            asker.ask(way, temperature="hot")
        assert server.requests == ()


def test_the_variables_of_vertex_ai_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GOOGLE_GENAI_USE_ENTERPRISE", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.setenv(name, "true")
    with WireServer() as server:
        sent_body(adapter(server), server)
        assert server.requests[0].headers["x-goog-api-key"] == "any"


@every_way
def test_the_sdk_does_not_retry(way: str) -> None:
    """No ledger would have its own retries."""
    with WireServer() as server, asking(adapter(server)) as asker:
        server.always(faults.status(503))
        with pytest.raises(e.ServerError):
            asker.ask(way)
        assert len(server.requests) == 1


def text(words: str, **candidate: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": words}]}
    return {"candidates": [{"content": content, "index": 0, **candidate}]}


def ask(server: Canned, way: str, body: Any) -> Response[Any]:
    """The reply to `body`, sent as a complete answer or as the only chunk of a stream."""
    if way in ("stream", "astream"):
        server.events(body)
    else:
        server.json(body)
    with asking(Google(NEWER, api_key="any", base_url=server.url)) as asker:
        return asker.ask(way)


@either_way
def test_an_answer_that_may_be_continued_is_not_continued_silently(way: str) -> None:
    """Each further request is billed, and would be in no ledger."""
    with canned() as server:
        reply = ask(server, way, text("Par", finishReason="CONTINUATION", continuationToken=TOKEN))
    assert (reply.text, reply.finish_reason) == ("Par", "length")
    assert len(server.requests) == 1


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_broken_stream_is_not_resumed_silently(way: str) -> None:
    with canned() as server, pytest.raises(e.StreamInterruptedError):
        ask(server, way, text("Par", continuationToken=TOKEN))
    assert len(server.requests) == 1
