"""Whatever fails in telemetry, a call gives what it would have given without."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext

from agentkit import errors as e
from agentkit.manager.manager import LLMManager
from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker
from agentkit.policy.retry import RetryPolicy
from agentkit.telemetry.otel import Telemetry
from agentkit.telemetry.safe import guarded
from agentkit.testing import FakeClock, ScriptedModel, overloaded
from agentkit.types import Response, Usage
from tests.helpers import agenerate, astream, generate, stream
from tests.telemetry.observing import Observed, attributes, events

ANSWER: Response[Any] = Response("fine", Usage(2, 3), finish_reason="stop")


class Broken(NonRecordingSpan):
    """Every OpenTelemetry object in one; the methods named `failing` raise, all others do not."""

    def __init__(self, *failing: str) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self.failing = failing

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "failing":
            return super().__getattribute__(name)

        def method(*args: Any, **kwargs: Any) -> Any:
            if name in self.failing or "everything" in self.failing:
                raise RuntimeError(f"{name} failed")
            if name == "get_span_context":
                return SpanContext(1, 1, is_remote=False)
            return self

        return method


class BrokenProcessor(SpanProcessor):
    def on_start(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("on_start failed")

    def on_end(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("on_end failed")


class BrokenExporter(SpanExporter):
    def export(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("export failed")


def raising_listener(*_: str) -> None:
    raise RuntimeError("listener failed")


def processing(processor: SpanProcessor) -> dict[str, Any]:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(processor)
    return {"tracer_provider": tracers}


def sabotage() -> Iterator[Any]:
    yield pytest.param(lambda: processing(BrokenProcessor()), id="processor")
    yield pytest.param(lambda: processing(SimpleSpanProcessor(BrokenExporter())), id="exporter")
    for name in (
        "everything",
        "get_tracer",
        "start_span",
        "is_recording",
        "get_span_context",
        "set_attribute",
        "set_attributes",
        "add_event",
        "set_status",
        "end",
        "get_meter",
        "create_counter",
        "create_histogram",
        "create_observable_gauge",
        "create_up_down_counter",
        "create_observable_up_down_counter",
        "add",
        "record",
    ):
        broken: Callable[[str], dict[str, Any]] = lambda name: {  # noqa: E731
            "tracer_provider": Broken(name),
            "meter_provider": Broken(name),
        }
        yield pytest.param(lambda name=name, broken=broken: broken(name), id=name)


@contextmanager
def managing(telemetry: dict[str, Any]) -> Iterator[LLMManager]:
    """A manager whose first request goes through failure, retry, an opening breaker, fallback."""
    settings: Any = {"content": "both", "openinference": True, **telemetry}
    with LLMManager(
        cache="memory",
        retry=RetryPolicy(max_attempts=2, jitter=0.0),
        breaker=BreakerPolicy(failure_threshold=2, listeners=(raising_listener,)),
        clock=FakeClock(),
        telemetry=Telemetry(**settings),
    ) as llm:
        llm.register_model("a", ScriptedModel(then=overloaded()), {"version": "1"})
        llm.register_model("b", ScriptedModel(ANSWER, then=overloaded()), {"version": "1"})
        llm.set_fallback_chain(["a", "b"])
        yield llm


@pytest.mark.parametrize("ask", [generate, agenerate, stream, astream])
@pytest.mark.parametrize("telemetry", list(sabotage()))
def test_no_fault_of_telemetry_changes_a_call(
    ask: Callable[[LLMManager, str], str], telemetry: Callable[[], dict[str, Any]]
) -> None:
    with managing(telemetry()) as llm:
        assert ask(llm, "hi") == "fine"
        assert ask(llm, "hi") == "fine", "from the response cache"
        with pytest.raises(e.AllModelsFailedError) as caught:
            ask(llm, "again")
        kinds = {type(cause) for cause in caught.value.exceptions}
        assert kinds == {e.CircuitOpenError, e.OverloadedError}
        metrics = llm.get_metrics()
        assert metrics["total_requests"] == 3
        assert metrics["failed_requests"] == metrics["cache_hits"] == 1
        assert metrics["total_tokens"] == 5
        assert llm.get_model_info("a")["stats"]["failures"] == 2
        assert llm.get_model_info("a")["circuit_breaker_state"] == "open"


@pytest.mark.parametrize("telemetry", list(sabotage()))
def test_nor_a_stream_that_is_left_early(telemetry: Callable[[], dict[str, Any]]) -> None:
    with managing(telemetry()) as llm:
        llm.register_model("c", ScriptedModel("one two").as_stream())
        with llm.stream("hi", model="c", use_cache=False) as pieces:
            assert next(pieces) == "one"
        assert llm.get_model_info("c")["stats"]["requests"] == 1


class Unreadable(CircuitBreaker):
    def statistics(self) -> Any:
        raise RuntimeError("unreadable")


def test_breakers_that_cannot_be_read_lose_their_gauges_only() -> None:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with managing({"meter_provider": meters}) as llm:
        llm.register_model("broken", lambda prompt, kwargs: "", breaker=Unreadable())
        data: Any = reader.get_metrics_data()
        names = {
            metric.name
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.data.data_points
        }
        assert "agentkit.circuit_breaker.state" not in names
        assert "agentkit.generate.active" in names
    meters.shutdown()


def test_a_fault_is_logged_once_and_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    @guarded(0)
    def write(what: str) -> int:
        if what == "fine":
            return 1
        raise ValueError(what)

    assert [write("canary"), write("fine"), write("canary")] == [0, 1, 0]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "ValueError" in record.getMessage()
    assert "canary" not in str(vars(record))


def test_an_exit_is_not_a_failure_of_telemetry() -> None:
    @guarded(None)
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()


@pytest.mark.parametrize("ask", [generate, agenerate])
def test_a_measurement_that_fails_leaves_no_span_open(
    seen: Observed, ask: Callable[[LLMManager, str], str]
) -> None:
    broken: Any = Broken("record", "add")
    telemetry = Telemetry(tracer_provider=seen.tracers, meter_provider=broken)
    llm = seen.manager(("a", ScriptedModel(ANSWER)), telemetry=telemetry, cache="memory")
    assert ask(llm, "hi") == ask(llm, "hi") == "fine"
    assert [span.name for span in seen.spans] == [
        "agentkit.generate default",
        "chat a",
        "agentkit.generate default",
    ]
    outcomes = [attributes(span)["agentkit.outcome"] for span in seen.named("agentkit.generate")]
    assert outcomes == ["success", "cache_hit"]
    assert all([name for name, _ in events(span)] for span in seen.named("agentkit.generate"))
