"""The bare openai SDK, the baseline of every contender in the work "sdk"."""

# mypy: disable-error-code="import-not-found, misc"
# This runs in the environments of the contenders, whose openai versions differ.

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from openai import AsyncOpenAI

URL = os.environ.get("BENCH_SERVER", "")
ASKED: list[Any] = [{"role": "user", "content": "hi"}]
Call = Callable[[], Awaitable[object]]


def bare() -> tuple[Call, Call]:
    """A complete answer and a stream read to its end, by the SDK alone and without its retries."""
    client = AsyncOpenAI(api_key="none", base_url=URL, max_retries=0)

    async def complete() -> object:
        answer = await client.chat.completions.create(model="m", messages=ASKED)
        return answer.choices[0].message.content

    async def stream() -> object:
        chunks = await client.chat.completions.create(
            model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        return [chunk.choices[0].delta.content async for chunk in chunks if chunk.choices]

    return complete, stream
