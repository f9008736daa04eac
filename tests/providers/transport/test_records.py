"""The events that are read as typed records mean what they mean as plain JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.providers.registry import provider_for
from agentkit.providers.transport.base import Reply
from agentkit.providers.transport.http.record import typed_parser

START = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "thinking", "thinking": "", "signature": ""},
}
CALL = {"functionCall": {"id": "c", "name": "f", "args": {"a": [{"b": 1}]}}}
SIGNED = {"thoughtSignature": "c2lnbmVk"}
TYPED: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"id": "1", "choices": [{"index": 0, "delta": {"content": "a"}}], "usage": None}),
    *(
        ("anthropic", {"type": "content_block_delta", "index": 0, "delta": each})
        for each in (
            {"type": "text_delta", "text": "a"},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "s"},
        )
    ),
    *(
        ("openai-responses", {"type": f"response.{each}.delta", "delta": "a", "sequence_number": 3})
        for each in ("output_text", "reasoning_summary_text", "function_call_arguments", "refusal")
    ),
    *(
        ("google", {"candidates": [{"content": {"parts": [each]}}], "responseId": "r"})
        for each in (
            {"text": "a"},
            {"text": "a", "thought": True},
            {"text": "a", **SIGNED},
            CALL,
            {**CALL, **SIGNED},
        )
    ),
    ("google", {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"totalTokenCount": 9}}),
    ("google", {"candidates": [{"index": 1, "content": {"parts": [{"text": "another"}]}}]}),
    ("google", {"usageMetadata": {}}),
]


def decoded(adapter: Any, record: Any) -> tuple[list[Any], list[Any]]:
    """The events of a stream that has one, and what its decoder knows then."""
    decoder = adapter.stream_decoder({})
    if adapter.provider == "anthropic":
        list(decoder.events(adapter.record(START)))
    if adapter.provider == "google":
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 4}
        list(decoder.events(adapter.record({"usageMetadata": usage})))
    events = list(decoder.events(record))
    ends = adapter.record({"type": "message_stop", "candidates": [{"finishReason": "STOP"}]})
    if adapter.provider == "anthropic":
        stop = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}
        list(decoder.events(adapter.record(stop)))
    try:
        return events, [*decoder.events(ends), *decoder.end()]
    except Exception as error:
        return events, [type(error), str(error)]


@pytest.mark.parametrize(("provider", "event"), TYPED)
def test_a_typed_event_means_what_its_json_means(provider: str, event: dict[str, Any]) -> None:
    adapter: Any = provider_for(f"{provider}:m", api_key="k", transport="native")
    typed = typed_parser(adapter.event_record())(json.dumps(event).encode())
    assert not isinstance(typed, adapter.record)
    assert decoded(adapter, typed) == decoded(adapter, adapter.record(event))


USED = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0}}
CHATS: list[dict[str, Any]] = [
    {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "id": "1", "usage": USED},
    {"choices": [{"message": {"content": None, "refusal": "no"}}]},
    {"choices": [{"message": {"content": "a", "reasoning": "hm"}}], "usage": {}},
    {"choices": [{"message": {"content": [{"type": "text", "text": "a"}]}}], "model": "n"},
    {
        "choices": [
            {
                "message": {
                    "content": None,
                    "reasoning_details": [{"type": "x", "index": 0, "text": "hm"}],
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a": 1}'},
                            "extra_content": {"google": {"thought_signature": "s"}},
                        },
                        {"id": "d", "type": "custom", "custom": {"name": "g", "input": "x"}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ]
    },
    {"choices": [], "error": {"code": "rate_limit_exceeded", "message": "later"}},
]
THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
TOOL_USE = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [{"b": 1}]}, "caller": {}}
MESSAGES: list[dict[str, Any]] = [
    {
        "id": "1",
        "model": "n",
        "content": [{"type": "text", "text": "a", "citations": None}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 2.0},
    },
    {"content": [THINKING, {"type": "text", "text": "a"}, TOOL_USE], "stop_reason": "tool_use"},
    {"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "a"}]},
    {"content": [{**TOOL_USE, "name": None}]},
    {"content": [], "stop_reason": "refusal", "usage": {"output_tokens_details": {}}},
    {"content": [], "stop_reason": "max_tokens", "usage": None},
    {"content": [], "error": {"type": "overloaded_error"}},
]
MESSAGE = {
    "type": "message",
    "id": "m",
    "status": "completed",
    "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}],
}
REASONED = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}
ENCRYPTED = {**REASONED, "encrypted_content": "x", "status": None}
IN_WORDS = {
    "type": "reasoning",
    "id": "r",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
CALLED = {"type": "function_call", "id": "i", "call_id": "c", "name": "f", "arguments": '{"a": 1}'}
RESPONSES: list[dict[str, Any]] = [
    {
        "id": "1",
        "model": "n",
        "status": "completed",
        "error": None,
        "output": [MESSAGE],
        "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}},
    },
    {"status": "completed", "output": [REASONED, MESSAGE]},
    {"status": "completed", "output": [ENCRYPTED, MESSAGE, CALLED]},
    {"status": "completed", "output": [IN_WORDS, {**MESSAGE, "phase": "final"}], "usage": {}},
    {
        "status": "completed",
        "output": [{**MESSAGE, "content": [{"type": "refusal", "refusal": "no"}]}],
    },
    {
        "status": "incomplete",
        "output": [MESSAGE],
        "incomplete_details": {"reason": "content_filter"},
    },
    {"status": "incomplete", "output": [], "incomplete_details": {"reason": "max_output_tokens"}},
    {"status": "incomplete", "output": [MESSAGE]},
    {"status": "failed", "output": []},
]
STOPPED = {"finishReason": "STOP", "index": 0}
GENERATED: list[dict[str, Any]] = [
    {
        "candidates": [{"content": {"parts": [{"text": "a"}], "role": "model"}, **STOPPED}],
        "usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 3},
        "modelVersion": "n",
        "responseId": "1",
    },
    {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, CALL]}, **STOPPED}]},
    {"candidates": [{"content": {"parts": [{"text": "a", **SIGNED}]}, **STOPPED}]},
    {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": {"totalTokenCount": 9}},
    {"candidates": [{"content": {"parts": [{"text": "a"}]}}]},
    {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}},
]
COMPLETE = [
    *(("openai", each) for each in CHATS),
    *(("anthropic", each) for each in MESSAGES),
    *(("openai-responses", each) for each in RESPONSES),
    *(("google", each) for each in GENERATED),
]


def answer(adapter: Any, content: Any) -> Any:
    """What a complete response means, or the error that it is."""
    try:
        return adapter.decode(Reply(content, {}))
    except Exception as error:
        usage = getattr(error, "usage", None)
        return type(error), str(error), usage, getattr(error, "body", None)


@pytest.mark.parametrize(("provider", "content"), COMPLETE)
def test_a_typed_response_means_what_its_json_means(provider: str, content: dict[str, Any]) -> None:
    adapter: Any = provider_for(f"{provider}:m", api_key="k", transport="native")
    typed = typed_parser(adapter.reply_record())(json.dumps(content).encode())
    assert not isinstance(typed, adapter.record)
    assert answer(adapter, typed) == answer(adapter, adapter.record(content))


@pytest.mark.parametrize(
    ("provider", "content"),
    [
        ("anthropic", {"content": [{**THINKING, "new": 1}]}),
        ("anthropic", {"content": [{"type": "server_tool_use", "id": "t"}]}),
        ("openai-responses", {"output": [{**REASONED, "new": 1}]}),
        ("openai-responses", {"output": [{"type": "web_search_call", "id": "w"}]}),
        ("openai-responses", {"output": [], "error": {"code": "server_error"}}),
        ("google", {"candidates": [{"content": {"parts": [{"executableCode": {}}]}}]}),
        ("google", {"promptFeedback": {"blockReason": "SAFETY"}}),
    ],
)
def test_a_response_whose_fields_matter_and_are_unknown_is_not_typed(
    provider: str, content: dict[str, Any]
) -> None:
    """It is read as plain JSON, which keeps them."""
    adapter: Any = provider_for(f"{provider}:m", api_key="k", transport="native")
    with pytest.raises(ValueError, match=r"Invalid value|unknown field|Expected `null`"):
        typed_parser(adapter.reply_record())(json.dumps(content).encode())


@pytest.mark.parametrize("provider", ["anthropic", "openai-responses", "google"])
def test_an_event_with_an_unknown_field_is_not_typed(provider: str) -> None:
    """It is read as plain JSON, which keeps the field."""
    adapter: Any = provider_for(f"{provider}:m", api_key="k", transport="native")
    for name, event in TYPED:
        if name == provider:
            with pytest.raises(ValueError, match="unknown field `new`"):
                typed_parser(adapter.event_record())(json.dumps({**event, "new": 1}).encode())
