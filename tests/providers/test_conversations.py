"""One conversation at every provider, and from one provider to the next in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import pytest

from agentkit import LLMManager, RetryPolicy
from agentkit.providers.anthropic.messages import AnthropicMessages
from agentkit.providers.google.generate import Google
from agentkit.providers.openai.chat import OpenAIChat
from agentkit.testing import WireServer, faults
from agentkit.testing.wire.google import signature_of
from agentkit.types import Message, Response, ToolCall, ToolSpec
from tests.providers.asking import DATA_URL, PNG, either_way, every_way

pytestmark = pytest.mark.wire

MODELS = {"openai": "gpt-x", "anthropic": "claude-sonnet-5-5", "google": "gemini-3-flash"}
ANSWER = "Take an umbrella."
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("weather", "Reports the weather.", SCHEMA)
CALLS = (ToolCall("call_1", "weather", {"city": "Köln"}), ToolCall("call_2", "clock"))
QUESTION = [
    Message("system", "Be brief."),
    Message(
        "user",
        [
            {"type": "text", "text": "Where is this?"},
            {"type": "image", "data": PNG, "media_type": "image/png"},
        ],
    ),
]
CONVERSATION = [
    *QUESTION,
    Message("assistant", "Let me look.", tool_calls=CALLS),
    Message("tool", '{"sky": "rain"}', tool_call_id="call_1"),
    Message("tool", "noon", tool_call_id="call_2"),
    Message("user", "And tomorrow?"),
]

CODED = DATA_URL.partition(",")[2]
FOREIGN = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
BODIES: dict[str, dict[str, Any]] = {
    "openai": {
        "model": MODELS["openai"],
        "max_completion_tokens": 50,
        "temperature": 0,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "Reports the weather.",
                    "parameters": SCHEMA,
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
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "clock", "arguments": "{}"},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "rain"}'},
            {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
            {"role": "user", "content": "And tomorrow?"},
        ],
    },
    "anthropic": {
        "model": MODELS["anthropic"],
        "max_tokens": 50,
        "system": "Be brief.",
        "tools": [
            {"name": "weather", "description": "Reports the weather.", "input_schema": SCHEMA},
        ],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Where is this?"},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": CODED,
                        },
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {
                        "type": "tool_use",
                        "id": "call_1",
                        "name": "weather",
                        "input": {"city": "Köln"},
                    },
                    {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": '{"sky": "rain"}'},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "noon"},
                    {"type": "text", "text": "And tomorrow?"},
                ],
            },
        ],
    },
    "google": {
        "generationConfig": {"maxOutputTokens": 50, "temperature": 0},
        "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "Reports the weather.",
                        "parameters_json_schema": SCHEMA,
                    }
                ]
            }
        ],
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Where is this?"},
                    {"inlineData": {"data": CODED, "mime_type": "image/png"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    {
                        "functionCall": {
                            "id": "call_1",
                            "name": "weather",
                            "args": {"city": "Köln"},
                        },
                        "thoughtSignature": FOREIGN,
                    },
                    {"functionCall": {"id": "call_2", "name": "clock", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {
                        "functionResponse": {
                            "id": "call_1",
                            "name": "weather",
                            "response": {"sky": "rain"},
                        }
                    },
                    {
                        "functionResponse": {
                            "id": "call_2",
                            "name": "clock",
                            "response": {"output": "noon"},
                        }
                    },
                    {"text": "And tomorrow?"},
                ],
            },
        ],
    },
}
"""What each provider is sent for `CONVERSATION`, but for what makes a stream of it."""


class Chain:
    """A manager with providers to ask in this order, once each, all at one server."""

    def __init__(self, server: WireServer, *order: str) -> None:
        key = "any"
        made: dict[str, Any] = {
            "openai": OpenAIChat(MODELS["openai"], api_key=key, base_url=server.openai_url),
            "anthropic": AnthropicMessages(
                MODELS["anthropic"], api_key=key, base_url=server.anthropic_url
            ),
            "google": Google(MODELS["google"], api_key=key, base_url=server.google_url),
        }
        self.server = server
        self.adapters = {name: made[name] for name in order}
        self.llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
        for name, adapter in self.adapters.items():
            self.llm.register_model(name, adapter)
        self.llm.set_fallback_chain(list(order))

    def ask(self, way: str, messages: list[Message]) -> Response[Any]:
        """The answer, asked in one of the ways."""
        options: dict[str, Any] = {"tools": [WEATHER], "max_tokens": 50, "temperature": 0}
        if way == "sync":
            return self.llm.complete(messages, **options)
        if way == "stream":
            with self.llm.stream(messages, **options) as stream:
                list(stream.events())
            return stream.response
        return asyncio.run(self._ask(way, messages, options))

    async def _ask(self, way: str, messages: list[Message], options: dict[str, Any]) -> Any:
        if way == "async":
            return await self.llm.acomplete(messages, **options)
        async with self.llm.astream(messages, **options) as stream:
            async for _ in stream.events():
                pass
        return stream.response

    def fail(self, name: str, status: int) -> None:
        """The next request to that provider gets this status."""
        self.server.script(faults.status(status), model=MODELS[name])

    def bodies(self) -> list[tuple[str, dict[str, Any]]]:
        """Who was sent what, in order; what makes a stream of it left out."""
        streaming = {"stream", "stream_options"}
        return [
            (
                next(name for name, model in MODELS.items() if model == request.model),
                {key: value for key, value in request.body.items() if key not in streaming},
            )
            for request in self.server.requests
        ]


@contextmanager
def chain(*order: str, reply: str = ANSWER) -> Iterator[Chain]:
    with WireServer(reply=reply) as server:
        made = Chain(server, *order)
        with made.llm:
            yield made
        for adapter in made.adapters.values():
            adapter.close()


@every_way
@pytest.mark.parametrize("provider", MODELS)
def test_the_same_messages_go_to_any_provider(provider: str, way: str) -> None:
    with chain(provider) as asked:
        reply = asked.ask(way, CONVERSATION)
        assert asked.bodies() == [(provider, BODIES[provider])]
    assert reply.text == ANSWER


@either_way
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("first", "second"), [*permutations(MODELS, 2)])
def test_a_fallback_in_the_middle_keeps_the_conversation(
    first: str, second: str, status: int, way: str
) -> None:
    with chain(first, second) as asked:
        asked.fail(first, status)
        reply = asked.ask(way, CONVERSATION)
        assert asked.bodies() == [(first, BODIES[first]), (second, BODIES[second])]
    assert (reply.text, reply.provider) == (ANSWER, second)
    assert reply.ledger is not None
    assert [entry.model for entry in reply.ledger.sent] == [first, second]


def turns(called: Response[Any]) -> list[Message]:
    """An answer that calls a tool, and the tool's result, as the next request has them."""
    (call,) = called.tool_calls
    return [
        Message("assistant", called.text, tool_calls=called.tool_calls),
        Message("tool", f"result for {called.provider}", tool_call_id=call.id),
    ]


def calls_and_results(provider: str, body: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Of each call in `body`: its name, its id, and the id that its result names, in order."""
    if provider == "google":
        parts = [part for turn in body["contents"] for part in turn["parts"]]
        calls = [each["functionCall"] for each in parts if "functionCall" in each]
        results = [each["functionResponse"] for each in parts if "functionResponse" in each]
        assert [each["name"] for each in calls] == [each["name"] for each in results]
        pairs = [(each["name"], each["id"]) for each in calls]
        answered = [each["id"] for each in results]
    elif provider == "anthropic":
        blocks = [
            block
            for turn in body["messages"]
            if isinstance(turn["content"], list)
            for block in turn["content"]
        ]
        pairs = [(each["name"], each["id"]) for each in blocks if each["type"] == "tool_use"]
        answered = [each["tool_use_id"] for each in blocks if each["type"] == "tool_result"]
    else:
        called = [call for turn in body["messages"] for call in turn.get("tool_calls", ())]
        pairs = [(each["function"]["name"], each["id"]) for each in called]
        answered = [each["tool_call_id"] for each in body["messages"] if each["role"] == "tool"]
    return [(name, own, result) for (name, own), result in zip(pairs, answered, strict=True)]


@every_way
@pytest.mark.parametrize("order", [*permutations(MODELS)], ids="-".join)
def test_each_provider_continues_after_a_tool_call_of_another(
    order: tuple[str, str, str], way: str
) -> None:
    """The first calls a tool and fails, so does the second, and the third has all of it."""
    with chain(*order) as asked:
        messages = list(QUESTION)
        for step, provider in enumerate(order[:2]):
            for failing in order[:step]:
                asked.fail(failing, 503)
            call = ToolCall(f"own-{step}", f"tool_{step}", {"step": step})
            asked.server.script(Response("Wait.", tool_calls=(call,)), model=MODELS[provider])
            called = asked.ask(way, messages)
            assert (called.provider, called.tool_calls[0].name) == (provider, call.name)
            messages += turns(called)
        for failing in order[:2]:
            asked.fail(failing, 503)
        reply = asked.ask(way, messages)
        last = asked.bodies()[-3:]
    assert (reply.text, reply.provider) == (ANSWER, order[2])
    assert [provider for provider, _ in last] == list(order)
    for provider, body in last:
        found = calls_and_results(provider, body)
        assert [name for name, _, _ in found] == ["tool_0", "tool_1"]
        assert all(own == result for _, own, result in found)
        assert len({own for _, own, _ in found}) == 2
        assert CODED in str(body), "the image is still there"
        assert "Be brief." in str(body)
        for who in order[:2]:
            assert f"result for {who}" in str(body)


@every_way
def test_a_model_gets_its_own_reasoning_back_after_another_answered(way: str) -> None:
    """Gemini refuses a call of its own without the signature that came with it."""
    with chain("google", "anthropic") as asked:
        own, other = ToolCall("own", "weather", {"city": "Köln"}), ToolCall("other", "clock")
        asked.server.script(Response("", tool_calls=(own,)), model=MODELS["google"])
        messages = list(QUESTION)
        messages += turns(asked.ask(way, messages))
        asked.fail("google", 503)
        asked.server.script(Response("", tool_calls=(other,)), model=MODELS["anthropic"])
        messages += turns(asked.ask(way, messages))
        asked.ask(way, messages)
        provider, body = asked.bodies()[-1]
    assert provider == "google"
    parts = [part for turn in body["contents"] for part in turn["parts"]]
    signed = [each["thoughtSignature"] for each in parts if "functionCall" in each]
    assert signed == [signature_of(own), FOREIGN]
