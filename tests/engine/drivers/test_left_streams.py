"""Streams that are left before their end are closed, whoever made them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentkit import LLMManager
from agentkit.types import Request


class Endless:
    """A stream as SDKs have it: an object that nothing but `aclose` ends."""

    closed = 0

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> str:
        return "more "

    async def aclose(self) -> None:
        self.closed += 1


class Acme:
    """A provider of one stream."""

    provider = "acme"
    model = "large"

    def __init__(self, source: Endless) -> None:
        self.source = source

    def astream(self, request: Request) -> AsyncIterator[str]:
        return self.source


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_stream_that_is_left_early_is_closed(mode: str) -> None:
    source = Endless()
    with LLMManager(enable_caching=False) as llm:
        llm.register_model("acme", Acme(source))

        async def leave() -> None:
            async with llm.astream("hi") as stream:
                assert await anext(aiter(stream)) == "more "

        if mode == "async":
            asyncio.run(leave())
        else:
            with llm.stream("hi") as stream:
                assert next(iter(stream)) == "more "
        assert source.closed == 1
