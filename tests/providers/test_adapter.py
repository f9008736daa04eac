"""An adapter's three parts are pure, and only its transport moves bytes."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from agentkit.errors import InvalidResponseError, LLMError
from agentkit.providers.openai import OpenAIChat
from agentkit.providers.registry import provider_for
from agentkit.providers.transport.base import Body, Reply, Transport
from agentkit.types import End, Request, TextDelta, ToolSpec
from tests.providers.asking import CONVERSATION
from tests.providers.contract import PROVIDERS

HEADERS = {"x-ratelimit-limit-tokens": "30000"}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
FULL = Request(
    messages=tuple(CONVERSATION),
    params={"temperature": 0, "max_tokens": 9, "stop": "x", "tool_choice": "auto", "own": {"a": 1}},
    tools=(ToolSpec("weather", "Reports the weather.", SCHEMA),),
    response_format={"type": "json_schema", "name": "city", "schema": SCHEMA},
)


def choice(**fields: Any) -> Any:
    message = SimpleNamespace(content="Paris.", tool_calls=None)
    return SimpleNamespace(index=0, finish_reason="stop", message=message, delta=message, **fields)


def completion(*choices: Any) -> Any:
    """An object that is a completion and a chunk of one."""
    return SimpleNamespace(id="c", choices=list(choices), usage=None)


class Recorded:
    """A transport that replays one completion."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.bodies: list[Body] = []
        self.open = 0

    def send(self, body: Body, *, read_timeout: float | None) -> Reply:
        self.bodies.append(body)
        return Reply(self.content, HEADERS)

    async def asend(self, body: Body, *, read_timeout: float | None) -> Reply:
        return self.send(body, read_timeout=read_timeout)

    @contextmanager
    def stream(self, body: Body, *, read_timeout: float | None) -> Iterator[Reply]:
        self.bodies.append(body)
        self.open += 1
        try:
            yield Reply(iter([[self.content]]), HEADERS)
        finally:
            self.open -= 1

    @asynccontextmanager
    async def astream(self, body: Body, *, read_timeout: float | None) -> AsyncIterator[Reply]:
        async def events() -> AsyncIterator[Any]:
            yield [self.content]

        with self.stream(body, read_timeout=read_timeout) as reply:
            yield Reply(events(), reply.headers)

    def prepare(self) -> None:
        """Nothing to do."""

    def warm_up(self, connections: int) -> None:
        """Nothing to open."""

    async def awarm_up(self, connections: int) -> None:
        """Nothing to open."""

    def translate(self, exc: Exception, model: str) -> LLMError | None:
        return None

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class Replaying(OpenAIChat):
    """OpenAI's adapter over a `Recorded` transport."""

    def __init__(self, *choices: Any) -> None:
        self.recorded = Recorded(completion(*choices))
        super().__init__("some-model", api_key="any")

    def make_transport(self) -> Transport:
        return self.recorded


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stream", [False, True])
def test_encoding_needs_no_server_and_changes_nothing(provider: str, stream: bool) -> None:
    extra: dict[str, Any] = (
        {"base_url": "http://localhost:1/v1"} if provider == "compatible" else {}
    )
    adapter = provider_for(f"{provider}:some-model", **extra)  # without a key
    before = copy.deepcopy(dict(FULL.params))
    first = adapter.encode(FULL, stream=stream)
    assert first == adapter.encode(FULL, stream=stream)
    assert FULL.params == before


def test_every_transport_gets_the_same_body_and_its_reply_is_decoded() -> None:
    adapter = Replaying(choice())
    request = Request(prompt="capital?", params={"own": 1})
    complete, same = adapter.send(request), asyncio.run(adapter.asend(request))
    assert complete == same
    assert (complete.text, complete.finish_reason) == ("Paris.", "stop")
    assert complete.quota is not None
    assert complete.quota.tokens_per_minute == 30000
    messages = [{"role": "user", "content": "capital?"}]
    assert adapter.recorded.bodies == [{"own": 1, "model": "some-model", "messages": messages}] * 2


def test_a_stream_is_decoded_and_released_sync_and_async() -> None:
    adapter = Replaying(choice())

    async def main() -> list[Any]:
        return [event async for event in adapter.astream(Request(prompt="capital?"))]

    events = list(adapter.stream(Request(prompt="capital?")))
    assert events == asyncio.run(main())
    assert [type(event) for event in events] == [TextDelta, End]
    assert adapter.recorded.open == 0


def test_an_abandoned_stream_is_released() -> None:
    adapter = Replaying(choice())
    stream = adapter.stream(Request(prompt="capital?"))
    next(stream)
    assert adapter.recorded.open == 1
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert adapter.recorded.open == 0


def test_a_response_of_another_shape_is_an_invalid_response() -> None:
    adapter = Replaying(SimpleNamespace(index=0))
    with pytest.raises(InvalidResponseError, match="cannot be read"):
        adapter.send(Request(prompt="capital?"))
    with pytest.raises(InvalidResponseError, match="cannot be read"):
        list(adapter.stream(Request(prompt="capital?")))
    assert adapter.recorded.open == 0
