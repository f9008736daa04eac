"""The mock answers in order, records what it was asked, and says when it has nothing left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentkit import (
    ConfigurationError,
    LLMClient,
    Message,
    MessageRole,
    RateLimitError,
    Response,
    StructuredOutputError,
    ToolCall,
)
from agentkit.testing import MockLLMClient
from tests.helpers import City

MESSAGES = [Message(MessageRole.USER, "hi")]


def ask(client: MockLLMClient, **options: Any) -> Any:
    return asyncio.run(client.complete(MESSAGES, **options))


@pytest.mark.promise("N14", "S2-35")
def test_responses_come_in_order_until_none_is_left() -> None:
    client = MockLLMClient(responses=["Response 1", "Response 2"])
    assert [ask(client).content, ask(client).content] == ["Response 1", "Response 2"]
    with pytest.raises(ConfigurationError, match="no response left for call 3: it was given 2"):
        ask(client)


@pytest.mark.promise("S2-35")
def test_it_records_what_it_was_asked() -> None:
    client = MockLLMClient(["a", "b"])
    ask(client, temperature=0, max_retries=2, system_prompt="be brief")
    assert asyncio.run(client.chat("hello")) == "b"
    first, second = client.calls
    assert [message.text for message in first.messages] == ["be brief", "hi"]
    assert first.options == {"temperature": 0}
    assert [message.text for message in second.messages] == ["hello"]
    assert client.remaining == 0


def test_it_streams() -> None:
    client = MockLLMClient(["one two three"])

    async def main() -> list[str]:
        return [chunk async for chunk in client.stream_chat("hi")]

    assert asyncio.run(main()) == ["one", " two", " three"]
    assert client.calls[0].stream


@pytest.mark.parametrize("step", [City(name="Paris"), {"name": "Paris"}, '{"name": "Paris"}'])
def test_typed_answers(step: Any) -> None:
    assert ask(MockLLMClient([step]), response_model=City) == City(name="Paris")


def test_an_answer_of_the_wrong_shape_uses_up_no_other() -> None:
    client = MockLLMClient(["no json", {"name": "Paris"}])
    with pytest.raises(StructuredOutputError):
        ask(client, response_model=City)
    assert client.remaining == 1


def test_exceptions_are_raised_and_functions_called() -> None:
    """The wait that the error asks for does not keep the next call waiting."""
    error = RateLimitError("slow down", retry_after=200.0)
    client = MockLLMClient([error, lambda messages: messages[-1].text.upper()])
    with pytest.raises(RateLimitError) as caught:
        ask(client)
    assert caught.value.retry_after == 200.0
    assert ask(client).text == "HI"


def test_tool_calls_and_usage_come_as_given() -> None:
    call = ToolCall("1", "look", {"at": "sky"})
    assert ask(MockLLMClient([Response("", tool_calls=(call,))])).tool_calls == (call,)


def test_it_is_a_client_and_a_context_manager() -> None:
    async def main() -> None:
        async with MockLLMClient(["x"]) as client:
            assert isinstance(client, LLMClient)
            assert await client.chat("hi") == "x"

    asyncio.run(main())


def test_an_invalid_response_is_reported() -> None:
    with pytest.raises(ConfigurationError, match="int"):
        ask(MockLLMClient([3]))
