"""One ``invoke_agent`` span per task, one ``execute_tool`` span per tool call, and their durations.

A span is current while its task or tool runs, so that the spans these start are its children.
Where the manager's telemetry records content on spans, so do these: the messages of a run and its
answer, the arguments of a tool and its result. Events have no content of tools in the conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any, Final, NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider, NoOpMeter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from agentkit._version import __version__
from agentkit.errors import LLMError
from agentkit.telemetry import names as n
from agentkit.telemetry.otel import Telemetry
from agentkit.telemetry.safe import guarded
from agentkit.telemetry.spans import tracer_for
from agentkit.types import Request, Response, ToolCall, ToolSpec


class ActiveSpan(NamedTuple):
    """A current span, and the token that makes the previous one current again."""

    span: Span
    token: Token[Context]


_NO_SPAN: Final[ActiveSpan | None] = None
_NO_HISTOGRAM: Final[Histogram] = NoOpMeter(n.SCOPE).create_histogram(n.INVOKE_AGENT_DURATION.name)


class Exchanged(NamedTuple):
    """The prompt of a task, and its answer; None if there is none."""

    request: Request
    response: Response[Any] | None


class Operations:
    """The spans and durations of one kind of operation; a failure here never affects it.

    `kind` is that of OpenInference. `telemetry` says what spans may contain.
    """

    def __init__(
        self,
        duration: n.Metric,
        kind: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        telemetry: Telemetry,
    ) -> None:
        self._tracer = tracer_for(tracer_provider)
        self._duration = _histogram(meter_provider, duration)
        self._own = {n.SPAN_KIND: kind} if telemetry.openinference else {}
        self.capture = telemetry.capture()
        self.lists_content = telemetry.openinference and self.capture.on_spans

    @guarded(None)
    def describe(self, active: ActiveSpan | None, content: Callable[[], Mapping[str, Any]]) -> None:
        """Add `content` to a span, if spans may have content."""
        if active is not None and self.capture.on_spans and active.span.is_recording():
            active.span.set_attributes(content())

    @guarded(_NO_SPAN)
    def start(self, name: str, attributes: dict[str, str]) -> ActiveSpan | None:
        """Start a span and make it current here; None if that failed."""
        given = {**attributes, **self._own}
        span = self._tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=given)
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
        telemetry: Telemetry,
    ) -> None:
        self._operations = Operations(
            n.INVOKE_AGENT_DURATION, "AGENT", tracer_provider, meter_provider, telemetry
        )
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

    def end(
        self,
        active: ActiveSpan | None,
        seconds: float,
        error: BaseException | None,
        exchanged: Callable[[], Exchanged] | None = None,
    ) -> None:
        """Record the end of a task, with the error that it raised, if any."""
        if exchanged is not None:
            self._operations.describe(active, lambda: self._content(exchanged()))
        self._operations.end(active, self._labels, seconds, error)

    def _content(self, exchanged: Exchanged) -> Mapping[str, Any]:
        capture, lists = self._operations.capture, self._operations.lists_content
        request, response = exchanged
        found = capture.request(request) | (capture.input_text(request) if lists else {})
        if response is not None:
            found |= capture.response(response)
            found |= capture.output_text(response) if lists else {}
        return found


class Executions:
    """Records the spans and durations of the tools that one agent runs."""

    def __init__(
        self,
        agent: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        telemetry: Telemetry,
    ) -> None:
        self._operations = Operations(
            n.EXECUTE_TOOL_DURATION, "TOOL", tracer_provider, meter_provider, telemetry
        )
        self._labels = {n.AGENT_NAME: agent, n.TOOL_TYPE: "function"}

    def start(self, tool: ToolSpec, call: ToolCall) -> ActiveSpan | None:
        """Start the span of a call of `tool` and make it current here; None if that failed."""
        attributes = {
            **self._labels,
            n.OPERATION: n.EXECUTE_TOOL,
            n.TOOL_NAME: tool.name,
            n.TOOL_CALL_ID: call.id,
            n.TOOL_DESCRIPTION: tool.description,
        }
        span = self._operations.start(f"{n.EXECUTE_TOOL} {tool.name}", attributes)
        self._operations.describe(span, lambda: self._arguments(call))
        return span

    def end(
        self,
        active: ActiveSpan | None,
        tool: ToolSpec,
        seconds: float,
        error: BaseException | None,
        result: str | None,
    ) -> None:
        """Record the end of a call, with its error and the text that the model receives."""
        if result is not None:
            self._operations.describe(active, lambda: self._result(result))
        self._operations.end(active, {**self._labels, n.TOOL_NAME: tool.name}, seconds, error)

    def _arguments(self, call: ToolCall) -> Mapping[str, Any]:
        captured = self._operations.capture.tool_arguments(call)
        found = captured.as_attribute(n.TOOL_ARGUMENTS)
        if found and self._operations.lists_content:
            kind = n.PLAIN_TEXT if isinstance(captured.value, str) else n.JSON
            found |= captured.as_attribute(n.INPUT_VALUE) | {n.INPUT_TYPE: kind}
        return found

    def _result(self, text: str) -> Mapping[str, Any]:
        captured = self._operations.capture.text(text)
        found = captured.as_attribute(n.TOOL_RESULT)
        if found and self._operations.lists_content:
            found |= captured.as_attribute(n.OUTPUT_VALUE) | {n.OUTPUT_TYPE: n.PLAIN_TEXT}
        return found


def telemetry_of(manager: Any) -> Telemetry:
    """The telemetry of a manager; one that records no content if there is none."""
    found = getattr(manager, "telemetry", None)
    return found if isinstance(found, Telemetry) else Telemetry(content="none")


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
