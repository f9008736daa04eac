"""Adapters asked through a manager, in every way, and closed with the connections they made."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentkit import LLMManager, Response, RetryPolicy
from agentkit.testing import WireServer
from agentkit.types import Message, MessageRole, ToolCall

PNG = b"\x89PNG\r\n\x1a\n-some-image-"
DATA_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
CALL = ToolCall("call_1", "weather", {"city": "Köln"})
CONVERSATION = [
    Message(MessageRole.SYSTEM, "Be brief."),
    Message(
        MessageRole.USER,
        [
            {"type": "text", "text": "Where is this?"},
            {"type": "image", "data": PNG, "media_type": "image/png"},
        ],
    ),
    Message(MessageRole.ASSISTANT, "Let me look.", tool_calls=(CALL,)),
    Message(MessageRole.TOOL, "rain", tool_call_id="call_1"),
    Message(MessageRole.USER, "And tomorrow?"),
]
every_way = pytest.mark.parametrize("way", ["sync", "async", "stream", "astream"])
either_way = pytest.mark.parametrize("way", ["sync", "astream"])
"""For cases in which sync and async, complete and streamed, share their code."""


class Asker:
    """One adapter behind a manager that tries once; an async client is closed in its own loop."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter
        self.llm = LLMManager(enable_caching=False, retry=RetryPolicy(max_attempts=1))
        self.llm.register_model("only", adapter)

    def ask(self, way: str, prompt: Any = "capital?", **options: Any) -> Response[Any]:
        """The answer, asked in one of the ways."""
        if way == "sync":
            return self.llm.complete(prompt, **options)
        if way == "stream":
            with self.llm.stream(prompt, **options) as stream:
                list(stream.events())
            return stream.response
        return asyncio.run(self._ask(way, prompt, options))

    async def _ask(self, way: str, prompt: Any, options: dict[str, Any]) -> Response[Any]:
        try:
            if way == "async":
                return await self.llm.acomplete(prompt, **options)
            async with self.llm.astream(prompt, **options) as stream:
                async for _ in stream.events():
                    pass
            return stream.response
        finally:
            await self.adapter.aclose()


@contextmanager
def asking(adapter: Any) -> Iterator[Asker]:
    """An `Asker`, closed at the end with its connections."""
    asker = Asker(adapter)
    with asker.llm:
        try:
            yield asker
        finally:
            adapter.close()


def sent_body(
    adapter: Any, server: WireServer, prompt: Any = "capital?", **options: Any
) -> dict[str, Any]:
    """The body that `server` receives for one complete answer."""
    with asking(adapter) as asker:
        asker.ask("sync", prompt, **options)
    return server.requests[-1].body
