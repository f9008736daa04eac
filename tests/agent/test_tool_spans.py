"""Each tool call of a run is a span and a duration; neither contains content."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agentkit.agent.agent import Agent
from agentkit.types import ToolCall
from tests.agent.runs import (
    Go,
    Model,
    agent_of,
    each_way,
    raising,
    response_with,
    want,
)


class Seen:
    """Providers for an agent and its manager, and what they saw."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def agent(self, model: Any) -> Agent:
        return agent_of(model, tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, prefix: str) -> list[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if each.name.startswith(prefix)]

    def points(self, name: str) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for each in metrics if each.name == name for point in each.data.data_points]


@pytest.fixture
def seen() -> Iterator[Seen]:
    providers = Seen()
    yield providers
    providers.tracers.shutdown()
    providers.meters.shutdown()


@each_way
def test_each_tool_call_is_a_span_under_the_runs(go: Go, seen: Seen) -> None:
    def inner(secret: str) -> str:
        """Do something."""
        with seen.tracers.get_tracer("mine").start_as_current_span("mine"):
            return f"canary-result {secret}"

    model = Model(want("inner", secret="canary-argument"), "ok")
    go(seen.agent(model), "canary-prompt", tools=[inner])
    (agents,) = seen.spans("invoke_agent")
    (tool,) = seen.spans("execute_tool")
    (mine,) = seen.spans("mine")
    assert tool.name == "execute_tool inner"
    assert tool.kind is SpanKind.INTERNAL
    assert dict(tool.attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "inner",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.tool.description": "Do something.",
        "gen_ai.agent.name": "helper",
    }
    assert tool.status.status_code is StatusCode.UNSET
    assert tool.parent is not None
    assert mine.parent is not None
    assert agents.context is not None
    assert tool.context is not None
    assert tool.parent.span_id == agents.context.span_id
    assert mine.parent.span_id == tool.context.span_id
    assert all("canary" not in span.to_json() for span in seen.exporter.get_finished_spans())


@each_way
def test_a_failed_tool_is_a_failed_span_without_its_text(go: Go, seen: Seen) -> None:
    async def hang() -> None:
        """Hang."""
        await asyncio.Event().wait()

    calls = [ToolCall("1", "tool"), ToolCall("2", "hang"), ToolCall("3", "unknown")]
    go(
        seen.agent(Model(response_with(*calls), "ok")),
        "Try",
        tools=[raising(ValueError("canary")), hang],
        tool_timeout=0.05,
    )
    spans = {span.name: span for span in seen.spans("execute_tool")}
    assert set(spans) == {"execute_tool tool", "execute_tool hang"}, (
        "an unknown name is not a label"
    )
    kinds = {name: dict(span.attributes or {})["error.type"] for name, span in spans.items()}
    assert kinds == {"execute_tool tool": "_OTHER", "execute_tool hang": "timeout"}
    assert all(span.status.status_code is StatusCode.ERROR for span in spans.values())
    assert all("canary" not in json.dumps(span.to_json()) for span in spans.values())
    assert seen.spans("invoke_agent")[0].status.status_code is StatusCode.UNSET
    points = {
        p.attributes["gen_ai.tool.name"]: p for p in seen.points("gen_ai.execute_tool.duration")
    }
    assert set(points) == {"tool", "hang"}
    assert points["hang"].attributes["error.type"] == "timeout"
