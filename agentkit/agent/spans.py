"""One ``invoke_agent`` span per task, one ``execute_tool`` span per tool call, and their durations.

A span is current while its task or tool runs, so that the spans these start are its children.
Arguments and results of tools are never recorded here; the messages on the manager's spans contain
them where content capture is on.
"""

from __future__ import annotations

from contextvars import Token
from typing import Final, NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider, NoOpMeter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from agentkit._version import __version__
from agentkit.errors import LLMError
from agentkit.telemetry import names as n
from agentkit.telemetry.safe import guarded
from agentkit.telemetry.spans import tracer_for
from agentkit.types import ToolSpec


class ActiveSpan(NamedTuple):
    """A current span, and the token that makes the previous one current again."""

    span: Span
    token: Token[Context]


_NO_SPAN: Final[ActiveSpan | None] = None
_NO_HISTOGRAM: Final[Histogram] = NoOpMeter(n.SCOPE).create_histogram(n.INVOKE_AGENT_DURATION.name)


class Operations:
    """The spans and durations of one kind of operation; a failure here never affects it."""

    def __init__(
        self,
        duration: n.Metric,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._tracer = tracer_for(tracer_provider)
        self._duration = _histogram(meter_provider, duration)

    @guarded(_NO_SPAN)
    def start(self, name: str, attributes: dict[str, str]) -> ActiveSpan | None:
        """Start a span and make it current here; None if that failed."""
        span = self._tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes)
        return ActiveSpan(span, context.attach(trace.set_span_in_context(span)))

    @guarded(None)
    def suspend(self, active: ActiveSpan) -> None:
        """Make the previous span current again, until `resume`."""
        context.detach(active.token)

    @guarded(_NO_SPAN)
    def resume(self, active: ActiveSpan) -> ActiveSpan | None:
        """Make a suspended span current here."""
        return ActiveSpan(active.span, context.attach(trace.set_span_in_context(active.span)))

    def end(
        self,
        active: ActiveSpan | None,
        labels: dict[str, str],
        seconds: float,
        error: BaseException | None,
    ) -> None:
        """Record the end; an interruption (not an `Exception`) is not a failure.

        ``error.type`` is that of an agentkit error, and ``_OTHER`` for any other exception, whose
        class is recorded as an event. The text of an exception is never recorded.
        """
        failure = error if isinstance(error, Exception) else None
        self._record(labels, seconds, failure)
        if active is not None:
            context.detach(active.token)
            self._mark(active.span, failure)
            self._end_span(active.span)

    @guarded(None)
    def _record(self, labels: dict[str, str], seconds: float, failure: Exception | None) -> None:
        if failure is not None:
            labels = {**labels, n.ERROR_TYPE: _error_type(failure)}
        self._duration.record(seconds, labels)

    @guarded(None)
    def _mark(self, span: Span, failure: Exception | None) -> None:
        if failure is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute(n.ERROR_TYPE, _error_type(failure))
            span.add_event(n.EXCEPTION, {n.EXCEPTION_TYPE: type(failure).__qualname__})

    @guarded(None)
    def _end_span(self, span: Span) -> None:
        span.end()


class Invocations:
    """Records the spans and durations of one agent's tasks."""

    def __init__(
        self,
        name: str,
        agent_id: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._operations = Operations(n.INVOKE_AGENT_DURATION, tracer_provider, meter_provider)
        self._span_name = f"{n.INVOKE_AGENT} {name}"
        self._labels = {n.AGENT_NAME: name}
        self._attributes = {**self._labels, n.OPERATION: n.INVOKE_AGENT, n.AGENT_ID: agent_id}

    def start(self) -> ActiveSpan | None:
        """Start the span of a task and make it current here; None if that failed."""
        return self._operations.start(self._span_name, self._attributes)

    def suspend(self, active: ActiveSpan) -> None:
        """Make the previous span current again, until `resume`."""
        self._operations.suspend(active)

    def resume(self, active: ActiveSpan) -> ActiveSpan | None:
        """Make the span of a suspended task current here; None if that failed."""
        return self._operations.resume(active)

    def end(self, active: ActiveSpan | None, seconds: float, error: BaseException | None) -> None:
        """Record the end of a task, with the error that it raised, if any."""
        self._operations.end(active, self._labels, seconds, error)


class Executions:
    """Records the spans and durations of the tools that one agent runs."""

    def __init__(
        self,
        agent: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._operations = Operations(n.EXECUTE_TOOL_DURATION, tracer_provider, meter_provider)
        self._labels = {n.AGENT_NAME: agent, n.TOOL_TYPE: "function"}

    def start(self, tool: ToolSpec, call_id: str) -> ActiveSpan | None:
        """Start the span of a call of `tool` and make it current here; None if that failed."""
        attributes = {
            **self._labels,
            n.OPERATION: n.EXECUTE_TOOL,
            n.TOOL_NAME: tool.name,
            n.TOOL_CALL_ID: call_id,
            n.TOOL_DESCRIPTION: tool.description,
        }
        return self._operations.start(f"{n.EXECUTE_TOOL} {tool.name}", attributes)

    def end(
        self, active: ActiveSpan | None, tool: ToolSpec, seconds: float, error: BaseException | None
    ) -> None:
        """Record the end of a call, with the error that is returned to the model, if any."""
        self._operations.end(active, {**self._labels, n.TOOL_NAME: tool.name}, seconds, error)


def _error_type(error: Exception) -> str:
    return error.error_type if isinstance(error, LLMError) else LLMError.error_type


@guarded(_NO_HISTOGRAM)
def _histogram(provider: MeterProvider | None, metric: n.Metric) -> Histogram:
    return metrics.get_meter(n.SCOPE, __version__, provider).create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=n.AGENT_SECONDS,
    )
