"""Spans and metrics on the console, as an exporter would send them. Requires the extra ``otel``."""

import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from agentkit import LLMManager, RetryPolicy, Telemetry

tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))
meters = MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stdout))])


def flaky(prompt: str, kwargs: dict) -> str:
    raise ConnectionError


def steady(prompt: str, kwargs: dict) -> str:
    return "fine"


telemetry = Telemetry(tracer_provider=tracers, meter_provider=meters)
retry = RetryPolicy(max_attempts=2, base_delay=0.01)
with LLMManager(telemetry=telemetry, retry=retry, cache="memory") as llm:
    llm.register_model("flaky", flaky, {"provider": "openai"})
    llm.register_model("steady", steady, {"provider": "anthropic"})
    llm.set_fallback_chain(["flaky", "steady"])
    print(llm.generate("How are you?"))

tracers.shutdown()
meters.shutdown()
