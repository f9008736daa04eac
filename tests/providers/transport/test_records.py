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
COMPLETE: list[dict[str, Any]] = [
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


@pytest.mark.parametrize("completion", COMPLETE)
def test_a_typed_completion_means_what_its_json_means(completion: dict[str, Any]) -> None:
    def answer(content: Any) -> Any:
        try:
            return adapter.decode(Reply(content, {}))
        except Exception as error:
            return type(error), str(error)

    adapter: Any = provider_for("openai:m", api_key="k", transport="native")
    typed = typed_parser(adapter.reply_record())(json.dumps(completion).encode())
    assert answer(typed) == answer(adapter.record(completion))


@pytest.mark.parametrize("provider", ["anthropic", "openai-responses", "google"])
def test_an_event_with_an_unknown_field_is_not_typed(provider: str) -> None:
    """It is read as plain JSON, which keeps the field."""
    adapter: Any = provider_for(f"{provider}:m", api_key="k", transport="native")
    for name, event in TYPED:
        if name == provider:
            with pytest.raises(ValueError, match="unknown field `new`"):
                typed_parser(adapter.event_record())(json.dumps({**event, "new": 1}).encode())
