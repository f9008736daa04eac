"""The vendors' SDKs asked in every way: blocking and async, streaming and not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pytest

from agentkit.testing import WireServer

MODEL = "some-model"
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}


@dataclass
class Heard:
    """What a client made of an answer; `error` is what ended it early."""

    pieces: list[str] = field(default_factory=list)
    finish: str | None = None
    error: Exception | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def openai(self, choice: Any, piece: str | None) -> None:
        if piece:
            self.pieces.append(piece)
        self.finish = choice.finish_reason or self.finish

    def anthropic(self, event: Any) -> None:
        if event.type == "content_block_delta":
            self.pieces.append(event.delta.text)
        elif event.type == "message_delta":
            self.finish = event.delta.stop_reason

    def complete(self, message: Any) -> None:
        self.pieces = [block.text for block in message.content]
        self.finish = message.stop_reason


@dataclass(frozen=True)
class Client:
    """One SDK, sync or async."""

    sdk: str
    mode: str

    def ask(self, server: WireServer, *, stream: bool, **options: Any) -> Heard:
        """Ask once; an error is kept, not raised."""
        heard = Heard()
        options = {"max_retries": 0, "timeout": 10.0, "api_key": "any", **options}
        ask = _WAYS[self.sdk, self.mode]
        try:
            ask(heard, server, stream, options)
        except Exception as error:
            heard.error = error
        return heard


def _openai(heard: Heard, server: WireServer, stream: bool, options: dict[str, Any]) -> None:
    with openai.OpenAI(base_url=server.openai_url, **options) as client:
        answer = client.chat.completions.create(**ASKED, stream=stream)
        if isinstance(answer, openai.Stream):
            for chunk in answer:
                heard.openai(chunk.choices[0], chunk.choices[0].delta.content)
        else:
            heard.openai(answer.choices[0], answer.choices[0].message.content)


def _aopenai(heard: Heard, server: WireServer, stream: bool, options: dict[str, Any]) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=server.openai_url, **options) as client:
            answer = await client.chat.completions.create(**ASKED, stream=stream)
            if isinstance(answer, openai.AsyncStream):
                async for chunk in answer:
                    heard.openai(chunk.choices[0], chunk.choices[0].delta.content)
            else:
                heard.openai(answer.choices[0], answer.choices[0].message.content)

    asyncio.run(ask())


def _anthropic(heard: Heard, server: WireServer, stream: bool, options: dict[str, Any]) -> None:
    with anthropic.Anthropic(base_url=server.anthropic_url, **options) as client:
        answer = client.messages.create(**ASKED, max_tokens=100, stream=stream)
        if isinstance(answer, anthropic.Stream):
            for event in answer:
                heard.anthropic(event)
        else:
            heard.complete(answer)


def _aanthropic(heard: Heard, server: WireServer, stream: bool, options: dict[str, Any]) -> None:
    async def ask() -> None:
        async with anthropic.AsyncAnthropic(base_url=server.anthropic_url, **options) as client:
            answer = await client.messages.create(**ASKED, max_tokens=100, stream=stream)
            if isinstance(answer, anthropic.AsyncStream):
                async for event in answer:
                    heard.anthropic(event)
            else:
                heard.complete(answer)

    asyncio.run(ask())


_WAYS = {
    ("openai", "sync"): _openai,
    ("openai", "async"): _aopenai,
    ("anthropic", "sync"): _anthropic,
    ("anthropic", "async"): _aanthropic,
}

every_client = pytest.mark.parametrize(
    "client", [Client(*way) for way in _WAYS], ids=["-".join(way) for way in _WAYS]
)
streaming_or_not = pytest.mark.parametrize("stream", [False, True], ids=["complete", "stream"])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
