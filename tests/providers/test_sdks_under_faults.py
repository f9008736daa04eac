"""The real SDKs as inference functions, over real sockets: each fault, sync and async, complete and
streamed.

The primary meets the fault, the backup answers; the ledger must say what the primary died of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from agentkit import LLMManager, Response, StreamInterruptedError, Usage
from agentkit.testing import WireServer, faults
from tests.helpers import with_backup

MODEL = "primary-model"
ANSWER = "The capital is Paris."


class Case(NamedTuple):
    fault: faults.Fault
    error_type: str
    attempts: int
    """At the primary, with two allowed."""


BEFORE = {
    "429": Case(faults.status(429), "429", 2),
    "429-retry-after": Case(faults.status(429, retry_after=0.01), "429", 2),
    "429-long-retry-after": Case(faults.status(429, retry_after=60), "429", 1),
    "429-ms": Case(faults.status(429, retry_after_ms=10), "429", 2),
    "401": Case(faults.status(401), "401", 1),
    "404": Case(faults.status(404), "404", 1),
    "408": Case(faults.status(408), "408", 1),
    "500": Case(faults.status(500), "500", 2),
    "503": Case(faults.status(503), "503", 2),
    "529": Case(faults.status(529), "529", 2),
    "reset": Case(faults.reset(), "connection_error", 2),
    "disconnect": Case(faults.disconnect(), "connection_error", 2),
    "silence": Case(faults.silence(), "timeout", 1),
}
STREAMED = {
    "slow-first-token": Case(faults.slow_first_token(30), "timeout", 1),
}
BROKEN = {
    "cut": faults.cut_stream(2),
    "reset-midway": faults.cut_stream(2, reset=True),
    "stalled": faults.stalled_stream(2),
    "malformed-chunk": faults.malformed_chunk(2),
    "error-inside-200": faults.stream_error(2),
}
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "capital?"}]}


def openai_complete(client: openai.OpenAI) -> Any:
    def model(prompt: str, kwargs: dict[str, Any]) -> Response[Any]:
        made = client.chat.completions.create(**ASKED)
        usage = made.usage
        assert usage is not None
        return Response(
            made.choices[0].message.content or "",
            Usage(usage.prompt_tokens, usage.completion_tokens),
        )

    return model


def openai_async(server: WireServer) -> Any:
    async def model(prompt: str, kwargs: dict[str, Any]) -> str:
        async with openai.AsyncOpenAI(
            base_url=server.openai_url, api_key="any", max_retries=0
        ) as client:
            made = await client.chat.completions.create(**ASKED)
            return made.choices[0].message.content or ""

    return model


def openai_stream(client: openai.OpenAI) -> Any:
    def model(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
        with client.chat.completions.create(**ASKED, stream=True) as chunks:
            for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    return model


def openai_async_stream(server: WireServer) -> Any:
    async def model(prompt: str, kwargs: dict[str, Any]) -> AsyncIterator[str]:
        async with openai.AsyncOpenAI(
            base_url=server.openai_url, api_key="any", max_retries=0
        ) as client:
            async for chunk in await client.chat.completions.create(**ASKED, stream=True):
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

    return model


def anthropic_complete(client: anthropic.Anthropic) -> Any:
    def model(prompt: str, kwargs: dict[str, Any]) -> str:
        made = client.messages.create(**ASKED, max_tokens=100)
        return "".join(block.text for block in made.content if block.type == "text")

    return model


def anthropic_stream(client: anthropic.Anthropic) -> Any:
    def model(prompt: str, kwargs: dict[str, Any]) -> Iterator[str]:
        with client.messages.stream(**ASKED, max_tokens=100) as stream:
            yield from stream.text_stream

    return model


SDKS = ("openai", "openai-async", "anthropic")


class Stage:
    """One server, and the models that ask it: a sync client keeps its connection, as in life."""

    def __init__(self, closing: ExitStack) -> None:
        self.server = closing.enter_context(WireServer(reply=ANSWER))
        of_openai = closing.enter_context(
            openai.OpenAI(base_url=self.server.openai_url, api_key="any", max_retries=0)
        )
        of_anthropic = closing.enter_context(
            anthropic.Anthropic(base_url=self.server.anthropic_url, api_key="any", max_retries=0)
        )
        self.complete = {
            "openai": openai_complete(of_openai),
            "openai-async": openai_async(self.server),
            "anthropic": anthropic_complete(of_anthropic),
        }
        self.streams = {
            "openai": openai_stream(of_openai),
            "openai-async": openai_async_stream(self.server),
            "anthropic": anthropic_stream(of_anthropic),
        }
        # An SDK imports on first use, which takes longer than a silence here.
        of_openai.chat.completions.create(**ASKED)
        of_anthropic.messages.create(**ASKED, max_tokens=100)


@pytest.fixture(scope="module", name="shared_stage")
def _shared_stage() -> Iterator[Stage]:
    with ExitStack() as closing:
        yield Stage(closing)


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    shared_stage.server.clear()
    return shared_stage


pytestmark = pytest.mark.wire


def patience(silent: bool) -> float:
    """Seconds for an attempt; `silent`: the fault is one that only a time limit ends."""
    return 0.1 if silent else 20.0


def read(llm: LLMManager, mode: str, **options: Any) -> Response[Any]:
    """A stream read to its end, sync or async."""
    if mode == "sync":
        with llm.stream("capital?", **options) as stream:
            list(stream.events())
        return stream.response

    async def main() -> Response[Any]:
        async with llm.astream("capital?", **options) as stream:
            async for _ in stream.events():
                pass
        return stream.response

    return asyncio.run(main())


def check(reply: Response[Any], case: Case) -> None:
    assert reply.text == "from backup"
    tried = [entry for entry in reply.ledger.sent if entry.model == "primary"]
    assert {entry.error_type for entry in tried} == {case.error_type}
    assert len(tried) == case.attempts


sync_and_async = pytest.mark.parametrize("mode", ["sync", "async"])


@pytest.mark.promise("N12")
@sync_and_async
@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("fault", BEFORE)
def test_a_complete_answer_survives_each_fault(
    fault: str, sdk: str, mode: str, stage: Stage
) -> None:
    case = BEFORE[fault]
    silent = case.error_type == "timeout"
    stage.server.always(case.fault)
    with with_backup(stage.complete[sdk], timeout=patience(silent)) as llm:
        reply = (
            llm.complete("capital?") if mode == "sync" else asyncio.run(llm.acomplete("capital?"))
        )
        check(reply, case)


@sync_and_async
@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("fault", [*BEFORE, *STREAMED])
def test_a_stream_falls_back_before_its_first_content(
    fault: str, sdk: str, mode: str, stage: Stage
) -> None:
    case = {**BEFORE, **STREAMED}[fault]
    silent = case.error_type == "timeout"
    stage.server.always(case.fault)
    with with_backup(stage.streams[sdk], timeout=patience(silent)) as llm:
        check(read(llm, mode), case)


@sync_and_async
@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_stream_is_never_a_short_answer(
    fault: str, sdk: str, mode: str, stage: Stage
) -> None:
    limit = 0.5 if fault == "stalled" else 20.0  # the first content has to arrive within it
    stage.server.always(BROKEN[fault])
    with with_backup(stage.streams[sdk], timeout=limit) as llm:
        with pytest.raises(StreamInterruptedError) as caught:
            read(llm, mode)
        assert ANSWER.startswith(caught.value.partial)
        assert caught.value.partial
        reply = read(llm, mode, on_interrupt="restart")
        assert reply.text == "from backup"


@sync_and_async
@pytest.mark.parametrize("sdk", SDKS)
def test_without_a_fault_the_answer_is_complete(sdk: str, mode: str, stage: Stage) -> None:
    with with_backup(stage.complete[sdk]) as llm:
        reply = (
            llm.complete("capital?") if mode == "sync" else asyncio.run(llm.acomplete("capital?"))
        )
        assert (reply.text, reply.model) == (ANSWER, "primary")
    with with_backup(stage.streams[sdk]) as llm:
        assert read(llm, mode).text == ANSWER
