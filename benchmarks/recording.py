"""The OpenTelemetry SDK as an application configures it, with an exporter that discards spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from agentkit import Telemetry


class _Discard(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def providers() -> tuple[TracerProvider, MeterProvider]:
    """A tracer provider that batches every span and a meter provider that aggregates."""
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(_Discard()))
    return tracing, MeterProvider(metric_readers=[InMemoryMetricReader()])


class WrittenSpan(NamedTuple):
    """A span, with the attributes that it had at its start, and those that it got until its end."""

    name: str
    kind: SpanKind
    at_start: dict[str, Any]
    at_end: dict[str, Any]


class WrittenMeasurement(NamedTuple):
    """A measurement of a histogram."""

    name: str
    value: float
    attributes: dict[str, Any]


class _Starts(SpanProcessor):
    def __init__(self) -> None:
        self.started: list[tuple[Span, dict[str, Any]]] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        attributes: dict[str, Any] = dict(span.attributes or {})
        lists = {key: [*value] for key, value in attributes.items() if isinstance(value, tuple)}
        self.started.append((span, attributes | lists))


def one_of(
    work: Callable[[Telemetry], object],
) -> tuple[list[WrittenSpan], list[WrittenMeasurement]]:
    """The spans, outermost first, and the measurements of histograms that `work` writes."""
    starts, reader = _Starts(), InMemoryMetricReader()
    tracing, metering = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracing.add_span_processor(starts)
    work(Telemetry(tracer_provider=tracing, meter_provider=metering))
    spans = []
    for span, at_start in starts.started:
        at_end = {
            key: value for key, value in (span.attributes or {}).items() if key not in at_start
        }
        spans.append(WrittenSpan(span.name, span.kind, at_start, at_end))
    data: Any = reader.get_metrics_data()
    measurements = [
        WrittenMeasurement(metric.name, point.sum, dict(point.attributes))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if hasattr(point, "bucket_counts")
    ]
    return spans, measurements
