"""A client for one provider, offline: a conversation, a stream, a typed answer, the metrics.

With API keys in the environment, `await get_llm_manager()` returns the manager. Here a scripted
model replaces the provider, so that the example runs anywhere.
"""

import asyncio

from pydantic import BaseModel

from agentkit import LLMConfig, LLMManager, LLMProvider, Message, MessageRole
from agentkit.testing import ScriptedModel


class City(BaseModel):
    name: str
    country: str


async def main() -> None:
    model = ScriptedModel(
        "Hello! How can I help?",
        "Python is a programming language.",
        "It is read more often than written.",
        '{"name": "Paris", "country": "France"}',
    )
    async with LLMManager(enable_caching=False) as manager:
        manager.register_model("claude", model, {"provider": "anthropic"})
        client = manager.get_client(LLMProvider.ANTHROPIC)

        print(await client.chat("Hello, how are you?"))

        messages = [
            Message(MessageRole.SYSTEM, "You are a helpful assistant"),
            Message(MessageRole.USER, "What is Python?"),
        ]
        config = LLMConfig(temperature=0.7, max_tokens=200, timeout=30.0)
        print((await client.complete(messages, **config.to_dict())).content)

        async for chunk in client.stream_complete(messages):
            print(chunk, end="")
        print()

        print(await client.complete(messages, response_model=City))
        print(manager.get_status()["metrics"]["requests_by_model"])


asyncio.run(main())
