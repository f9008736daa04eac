"""A real manager on a clock that moves on demand, and everything its telemetry wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit.manager.manager import LLMManager
from agentkit.policy.breaker import BreakerPolicy
from agentkit.policy.retry import RetryPolicy
from agentkit.telemetry.otel import Telemetry
from agentkit.testing import FakeClock

Point = tuple[dict[str, Any], Any]
"""A data point's attributes and its value (a histogram's: count and sum)."""

LITERAL = RetryPolicy(max_attempts=2, jitter=0.0)


class Observed:
    """Managers whose telemetry goes to memory."""

    def __init__(self, **telemetry: Any) -> None:
        self.clock = FakeClock()
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        sampler = telemetry.pop("sampler", None)
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.telemetry = Telemetry(
            tracer_provider=self.tracers, meter_provider=self.meters, **telemetry
        )
        self.managers: list[LLMManager] = []

    def manager(self, *models: tuple[str, Any], **options: Any) -> LLMManager:
        """A manager that asks `models` in order; without a response cache unless `cache` is set."""
        options.setdefault("retry", LITERAL)
        options.setdefault("breaker", BreakerPolicy(failure_threshold=5))
        options.setdefault("telemetry", self.telemetry)
        llm = LLMManager(
            enable_caching="cache" in options, clock=self.clock, rng=lambda: 0.5, **options
        )
        self.managers.append(llm)
        for name, model in models:
            llm.register_model(name, model, {"provider": f"p-{name}", "version": "1"})
        if models:
            llm.set_active_model(models[0][0])
            llm.set_fallback_chain([name for name, _ in models])
        return llm

    def close(self) -> None:
        """End what the managers and the SDK started."""
        for llm in self.managers:
            llm.close()
        self.tracers.shutdown()
        self.meters.shutdown()

    @property
    def spans(self) -> list[ReadableSpan]:
        """Finished spans, in order of their start."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, prefix: str) -> list[ReadableSpan]:
        """Finished spans whose name begins so."""
        return [span for span in self.spans if span.name.startswith(prefix)]

    @property
    def wrapper(self) -> ReadableSpan:
        """The only request's span."""
        (span,) = self.named("agentkit.generate")
        return span

    @property
    def attempts(self) -> list[ReadableSpan]:
        """The attempts' spans."""
        return self.named("chat ")

    def metrics(self) -> dict[str, Any]:
        """Every metric that holds data, by name."""
        data: Any = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Point]:
        """The data points of one metric; none when it holds no data."""
        metric = self.metrics().get(name)
        return [] if metric is None else [_point(point) for point in metric.data.data_points]

    def one(self, name: str) -> Point:
        """The only data point of one metric."""
        (point,) = self.points(name)
        return point

    def everything(self) -> str:
        """All that was exported, as one text."""
        data: Any = self.reader.get_metrics_data()
        return "\n".join([*(span.to_json() for span in self.spans), data.to_json() if data else ""])


@pytest.fixture
def observing() -> Iterator[Callable[..., Observed]]:
    """Makes an `Observed` with the `Telemetry` settings it is given."""
    made: list[Observed] = []

    def make(**telemetry: Any) -> Observed:
        made.append(Observed(**telemetry))
        return made[-1]

    yield make
    for each in made:
        each.close()
    assert not trace.get_current_span().get_span_context().is_valid, "a span stayed current"


def _point(point: Any) -> Point:
    value = (point.count, point.sum) if hasattr(point, "count") else point.value
    return dict(point.attributes), value


def attributes(of: ReadableSpan | Event) -> dict[str, Any]:
    """The attributes of a span or event."""
    return dict(of.attributes or {})


def events(span: ReadableSpan) -> list[tuple[str, Mapping[str, Any]]]:
    """A span's events, in order."""
    return [(event.name, attributes(event)) for event in span.events]


def event(span: ReadableSpan, name: str) -> dict[str, Any]:
    """The attributes of a span's only event called `name`."""
    (found,) = (attributes(each) for each in span.events if each.name == name)
    return found


def messages(value: Any) -> Any:
    """What a message attribute says."""
    return json.loads(value)


def parent_of(span: ReadableSpan) -> int | None:
    """Id of the span above."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """Id of the span itself."""
    assert span.context is not None
    return int(span.context.span_id)


Ask = Callable[[LLMManager, str], Any]
