"""A call has one span of a model and its HTTP requests inside, whatever else instruments the SDK.

The instrumentations are those that people use: OpenInference's of the SDKs, OpenTelemetry's of HTTP
clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from agentkit import LLMManager, RetryPolicy, Telemetry
from agentkit.testing import WireServer
from tests.providers.asking import every_way
from tests.providers.bedrock.wired import clients_at, target
from tests.providers.contract import PROVIDERS

pytest.importorskip("openinference.instrumentation.openai", reason="not in every environment")
pytestmark = pytest.mark.wire

INSTRUMENTED = {
    "openai": "openai:OpenAIInstrumentor",
    "openai-responses": "openai:OpenAIInstrumentor",
    "anthropic": "anthropic:AnthropicInstrumentor",
    "google": "google_genai:GoogleGenAIInstrumentor",
    "bedrock": "bedrock:BedrockInstrumentor",
}
every_provider = pytest.mark.parametrize("provider", INSTRUMENTED)


class Seen:
    """What all instrumentations wrote."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))

    def spans(self, *scopes: str) -> list[ReadableSpan]:
        """The finished spans of the given instrumentations, or all."""
        finished = self._exporter.get_finished_spans()
        return [each for each in finished if not scopes or _scope(each).startswith(scopes)]


def _scope(span: ReadableSpan) -> str:
    assert span.instrumentation_scope is not None
    return span.instrumentation_scope.name


@contextmanager
def instrumented(provider: str, seen: Seen) -> Iterator[None]:
    """With OpenInference's instrumentation of one SDK, and those of httpx and httpx2."""
    module, _, name = INSTRUMENTED[provider].partition(":")
    http = import_module("opentelemetry.instrumentation.httpx")
    instrumentors: list[Any] = [
        getattr(import_module(f"openinference.instrumentation.{module}"), name)(),
        http.HTTPXClientInstrumentor(),
        http.HTTPX2ClientInstrumentor(),
    ]
    for each in instrumentors:
        each.instrument(tracer_provider=seen.tracers)
    try:
        yield
    finally:
        for each in instrumentors:
            each.uninstrument()


@contextmanager
def adapter(provider: str, server: WireServer) -> Iterator[Any]:
    """The adapter of a provider, made while its SDK is instrumented."""
    if provider == "bedrock":
        with clients_at(server.bedrock_url) as clients:
            yield target(clients)
    else:
        made = PROVIDERS[provider].make(server)
        yield made
        made.close()


def ask(provider: str, way: str, seen: Seen, telemetry: Telemetry | None = None) -> str:
    """Ask once; the text of the answer."""
    with (
        WireServer(reply="Paris.") as server,
        instrumented(provider, seen),
        adapter(provider, server) as made,
        LLMManager(
            enable_caching=False,
            retry=RetryPolicy(max_attempts=1),
            telemetry=telemetry or Telemetry(tracer_provider=seen.tracers),
        ) as llm,
    ):
        llm.register_model("only", made)
        if way == "sync":
            return llm.complete("capital?").text
        if way == "stream":
            with llm.stream("capital?") as stream:
                return "".join(_outside(text) for text in stream)
        return asyncio.run(_ask(llm, made, way))


async def _ask(llm: LLMManager, made: Any, way: str) -> str:
    try:
        if way == "async":
            return (await llm.acomplete("capital?")).text
        async with llm.astream("capital?") as stream:
            return "".join([_outside(text) async for text in stream])
    finally:
        if hasattr(made, "aclose"):
            await made.aclose()


def _outside(text: str) -> str:
    """`text`, which arrived where nothing is suppressed."""
    from opentelemetry.instrumentation.utils import (
        is_instrumentation_enabled,
    )

    assert is_instrumentation_enabled()
    return text


@every_provider
@every_way
def test_a_call_has_one_span_of_a_model_and_its_request_inside(provider: str, way: str) -> None:
    seen = Seen()
    assert ask(provider, way, seen) == "Paris."
    assert seen.spans("openinference") == []
    (attempt,) = (span for span in seen.spans("agentkit") if span.name.startswith("chat "))
    requests = seen.spans("opentelemetry.instrumentation.httpx")
    assert len(requests) == (provider != "bedrock")  # the SDK of AWS has an HTTP client of its own
    assert all(each.parent and each.parent == attempt.context for each in requests)


@every_provider
@every_way
def test_without_spans_of_ours_the_other_instrumentation_writes_its_own(
    provider: str, way: str
) -> None:
    """A program chooses so between the two."""
    seen = Seen()
    off = Telemetry(tracer_provider=NoOpTracerProvider())
    with seen.tracers.get_tracer("mine").start_as_current_span("around"):
        assert ask(provider, way, seen, off) == "Paris."
    assert len(seen.spans("openinference")) == 1
    assert seen.spans("agentkit") == []


def test_requests_to_aws_are_instrumented_while_its_sdk_is_not() -> None:
    enabled: list[bool] = []

    def note(**_: Any) -> None:
        enabled.append(_outside("sent") == "sent")

    seen = Seen()
    with WireServer() as server, clients_at(server.bedrock_url) as clients:
        made = target(clients)
        clients.runtime(made.region).meta.events.register_last("before-send", note)
        with LLMManager(enable_caching=False, telemetry=Telemetry(seen.tracers)) as llm:
            llm.register_model("only", made)
            llm.complete("capital?")
    assert enabled == [True]
