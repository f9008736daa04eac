"""What a model sends with an answer comes back to it in order, from another process too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from agentkit import LLMManager
from agentkit.providers.registry import provider_for
from agentkit.types import Message, Response, ToolCall
from tests.providers.asking import asking, every_way
from tests.providers.canned import Canned, canned

pytestmark = pytest.mark.wire

TEXT = "Let me look."
USAGE = {"input_tokens": 5, "output_tokens": 7}
COMPLETION = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
CHUNK = {**COMPLETION, "object": "chat.completion.chunk"}
ARGUMENTS = '{"city": "Rome"}'


class Provider(NamedTuple):
    """An answer with reasoning, complete and as a stream, and the turn to send back."""

    spec: str
    complete: Any
    stream: list[Any]
    turn: Any


def thinking(number: int) -> dict[str, Any]:
    return {"type": "thinking", "thinking": f"thought {number}", "signature": f"signed {number}"}


def block_events(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[Any]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def thinking_events(index: int, number: int) -> list[Any]:
    return block_events(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": f"thought {number}"},
        {"type": "signature_delta", "signature": f"signed {number}"},
    )


HIDDEN = {"type": "redacted_thinking", "data": "abc"}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
ANTHROPIC = [thinking(1), {"type": "text", "text": TEXT}, HIDDEN, thinking(2), USE]
MESSAGE = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-x"}

REASONING = [
    {"type": "reasoning", "id": f"rs_{n}", "summary": [], "encrypted_content": f"secret {n}"}
    for n in (1, 2)
]
SPOKEN = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "status": "completed",
    "phase": "commentary",
    "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
}
FUNCTION_CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": ARGUMENTS,
}
OUTPUT = [REASONING[0], SPOKEN, REASONING[1], FUNCTION_CALL]
RESPONSE = {
    "id": "r1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-6",
    "status": "completed",
    "output": OUTPUT,
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        **USAGE,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 3},
    },
}

CALL_PART = {"functionCall": {"id": "call_1", "name": "weather", "args": {"city": "Rome"}}}


def candidate(*parts: Any, **rest: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "index": 0, **rest}], "responseId": "g1"}


CHAT_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": ARGUMENTS},
}
DETAILS = [{"type": "reasoning.text", "text": "I see.", "signature": "signed", "index": 0}]
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


def chat(provider: str, spec: str, own: dict[str, Any], of_call: dict[str, Any]) -> Provider:
    answer = {"content": TEXT, "tool_calls": [{**CHAT_CALL, **of_call}], **own}
    halves = [
        {name: [{**each[0], "text": "I "}] if name == "reasoning_details" else each[:2]}
        for name, each in own.items()
    ]
    ends = [
        {name: [{**each[0], "text": "see."}] if name == "reasoning_details" else each[2:]}
        for name, each in own.items()
    ]
    deltas = [
        *halves,
        *ends,
        {"content": TEXT},
        {"tool_calls": [{**CHAT_CALL, **of_call, "index": 0}]},
    ]
    return Provider(
        spec,
        {
            **COMPLETION,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {"role": "assistant", **answer},
                }
            ],
        },
        [
            {**CHUNK, "choices": [{"index": 0, "delta": each, "finish_reason": None}]}
            for each in deltas
        ]
        + [{**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}],
        {"role": "assistant", **answer},
    )


PROVIDERS = {
    "anthropic": Provider(
        "anthropic:claude-x",
        {**MESSAGE, "content": ANTHROPIC, "stop_reason": "tool_use", "usage": USAGE},
        [
            {
                "type": "message_start",
                "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": USAGE},
            },
            *thinking_events(0, 1),
            *block_events(
                1,
                {"type": "text", "text": ""},
                {"type": "text_delta", "text": TEXT[:5]},
                {"type": "text_delta", "text": TEXT[5:]},
            ),
            *block_events(2, HIDDEN),
            *thinking_events(3, 2),
            *block_events(
                4, {**USE, "input": {}}, {"type": "input_json_delta", "partial_json": ARGUMENTS}
            ),
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": USAGE},
            {"type": "message_stop"},
        ],
        {"role": "assistant", "content": ANTHROPIC},
    ),
    "openai-responses": Provider(
        "openai-responses:gpt-6",
        RESPONSE,
        [
            {"type": "response.created", "response": {**RESPONSE, "output": []}},
            {"type": "response.output_text.delta", "delta": TEXT, "output_index": 1},
            {"type": "response.completed", "response": RESPONSE},
        ],
        OUTPUT,
    ),
    "google": Provider(
        "google:gemini-3-pro",
        candidate(
            {"text": "Hm.", "thought": True},
            {"text": TEXT, "thoughtSignature": "b25l"},
            {**CALL_PART, "thoughtSignature": "dHdv"},
            finishReason="STOP",
        ),
        [
            candidate({"text": "Hm.", "thought": True}),
            candidate({"text": TEXT, "thoughtSignature": "b25l"}),
            candidate({**CALL_PART, "thoughtSignature": "dHdv"}),
            candidate({"text": ""}, finishReason="STOP"),
        ],
        {
            "role": "model",
            "parts": [
                {"text": TEXT, "thoughtSignature": "b25l"},
                {**CALL_PART, "thoughtSignature": "dHdv"},
            ],
        },
    ),
    "deepseek": chat("compatible", "compatible:m", {"reasoning_content": "I see."}, {}),
    "vllm": chat("vllm", "vllm:m", {"reasoning": "I see."}, {}),
    "openrouter": chat("compatible", "compatible:m", {"reasoning_details": DETAILS}, {}),
    "groq": chat("groq", "groq:m", {"reasoning": "I see."}, {}),
    "gemini's chat completions": chat("compatible", "compatible:m", {}, {"extra_content": SIGNED}),
}
every_provider = pytest.mark.parametrize("name", PROVIDERS)


@pytest.fixture
def server() -> Iterator[Canned]:
    with canned() as answer:
        yield answer


def adapter(name: str, server: Canned, **settings: Any) -> Any:
    return provider_for(
        PROVIDERS[name].spec, api_key="made-up-key", base_url=server.url, **settings
    )


def answer(name: str, server: Canned, way: str) -> None:
    if way in ("sync", "async"):
        server.json(PROVIDERS[name].complete)
    else:
        server.events(*PROVIDERS[name].stream)
        server.body += b"data: [DONE]\n\n" if "object" in PROVIDERS[name].stream[0] else b""


def conversation(called: Message) -> list[Message]:
    return [Message("user", "Rome?"), called, Message("tool", "rain", tool_call_id="call_1")]


def sent_turns(body: dict[str, Any]) -> list[Any]:
    turns: list[Any] = body.get("messages") or body.get("contents") or body["input"]
    return turns


def ask(
    name: str, server: Canned, way: str, messages: list[Message], transport: str = "sdk"
) -> Response[Any]:
    """The answer of an adapter that remembers nothing, as in a new process."""
    answer(name, server, way)
    with asking(adapter(name, server, transport=transport)) as asker:
        return asker.ask(way, messages)


def assert_as_it_came(name: str, body: dict[str, Any]) -> None:
    turns, expected = sent_turns(body), PROVIDERS[name].turn
    if isinstance(expected, list):
        assert turns[1:-1] == expected
    else:
        assert turns[1] == expected


@every_provider
@every_way
@pytest.mark.parametrize("transport", ["sdk", "native"])
def test_an_answer_goes_back_as_it_came(
    name: str, way: str, transport: str, server: Canned
) -> None:
    called = ask(name, server, way, [Message("user", "Rome?")], transport)
    assert (called.text, called.finish_reason) == (TEXT, "tool_calls")
    stored = Message.from_dict(json.loads(json.dumps(called.message.to_dict())))
    ask(name, server, way, conversation(stored), transport)
    assert_as_it_came(name, server.requests[-1])


@every_provider
@pytest.mark.parametrize("way", ["sync", "stream"])
def test_a_message_made_of_the_tool_calls_finds_the_state_again(
    name: str, way: str, server: Canned
) -> None:
    """As long as the adapter lives; one with another key shares what it remembers."""
    answer(name, server, way)
    first = adapter(name, server)
    with asking(first) as asker, asking(first.with_key("another-key")) as other:
        called = asker.ask(way, [Message("user", "Rome?")])
        message = Message("assistant", called.text, tool_calls=called.tool_calls)
        other.ask(way, conversation(message))
    assert_as_it_came(name, server.requests[-1])


@every_provider
@pytest.mark.parametrize("other", ["anthropic", "openai-responses", "google", "vllm", "groq"])
def test_no_other_model_gets_the_state(name: str, other: str, server: Canned) -> None:
    called = ask(name, server, "sync", [Message("user", "Rome?")]).message
    answer(other, server, "sync")
    elsewhere = provider_for(
        f"{PROVIDERS[other].spec}-2", api_key="made-up-key", base_url=server.url
    )
    with asking(elsewhere) as asker:
        asker.ask("sync", conversation(called))
    body = json.dumps(sent_turns(server.requests[-1]))
    assert TEXT in body
    for secret in ("signed", "secret", "thought 1", "b25l", "dHdv", "I see.", "c2lnbmVk", "rs_1"):
        assert secret not in body


@every_provider
def test_the_same_model_at_another_host_gets_none_of_it(name: str, server: Canned) -> None:
    called = ask(name, server, "sync", [Message("user", "Rome?")]).message
    with canned() as elsewhere:
        ask(name, elsewhere, "sync", conversation(called))
        turns = sent_turns(elsewhere.requests[-1])
    assert turns[1:-1] != PROVIDERS[name].turn
    assert turns[1] != PROVIDERS[name].turn


@every_provider
def test_a_cached_answer_keeps_its_state(name: str, server: Canned) -> None:
    answer(name, server, "sync")
    with LLMManager() as llm:
        llm.register_model("only", made := adapter(name, server))
        fresh = llm.complete("a question of this test", use_cache=True)
        cached = llm.complete("a question of this test", use_cache=True)
        with llm.stream("a question of this test", use_cache=True) as stream:
            list(stream)
    made.close()
    assert cached.cached
    assert stream.response.cached
    assert cached.message == stream.response.message == fresh.message
    assert fresh.message.state is not None


def test_thinking_comes_first_in_a_message_that_was_changed(server: Canned) -> None:
    called = ask("anthropic", server, "sync", [Message("user", "Rome?")])
    changed = Message("assistant", "Wait.", tool_calls=called.tool_calls, state=called.state)
    ask("anthropic", server, "sync", conversation(changed))
    assert sent_turns(server.requests[-1])[1]["content"] == [
        thinking(1),
        HIDDEN,
        thinking(2),
        {"type": "text", "text": "Wait."},
        USE,
    ]  # fmt: skip - one block a line


def test_signatures_stay_with_their_calls_in_a_message_that_was_changed(server: Canned) -> None:
    called = ask("google", server, "sync", [Message("user", "Rome?")])
    changed = Message("assistant", "Wait.", tool_calls=called.tool_calls, state=called.state)
    ask("google", server, "sync", conversation(changed))
    assert sent_turns(server.requests[-1])[1]["parts"] == [
        {"text": "Wait."},
        {**CALL_PART, "thoughtSignature": "dHdv"},
    ]


def test_encrypted_reasoning_is_asked_for_where_it_can_come_back(server: Canned) -> None:
    answer("openai-responses", server, "sync")

    def included(model: str, **options: Any) -> Any:
        made = provider_for(f"openai-responses:{model}", api_key="any", base_url=server.url)
        with asking(made) as asker:
            asker.ask("sync", **options)
        return server.requests[-1].get("include")

    encrypted = "reasoning.encrypted_content"
    for model in ("o3", "gpt-5.2", "gpt-6", "gpt-10-mini"):
        assert included(model) == [encrypted]
    for model in ("gpt-4.1", "gpt-4o", "gpt-5-chat-latest", "made-up"):
        assert included(model) is None
    assert included("made-up", reasoning_effort="low") == [encrypted]
    assert included("gpt-6", store=True) is None
    search = "web_search_call.results"
    assert included("gpt-6", include=[search]) == [search, encrypted]


def test_reasoning_that_is_not_encrypted_stays_here(server: Canned) -> None:
    """The API refuses such items, as it has not stored them."""
    open_item: dict[str, Any] = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "encrypted_content": None,
    }
    server.json({**RESPONSE, "output": [open_item, SPOKEN, FUNCTION_CALL]})
    with asking(adapter("openai-responses", server)) as asker:
        called = asker.ask("sync", [Message("user", "Rome?")]).message
        asker.ask("sync", conversation(called))
    assert sent_turns(server.requests[-1])[1:-1] == [
        {"role": "assistant", "content": TEXT, "phase": "commentary"},
        {name: value for name, value in FUNCTION_CALL.items() if name != "id"},
    ]


def test_a_renamed_call_keeps_its_state(server: Canned) -> None:
    """An agent gives ids that are unique in its conversation."""
    called = ask("anthropic", server, "sync", [Message("user", "Rome?")])
    renamed = Message(
        "assistant",
        called.text,
        tool_calls=(ToolCall("call_1-2", "weather", {"city": "Rome"}),),
        state=called.state,
    )
    ask("anthropic", server, "sync", [Message("user", "Rome?"), renamed])
    blocks = sent_turns(server.requests[-1])[1]["content"]
    assert blocks == [*ANTHROPIC[:-1], {**USE, "id": "call_1-2"}]
