"""A task, sync or async, is one span and one duration; telemetry changes no outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agentkit.agent.agent import Agent
from agentkit.errors import RateLimitError
from tests.agent.fakes import FakeManager, HandClock, running_agent


class Observed:
    """An agent with its own providers, and what they saw."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.clock = HandClock()
        self.agent = running_agent(
            FakeManager(),
            clock=self.clock,
            tracer_provider=self.tracers,
            meter_provider=self.meters,
        )

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span

    def durations(self) -> list[Any]:
        data: Any = self.reader.get_metrics_data()
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == "gen_ai.invoke_agent.duration"
        assert metric.unit == "s"
        return list(metric.data.data_points)

    def child(self) -> None:
        """What a manager does: a span under whatever is current."""
        with self.tracers.get_tracer("manager").start_as_current_span("child"):
            pass

    async def achild(self) -> None:
        await asyncio.sleep(0)
        self.child()


@pytest.fixture
def seen() -> Iterator[Observed]:
    observed = Observed()
    yield observed
    observed.tracers.shutdown()
    observed.meters.shutdown()


def execute(agent: Agent, task: Callable[..., Any]) -> Any:
    return agent.execute_task(task)


def execute_inside_a_loop(agent: Agent, task: Callable[..., Any]) -> Any:
    async def main() -> Any:
        return agent.execute_task(task)

    return asyncio.run(main())


def aexecute(agent: Agent, task: Callable[..., Any]) -> Any:
    return asyncio.run(agent.aexecute_task(task))


each_way = pytest.mark.parametrize("run", [execute, execute_inside_a_loop, aexecute])


@each_way
@pytest.mark.parametrize("method", ["child", "achild"])
def test_spans_inside_a_task_nest_under_the_agents(
    seen: Observed, run: Callable[..., Any], method: str
) -> None:
    run(seen.agent, getattr(seen, method))
    spans = seen.spans()
    agents, child = spans["invoke_agent helper"], spans["child"]
    assert agents.context is not None
    assert child.parent is not None
    assert child.parent.span_id == agents.context.span_id
    assert agents.parent is None
    assert not trace.get_current_span().get_span_context().is_valid, "nothing stays current"


def test_a_span_says_who_did_what(seen: Observed) -> None:
    seen.agent.ask("canary-4711")
    span = seen.span()
    assert span.name == "invoke_agent helper"
    assert span.kind is SpanKind.INTERNAL
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "helper",
        "gen_ai.agent.id": seen.agent.id,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert "canary" not in span.to_json()


@each_way
@pytest.mark.parametrize(
    ("error", "error_type"),
    [(ValueError("canary-4711"), "_OTHER"), (RateLimitError("canary-4711"), "429")],
)
def test_a_failed_task_is_an_error_without_its_text(
    seen: Observed, run: Callable[..., Any], error: Exception, error_type: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        run(seen.agent, fail)
    span = seen.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert dict(span.attributes or {})["error.type"] == error_type
    (event,) = span.events
    assert dict(event.attributes or {}) == {"exception.type": type(error).__name__}
    assert "canary" not in span.to_json()
    (point,) = seen.durations()
    assert point.attributes == {"gen_ai.agent.name": "helper", "error.type": error_type}


def test_a_cancelled_task_is_not_an_error(seen: Observed) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(seen.agent.aexecute_task(asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen.span().status.status_code is StatusCode.UNSET
    assert "error.type" not in dict(seen.span().attributes or {})


def test_durations_are_the_clocks_in_the_conventions_buckets(seen: Observed) -> None:
    seen.agent.execute_task(seen.clock.pass_, 0.3)
    seen.agent.execute_task(seen.clock.pass_, 100.0)
    (point,) = seen.durations()
    assert point.attributes == {"gen_ai.agent.name": "helper"}
    assert point.count == 2
    assert point.sum == pytest.approx(100.3)
    assert point.explicit_bounds[0] == pytest.approx(0.1)
    assert point.explicit_bounds[-1] == pytest.approx(409.6)


class Broken:
    """A tracer, a span, a meter and an instrument in one, all of which fail."""

    def __init__(self, failing: str) -> None:
        self._failing = failing

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Broken:
            if name == self._failing:
                raise RuntimeError(f"{name} failed")
            return self

        return method


@each_way
@pytest.mark.parametrize(
    "failing",
    [
        "get_tracer",
        "get_meter",
        "create_histogram",
        "start_span",
        "record",
        "set_status",
        "set_attribute",
        "add_event",
        "end",
    ],
)
def test_no_fault_of_telemetry_changes_a_task(run: Callable[..., Any], failing: str) -> None:
    broken: Any = Broken(failing)
    agent = running_agent(tracer_provider=broken, meter_provider=broken)

    def fail() -> None:
        raise KeyError("mine")

    assert run(agent, lambda: "fine") == "fine"
    with pytest.raises(KeyError, match="mine"):
        run(agent, fail)
    assert agent.get_performance_metrics()["total_tasks"] == 2
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_context_that_cannot_be_entered_changes_no_task(
    seen: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(context: object) -> None:
        raise RuntimeError("attach failed")

    monkeypatch.setattr("opentelemetry.context.attach", refuse)
    assert seen.agent.execute_task(lambda: "fine") == "fine"
    assert seen.agent.get_performance_metrics()["successful_tasks"] == 1
