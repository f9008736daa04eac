"""The global providers of the application are used from the moment at which it sets them."""

from __future__ import annotations

import json

import pytest

from tests.programs import run

pytestmark = pytest.mark.processes

PROGRAM = """
import json
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from agentkit import LLMManager
from agentkit.telemetry import application

def known():
    return [application.has_tracer_provider(), application.has_meter_provider()]

def counted(name):
    data = reader.get_metrics_data()
    found = [] if data is None else [
        metric for resource in data.resource_metrics for scope in resource.scope_metrics
        for metric in scope.metrics if metric.name == name
    ]
    return sum(point.count for metric in found for point in metric.data.data_points)

exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
seen = {"before": known()}

with LLMManager(cache="memory") as llm:
    llm.register_model("m", lambda prompt, options: "fine", {"version": "1"})
    llm.complete("hi")
    trace.set_tracer_provider(tracers)
    seen["tracing"] = known()
    llm.complete("and now?")
    metrics.set_meter_provider(MeterProvider([reader]))
    seen["metering"] = known()
    llm.complete("and now?")
    llm.complete("once more?")
    seen["spans"] = [span.name for span in exporter.get_finished_spans()]
    seen["requests"] = counted("agentkit.generate.duration")
    seen["attempts"] = counted("gen_ai.client.operation.duration")
    seen["look-ups"] = counted("agentkit.cache.duration")
print(json.dumps(seen))
"""


def test_providers_that_are_set_after_the_first_call_get_what_follows() -> None:
    seen = json.loads(run(PROGRAM))
    assert seen["before"] == [False, False], "the API has other names: update `application`"
    assert (seen["tracing"], seen["metering"]) == ([True, False], [True, True])
    request = ["chat m", "agentkit.generate default"]
    assert seen["spans"] == [*request, request[1], *request]
    assert (seen["requests"], seen["attempts"], seen["look-ups"]) == (2, 1, 2)
