"""Event streams that keep to the standard, however oddly, lose nothing in any SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentkit import LLMManager
from agentkit.providers.registry import provider_for
from tests.providers.raw import dump, serving

pytestmark = pytest.mark.wire

TEXT = "Zürich, 東京 and 🦊"
LONG = "x" * 10_000_000


def chat(text: str) -> list[tuple[str | None, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[None, dict[str, Any]]:
        return None, {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    return [chunk({"content": text}), chunk({}, "stop"), (None, "[DONE]")]


def responses(text: str) -> list[tuple[str | None, Any]]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "content": [part]}
    response = {"id": "r", "status": "completed", "output": [message]}
    events: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": text, "output_index": 0},
        {"type": "response.completed", "response": response},
    ]
    return [(str(each["type"]), each) for each in events]


def anthropic(text: str) -> list[tuple[str | None, Any]]:
    message = {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    return [(str(each["type"]), each) for each in events]


def google(text: str) -> list[tuple[str | None, Any]]:
    def chunk(text: str, **rest: str) -> tuple[None, dict[str, Any]]:
        content = {"role": "model", "parts": [{"text": text}]}
        return None, {"candidates": [{"content": content, "index": 0, **rest}]}

    return [chunk(text), chunk("", finishReason="STOP")]


PROTOCOLS = {
    "openai": chat,
    "openai-responses": responses,
    "groq": chat,
    "ollama": chat,
    "anthropic": anthropic,
    "google": google,
}


def framed(events: Sequence[tuple[str | None, Any]], end: bytes = b"\n") -> list[bytes]:
    made = []
    for name, data in events:
        head = [f"event: {name}".encode()] if name else []
        body = data.encode() if isinstance(data, str) else dump(data)
        made.append(b"".join(line + end for line in [*head, b"data: " + body, b""]))
    return made


def one_byte_each(events: Sequence[tuple[str | None, Any]]) -> list[bytes]:
    return [bytes([byte]) for byte in b"".join(framed(events))]


FRAMINGS: dict[str, Callable[[Sequence[tuple[str | None, Any]]], list[bytes]]] = {
    "lines that end with LF": framed,
    "lines that end with CR": lambda events: framed(events, b"\r"),
    "lines that end with CR LF": lambda events: framed(events, b"\r\n"),
    "comments between events": lambda events: [
        piece for event in framed(events) for piece in (b": ping\n\n", event, b":\n")
    ],
    "a byte order mark": lambda events: [b"\xef\xbb\xbf", *framed(events)],
    "a byte order mark in the first packet": lambda events: [
        b"\xef\xbb\xbf" + b"".join(framed(events))
    ],
    "characters in pieces": one_byte_each,
    "ids and retry times": lambda events: [
        piece for event in framed(events) for piece in (b"id: 1\nretry: 10\n", event)
    ],
}


def stream(provider: str, pieces: Sequence[bytes], mode: str) -> str:
    with serving("text/event-stream", *pieces) as server:
        adapter = provider_for(f"{provider}:m", api_key="k", base_url=server.url)
        with LLMManager(enable_caching=False, max_retries=1) as llm:
            llm.register_model("only", adapter)
            if mode == "sync":
                with llm.stream("hello?") as pieces_read:
                    text = "".join(pieces_read)
                adapter.close()
                return text

            async def main() -> str:
                async with llm.astream("hello?") as pieces_read:
                    text = "".join([piece async for piece in pieces_read])
                await adapter.aclose()
                return text

            return asyncio.run(main())


sync_and_async = pytest.mark.parametrize("mode", ["sync", "async"])


@sync_and_async
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("provider", PROTOCOLS)
def test_the_complete_text_arrives(provider: str, framing: str, mode: str) -> None:
    pieces = FRAMINGS[framing](PROTOCOLS[provider](TEXT))
    assert stream(provider, pieces, mode) == TEXT


@sync_and_async
@pytest.mark.parametrize("provider", PROTOCOLS)
def test_an_event_may_be_ten_megabytes_long(provider: str, mode: str) -> None:
    assert stream(provider, framed(PROTOCOLS[provider](LONG)), mode) == LONG
