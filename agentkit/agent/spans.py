"""One ``invoke_agent`` span a task and one ``execute_tool`` span a tool call, each with a duration.

A span is current while its task or tool runs, so that what these start nests under it. Names
follow the GenAI conventions of OpenTelemetry (v1.41, development). Arguments and results of tools
are never written; the messages of the manager's spans hold them where content is on.
"""

from __future__ import annotations

from contextvars import Token
from typing import Final, NamedTuple

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider, NoOpMeter
from opentelemetry.trace import NoOpTracer, Span, SpanKind, StatusCode, Tracer, TracerProvider

from agentkit._version import __version__
from agentkit.errors import LLMError
from agentkit.telemetry.safe import guarded
from agentkit.types import ToolSpec

SCOPE: Final = "agentkit"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
OPERATION: Final = "gen_ai.operation.name"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_ID: Final = "gen_ai.agent.id"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
EXECUTE_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
SECONDS: Final = tuple(0.1 * 2**power for power in range(13))
"""Bucket boundaries of the duration, from the conventions: 0.1 to 409.6 s."""


class Opened(NamedTuple):
    """A span under way, and what makes the one before it current again."""

    span: Span
    token: Token[Context]


_NOT_OPENED: Final[Opened | None] = None
_NO_TRACER: Final[Tracer] = NoOpTracer()
_NO_HISTOGRAM: Final[Histogram] = NoOpMeter(SCOPE).create_histogram(INVOKE_AGENT_DURATION)


class _Operations:
    """Spans and durations of one kind; whatever fails here changes no task and no tool."""

    def __init__(
        self,
        metric: str,
        description: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._tracer = _tracer(tracer_provider)
        self._duration = _histogram(meter_provider, metric, description)

    @guarded(_NOT_OPENED)
    def _open(self, name: str, attributes: dict[str, str]) -> Opened | None:
        span = self._tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes)
        return Opened(span, context.attach(trace.set_span_in_context(span)))

    def _close(
        self,
        opened: Opened | None,
        labels: dict[str, str],
        seconds: float,
        error: BaseException | None,
    ) -> None:
        failure = error if isinstance(error, Exception) else None
        self._measure(labels, seconds, failure)
        if opened is not None:
            context.detach(opened.token)
            self._settle(opened.span, failure)
            self._end(opened.span)

    @guarded(None)
    def _measure(self, labels: dict[str, str], seconds: float, failure: Exception | None) -> None:
        if failure is not None:
            labels = {**labels, ERROR_TYPE: _error_type(failure)}
        self._duration.record(seconds, labels)

    @guarded(None)
    def _settle(self, span: Span, failure: Exception | None) -> None:
        if failure is not None:
            span.set_status(StatusCode.ERROR)
            span.set_attribute(ERROR_TYPE, _error_type(failure))
            span.add_event(EXCEPTION, {EXCEPTION_TYPE: type(failure).__qualname__})

    @guarded(None)
    def _end(self, span: Span) -> None:
        span.end()


class Invocations(_Operations):
    """Writes the spans and durations of one agent's tasks."""

    def __init__(
        self,
        name: str,
        agent_id: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        super().__init__(
            INVOKE_AGENT_DURATION, "Duration of one task of an agent",
            tracer_provider, meter_provider,
        )  # fmt: skip
        self._span_name = f"{INVOKE_AGENT} {name}"
        self._attributes = {OPERATION: INVOKE_AGENT, AGENT_NAME: name, AGENT_ID: agent_id}
        self._labels = {AGENT_NAME: name}

    def begin(self) -> Opened | None:
        """Open a span and make it current here; None when that failed."""
        return self._open(self._span_name, self._attributes)

    def end(self, opened: Opened | None, seconds: float, error: BaseException | None) -> None:
        """The task ended; an interruption (no `Exception`) is no failure and marks nothing.

        ``error.type`` is an agentkit error's own, ``_OTHER`` for any other; the class of the
        exception is an event. No text of an exception is written.
        """
        self._close(opened, self._labels, seconds, error)


class Executions(_Operations):
    """Writes the spans and durations of the tools that one agent runs."""

    def __init__(
        self,
        agent: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        super().__init__(
            EXECUTE_TOOL_DURATION, "Duration of one tool call", tracer_provider, meter_provider
        )
        self._labels = {AGENT_NAME: agent, TOOL_TYPE: "function"}

    def begin(self, tool: ToolSpec, call_id: str) -> Opened | None:
        """Open a span for a call of `tool` and make it current here; None when that failed."""
        attributes = {
            **self._labels, OPERATION: EXECUTE_TOOL, TOOL_NAME: tool.name, TOOL_CALL_ID: call_id,
            TOOL_DESCRIPTION: tool.description,
        }  # fmt: skip
        return self._open(f"{EXECUTE_TOOL} {tool.name}", attributes)

    def end(
        self, opened: Opened | None, tool: ToolSpec, seconds: float, error: BaseException | None
    ) -> None:
        """The call ended, with the error that goes back to the model, if any."""
        self._close(opened, {**self._labels, TOOL_NAME: tool.name}, seconds, error)


def _error_type(error: Exception) -> str:
    return error.error_type if isinstance(error, LLMError) else LLMError.error_type


@guarded(_NO_TRACER)
def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer(SCOPE, __version__, provider)


@guarded(_NO_HISTOGRAM)
def _histogram(provider: MeterProvider | None, name: str, description: str) -> Histogram:
    return metrics.get_meter(SCOPE, __version__, provider).create_histogram(
        name,
        unit="s",
        description=description,
        explicit_bucket_boundaries_advisory=SECONDS,
    )
