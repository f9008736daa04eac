"""The extra ``native`` alone serves every HTTP provider: no SDK is imported on the way."""

from __future__ import annotations

import pytest

from tests.programs import run

BLOCKED = ("openai", "anthropic", "groq", "google.genai", "httpx", "httpx2", "requests", "aiohttp")
EVERY_PROVIDER = """
import asyncio, sys

for name in sys.argv[1].split(","):
    sys.modules[name] = None

from pydantic import BaseModel
from agentkit import LLMManager
from agentkit.providers.registry import provider_for
from agentkit.testing import WireServer
from agentkit.types import Message, MessageRole, ToolCall

assert not {"httptools", "msgspec", "certifi"} & set(sys.modules), "the import is heavy"


class City(BaseModel):
    name: str


def weather(city: str) -> str:
    "The weather in a city."
    return "rain"


async def ask(llm):
    answer = await llm.acomplete("capital?")
    async with llm.astream("capital?") as stream:
        pieces = [piece async for piece in stream]
    return answer.text == "".join(pieces) == '{"name": "Paris"}'


with WireServer(reply='{"name": "Paris"}') as server:
    urls = {
        "openai": server.openai_url,
        "openai-responses": server.openai_url,
        "compatible": server.openai_url,
        "groq": server.groq_url,
        "anthropic": server.anthropic_url,
        "google": server.google_url,
    }
    for name, url in urls.items():
        with LLMManager(enable_caching=False) as llm:
            adapter = provider_for(f"{name}:m", api_key="k", base_url=url, transport="native")
            llm.register_model("m", adapter)
            history = [
                Message(MessageRole.SYSTEM, "Be brief."),
                Message(
                    MessageRole.USER,
                    [
                        {"type": "text", "text": "Where?"},
                        {"type": "image", "data": b"png", "media_type": "image/png"},
                    ],
                ),
                Message(
                    MessageRole.ASSISTANT, "", tool_calls=(ToolCall("c", "weather", {"city": "x"}),)
                ),
                Message(MessageRole.TOOL, "rain", tool_call_id="c"),
            ]
            assert llm.complete(history, tools=[weather]).text == '{"name": "Paris"}'
            assert llm.generate("capital?", response_model=City) == City(name="Paris")
            with llm.stream("capital?") as stream:
                assert "".join(stream) == '{"name": "Paris"}'
            assert asyncio.run(ask(llm))
            adapter.close()
            print(name)
"""


@pytest.mark.wire
@pytest.mark.processes
def test_every_http_provider_answers_without_any_sdk() -> None:
    served = run(EVERY_PROVIDER, ",".join(BLOCKED))
    assert served.split() == [
        "openai",
        "openai-responses",
        "compatible",
        "groq",
        "anthropic",
        "google",
    ]
