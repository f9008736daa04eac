"""One ``invoke_agent`` span and one duration a task, through the OpenTelemetry API.

The span is current while the task runs, so that the manager's spans nest under it. Names follow
the GenAI conventions of OpenTelemetry (v1.41, development).
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
from agentkit.telemetry.guard import guarded

SCOPE: Final = "agentkit"
INVOKE_AGENT: Final = "invoke_agent"
OPERATION: Final = "gen_ai.operation.name"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_ID: Final = "gen_ai.agent.id"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
SECONDS: Final = tuple(0.1 * 2**power for power in range(13))
"""Bucket boundaries of the duration, from the conventions: 0.1 to 409.6 s."""


class Opened(NamedTuple):
    """A span under way, and what makes the one before it current again."""

    span: Span
    token: Token[Context]


_NOT_OPENED: Final[Opened | None] = None
_NO_TRACER: Final[Tracer] = NoOpTracer()
_NO_HISTOGRAM: Final[Histogram] = NoOpMeter(SCOPE).create_histogram(INVOKE_AGENT_DURATION)


class Invocations:
    """Writes the spans and durations of one agent; whatever fails here changes no task."""

    def __init__(
        self,
        name: str,
        agent_id: str,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
    ) -> None:
        self._span_name = f"{INVOKE_AGENT} {name}"
        self._attributes = {OPERATION: INVOKE_AGENT, AGENT_NAME: name, AGENT_ID: agent_id}
        self._labels = {AGENT_NAME: name}
        self._tracer = _tracer(tracer_provider)
        self._duration = _histogram(meter_provider)

    @guarded(_NOT_OPENED)
    def begin(self) -> Opened | None:
        """Open a span and make it current here; None when that failed."""
        span = self._tracer.start_span(
            self._span_name, kind=SpanKind.INTERNAL, attributes=self._attributes
        )
        return Opened(span, context.attach(trace.set_span_in_context(span)))

    def end(self, opened: Opened | None, seconds: float, error: BaseException | None) -> None:
        """The task ended; an interruption (no `Exception`) is no failure and marks nothing.

        ``error.type`` is an agentkit error's own, ``_OTHER`` for any other; the class of the
        exception is an event. No text of an exception is written.
        """
        failure = error if isinstance(error, Exception) else None
        self._measure(seconds, failure)
        if opened is not None:
            context.detach(opened.token)
            self._settle(opened.span, failure)
            self._end(opened.span)

    @guarded(None)
    def _measure(self, seconds: float, failure: Exception | None) -> None:
        labels = self._labels
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


def _error_type(error: Exception) -> str:
    return error.error_type if isinstance(error, LLMError) else LLMError.error_type


@guarded(_NO_TRACER)
def _tracer(provider: TracerProvider | None) -> Tracer:
    return trace.get_tracer(SCOPE, __version__, provider)


@guarded(_NO_HISTOGRAM)
def _histogram(provider: MeterProvider | None) -> Histogram:
    return metrics.get_meter(SCOPE, __version__, provider).create_histogram(
        INVOKE_AGENT_DURATION,
        unit="s",
        description="Duration of one task of an agent",
        explicit_bucket_boundaries_advisory=SECONDS,
    )
