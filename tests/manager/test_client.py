"""`get_client` and what the specification prints about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from agentkit import (
    ConfigurationError,
    DeadlineExceededError,
    LLMClient,
    LLMConfig,
    LLMManager,
    LLMProvider,
    Message,
    MessageRole,
    NetworkError,
    RetryPolicy,
    UnknownModelError,
)
from agentkit.testing import FakeClock, MockLLMClient, ScriptedModel
from agentkit.types import Request, Response, ToolCall


class City(BaseModel):
    name: str


def manager(model: Any, clock: FakeClock | None = None, **how: Any) -> LLMManager:
    llm = LLMManager(enable_caching=False, clock=clock, retry=RetryPolicy(jitter=0.0))
    llm.register_model("anthropic", model, {"provider": "anthropic"}, **how)
    return llm


MESSAGES = [
    Message(MessageRole.SYSTEM, "You are a helpful assistant"),
    Message(MessageRole.USER, "What is the capital of France?"),
]


@pytest.mark.promise("S2-20", "S2-41", "S4-24")
def test_complete_chat_and_streams() -> None:
    client = manager(ScriptedModel(then="Paris, France")).get_client(LLMProvider.ANTHROPIC)

    async def main() -> None:
        assert (await client.complete(MESSAGES)).content == "Paris, France"
        assert (await client.complete(messages=MESSAGES, temperature=0.7)).text
        assert await client.chat("Hello") == "Paris, France"
        assert "".join([chunk async for chunk in client.stream_complete(MESSAGES)])
        assert "".join([chunk async for chunk in client.stream_chat("Hello")])

    asyncio.run(main())


def test_a_response_model_gives_the_instance_itself() -> None:
    client = manager(ScriptedModel(then='{"name": "Paris"}')).get_client()
    assert asyncio.run(client.complete(MESSAGES, response_model=City)) == City(name="Paris")


def test_a_wish_for_a_tool_comes_back_as_the_response() -> None:
    """It is no answer of the type, and None would not say so; a None that was asked for stays."""
    wish: Response[Any] = Response("", tool_calls=(ToolCall("1", "look_up", {"city": "Paris"}),))
    client = MockLLMClient([wish, City(name="Paris"), {"value": None}])

    def look_up(city: str) -> str:
        return city

    async def main() -> None:
        first = await client.complete(MESSAGES, response_model=City, tools=[look_up])
        assert isinstance(first, Response)
        assert first.tool_calls == wish.tool_calls
        then = await client.complete(MESSAGES, response_model=City, tools=[look_up])
        assert then == City(name="Paris")
        maybe: Any = City | None
        assert await client.complete(MESSAGES, response_model=maybe, tools=[look_up]) is None

    asyncio.run(main())


@pytest.mark.promise("S2-23")
def test_the_options_of_a_config_reach_engine_and_model() -> None:
    seen: list[Request] = []

    class Seen:
        capabilities = frozenset({"messages"})

        def send(self, request: Request) -> str:
            seen.append(request)
            raise ConnectionError("down")

    clock = FakeClock()
    client = manager(Seen(), clock).get_client(LLMProvider.ANTHROPIC)
    config = LLMConfig(
        temperature=0, max_tokens=2000, max_retries=2, retry_delay=3.0, timeout=30.0,
        system_prompt="You are a technical assistant",
    )  # fmt: skip
    since = clock()
    with pytest.raises(NetworkError):
        asyncio.run(client.complete(MESSAGES, **config.to_dict()))
    assert len(seen) == 2
    assert 2.25 <= clock() - since <= 3.75
    assert seen[0].params == {"temperature": 0, "max_tokens": 2000}
    assert seen[0].messages[0].text == "You are a technical assistant"
    assert len(seen[0].messages) == 3


@pytest.mark.promise("S4-41")
def test_a_timeout_spans_the_retries() -> None:
    clock = FakeClock()
    since = clock()
    client = manager(ScriptedModel(then=ConnectionError("down")), clock).get_client()
    with pytest.raises(DeadlineExceededError):
        asyncio.run(client.complete(MESSAGES, max_retries=9, retry_delay=1.0, timeout=5.0))
    assert clock() - since <= 5.0


@pytest.mark.promise("S2-23")
def test_a_config_leaves_out_what_is_not_set() -> None:
    assert LLMConfig().to_dict() == {"max_retries": 3, "retry_delay": 1.0, "timeout": 30.0}


@pytest.mark.promise("S2-13")
def test_a_client_by_provider_asks_every_model_of_it_in_order() -> None:
    llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
    llm.register_model("big", ScriptedModel(then=ConnectionError()), {"provider": "openai"})
    llm.register_model("other", ScriptedModel(then="other"), {"provider": "google"})
    llm.register_model("small", ScriptedModel(then="small"), {"provider": "openai"})
    assert asyncio.run(llm.get_client("openai").chat("x")) == "small"
    assert asyncio.run(llm.get_client("other").chat("x")) == "other"
    with pytest.raises(UnknownModelError):
        llm.get_client("groq")


@pytest.mark.promise("S4-23")
def test_without_a_model_there_is_no_client() -> None:
    with pytest.raises(ConfigurationError, match="no model"):
        LLMManager(enable_caching=False).get_client()


def test_a_client_works_in_two_event_loops_and_as_a_context_manager() -> None:
    client = manager(ScriptedModel(then="x")).get_client()

    async def main() -> str:
        async with client as same:
            assert isinstance(same, LLMClient)
            return await same.chat("hi")

    assert [asyncio.run(main()), asyncio.run(main())] == ["x", "x"]


@pytest.mark.promise("S4-29")
def test_the_status_holds_the_metrics_that_the_specification_names() -> None:
    llm = manager(ScriptedModel(ConnectionError("down"), then="a b c"), FakeClock())
    asyncio.run(llm.get_client().chat("hi"))
    metrics = llm.get_status()["metrics"]
    assert metrics["total_requests"] == metrics["successful_requests"] == 1
    assert metrics["failed_requests"] == 0
    assert metrics["total_retries"] == 1
    assert set(metrics["tokens"]) == {"total_input", "total_output", "total"}
    assert set(metrics["latency"]) == {
        "average_seconds", "min_seconds", "max_seconds", "total_seconds",
    }  # fmt: skip
    assert metrics["errors_by_type"] == {"connection_error": 1}
    assert metrics["requests_by_model"] == {"anthropic": 2}
    assert metrics["providers"]["anthropic"]["requests_by_model"] == {"anthropic": 2}
