"""The spans of a request and its attempts, with their events and metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_current_span,
    get_tracer,
    set_span_in_context,
)

from agentkit._version import __version__
from agentkit.providers.transport.instrumentation import RECORDED
from agentkit.telemetry import names as n
from agentkit.telemetry.capture import Capture
from agentkit.telemetry.deferred import Deferred
from agentkit.telemetry.metrics import Attributes, Instruments, ManagerLabels, ObservedManager
from agentkit.telemetry.outbox import OUTBOX
from agentkit.telemetry.recorder import Recorder
from agentkit.telemetry.safe import FailureLog, entering, guarded, recorded
from agentkit.types import Request, Response, Usage
from agentkit.types.ledger import CacheResult, Entry, Ledger
from agentkit.types.observer import AttemptObserver, CallObserver, CallOutcome, FallbackReason

log = logging.getLogger("agentkit.calls")

NO_SPAN: Span = INVALID_SPAN
_NO_TRACER: Tracer = NoOpTracer()
_RECORDED: Final = Context({RECORDED: True})
_CLIENT: Final = SpanKind.CLIENT  # to look it up takes as long as to call a function
_STARTS: Final = FailureLog("starting the span of an attempt")
_SCOPES: Final = FailureLog("making a span current")


@dataclass(frozen=True, slots=True)
class SpanSettings:
    """What the spans of one manager share."""

    manager: str
    tracer: Tracer
    instruments: Instruments
    observed: ObservedManager
    recorder: Recorder
    labels: ManagerLabels
    capture: Capture
    vocabulary: n.Vocabulary
    openinference: bool
    deferred: Deferred | None
    """Where measurements wait; None: they are recorded immediately."""
    lists_content: bool
    """Whether spans have the text that lists of OpenInference viewers show."""


_CallEnding: TypeAlias = tuple[CallOutcome, Ledger, Response[Any] | None, BaseException | None, int]
"""How a request ended, and when, in nanoseconds."""
_AttemptEnding: TypeAlias = tuple[Entry, Response[Any] | None, BaseException | None, int]
"""How an attempt ended, and when, in nanoseconds."""


class LateSpan(NamedTuple):
    """The span of a request that is written only if the span of one attempt does not suffice."""

    start: Callable[[Context, int, Sequence[Link]], Span]
    """Starts it in this context, at this time in nanoseconds, with these links."""
    began: int


class CallSpan(CallObserver):
    """The INTERNAL span of one request, which has no `gen_ai` attribute, and its metrics."""

    __slots__ = ("_around", "_attempts", "_context", "_first", "_late", "_settings", "_span")

    def __init__(
        self,
        settings: SpanSettings,
        span: Span,
        around: Context,
        context: Context | None,
        late: LateSpan | None = None,
    ) -> None:
        self._settings = settings
        self._span = span
        self._around = around
        """The context in which the request began."""
        self._attempts = 0
        self._late = late
        self._first: Span | None = None
        """The span of the first attempt, to which a late span of the request is linked."""
        self._context = context
        """The context of the spans of its attempts; None: they have none."""

    def attempt(
        self, model: str, provider: str, number: int, index: int, request: Request, model_id: str
    ) -> AttemptObserver:
        """Start the CLIENT span of one attempt, if the request has a span."""
        self._attempts += 1
        if self._late is not None and self._attempts > 1 and not OUTBOX.is_closed():
            self._start_late()
        settings, context = self._settings, self._context
        if context is None:
            return AttemptMetrics(settings, model_id)
        labels = settings.instruments.labels(provider, model, model_id)
        attributes = labels.of_span(number, index)
        if self._late is not None:
            attributes |= settings.labels.own
        span = NO_SPAN
        try:
            span = self._start(labels.title, context, attributes, request)
        except Exception as error:  # noqa: BLE001 - providers and processors are user code
            _STARTS.note(error)
        if span is NO_SPAN:
            return AttemptMetrics(settings, model_id)
        if self._late is not None:
            self._first = span
        return AttemptSpan(settings, labels.measured, span, self._around, request)

    @guarded(None)
    def _start_late(self) -> None:
        """Start the span of the request, as the span of one attempt does not suffice."""
        late, self._late = self._late, None
        if late is not None:
            links = () if self._first is None else (Link(self._first.get_span_context()),)
            self._span = late.start(self._around, late.began, links)
            self._context = context_of(self._span, self._around)

    def _start(
        self, title: str, context: Context, attributes: Attributes, request: Request
    ) -> Span:
        settings = self._settings
        if request.stream:
            attributes[n.REQUEST_STREAM] = True
        if request.params:
            for name, value in request.params.items():
                attribute = n.NUMBERS.get(name)
                if attribute and isinstance(value, int | float) and not isinstance(value, bool):
                    attributes[attribute] = value
        span = settings.tracer.start_span(title, context, _CLIENT, attributes)
        capture = settings.capture
        if capture.on_spans and span.is_recording():
            span.set_attributes(capture.request(request))
        if settings.lists_content and span.is_recording():
            span.set_attributes(capture.input_text(request))
        if settings.openinference:
            span.set_attribute(n.SPAN_KIND, "LLM")
        return span

    @recorded
    def retry(
        self,
        model: str,
        provider: str,
        number: int,
        delay: float,
        error: BaseException,
        reason: Literal["backoff", "retry_after", "next_key"],
    ) -> None:
        """Record that a retry is scheduled."""
        kind = error_type(error)
        log.info(
            "%s: %s; retry %d in %.1f s",
            model,
            type(error).__name__,
            number - 1,
            delay,
            extra={"model": model, "error_type": kind, "delay": delay, "reason": reason},
        )
        labels = {n.PROVIDER: n.provider_name(provider), n.MODEL: model}
        self._settings.instruments.retries.add(1, {**labels, n.ERROR_TYPE: kind})
        self._settings.instruments.retry_delay.record(delay, {**labels, n.RETRY_REASON: reason})
        self._event(
            n.RETRY_SCHEDULED,
            {
                n.MODEL: model,
                n.ATTEMPT_NUMBER: number,
                n.RETRY_DELAY: delay,
                n.ERROR_TYPE: kind,
                n.RETRY_REASON: reason,
            },
        )

    @recorded
    def fallback(self, source: str, to: str, reason: FallbackReason) -> None:
        """Record a fallback to the next model."""
        labels = {n.FALLBACK_FROM: source, n.FALLBACK_TO: to, n.FALLBACK_REASON: reason}
        self._settings.instruments.fallbacks.add(1, labels)
        self._event(n.FALLBACK, labels)
        log.warning(
            "%s falls back from %s to %s: %s",
            self._settings.manager,
            source,
            to,
            reason,
            extra={"fallback_from": source, "fallback_to": to, "reason": reason},
        )

    @recorded
    def skipped(self, entry: Entry) -> None:
        """Record a target that was skipped."""
        if entry.reason == "circuit_open":
            breaker = {n.BREAKER: f"{entry.provider}/{entry.model}"}
            self._settings.instruments.rejections.add(1, breaker)
            self._event(n.BREAKER_REJECTED, breaker)
        else:
            self._event(n.SKIPPED, {n.MODEL: entry.model, n.SKIP_REASON: entry.reason})

    @recorded
    def breaker_moved(self, model: str, provider: str, previous: str, state: str) -> None:
        """Add an event to the request's span; the metric is recorded elsewhere."""
        self._event(
            n.BREAKER_CHANGED,
            {
                n.BREAKER: f"{provider}/{model}",
                n.BREAKER_PREVIOUS: previous.replace("-", "_"),
                n.BREAKER_STATE: state.replace("-", "_"),
            },
        )

    def response_cache(self, model: str, result: CacheResult, seconds: float) -> None:
        """Record a look-up in the response cache."""
        if self._span is not NO_SPAN or self._settings.instruments.is_recording():
            self._record_look_up(model, result, seconds)

    @recorded
    def _record_look_up(self, model: str, result: CacheResult, seconds: float) -> None:
        settings, instruments = self._settings, self._settings.instruments
        try:
            if instruments.is_recording():
                _measure(settings, instruments.look_up, (result, seconds, settings.labels))
        finally:
            if self._span is not NO_SPAN:
                outcome = settings.labels.cache_results[result][n.CACHE_RESULT]
                self._event(n.CACHE, {n.MODEL: model, n.CACHE_RESULT: outcome})

    @recorded
    def waited(self, model: str, seconds: float, acquired: bool) -> None:
        """Record a wait for quota."""
        outcome = "acquired" if acquired else "rejected"
        labels = {n.MODEL: model, n.WAIT_OUTCOME: outcome}
        self._settings.instruments.waits.record(seconds, labels)
        if self._span is not NO_SPAN:
            self._event(n.WAITED, {**labels, n.WAIT_SECONDS: seconds})

    def end(
        self,
        outcome: CallOutcome,
        ledger: Ledger,
        response: Response[Any] | None,
        error: BaseException | None,
    ) -> None:
        """End the request's span and count the request."""
        settings = self._settings
        settings.observed.active.discard(self)
        settings.recorder.call(outcome)
        if self._has_span_to_end() or settings.instruments.is_recording():
            self._record_end((outcome, ledger, response, error, time.time_ns()))

    def _has_span_to_end(self) -> bool:
        return self._span is not NO_SPAN or (self._late is not None and self._attempts != 1)

    @entering
    def _record_end(self, ending: _CallEnding) -> None:
        outcome, ledger, _response, error, _ended = ending
        settings, instruments = self._settings, self._settings.instruments
        try:
            if instruments.is_recording():
                kind = error_type(error) if outcome == "error" else None
                measured = (outcome, self._attempts, ledger.duration, kind, settings.labels)
                _measure(settings, instruments.request, measured)
        finally:
            if self._has_span_to_end():
                self._end_span(ending)

    def _end_span(self, ending: _CallEnding) -> None:
        outcome, ledger, response, error, ended = ending
        if self._late is not None:
            self._start_late()
        settings, span = self._settings, self._span
        try:
            attributes: Attributes = {n.OUTCOME: outcome, n.ATTEMPTS: self._attempts}
            if settings.openinference:
                attributes[n.SPAN_KIND] = "CHAIN"
            if ledger.cache != "off":
                results = settings.labels.cache_results
                attributes[n.CACHE_RESULT] = results[ledger.cache][n.CACHE_RESULT]
            if response is not None:
                attributes[n.SELECTED_MODEL] = response.model
                attributes[n.SELECTED_PROVIDER] = response.provider
                if settings.lists_content:
                    attributes |= settings.capture.output_text(response)
            if self._attempts and (cost := ledger.cost) is not None:
                attributes[n.REQUEST_COST] = cost
            span.set_attributes(attributes)
            if outcome == "error" and error is not None:
                _mark_failed(span, error, settings.capture)
        finally:
            span.end(ended)

    def _event(self, name: str, attributes: Attributes) -> None:
        if self._late is not None:
            self._start_late()
        if self._span is not NO_SPAN:
            present = {key: value for key, value in attributes.items() if value is not None}
            self._span.add_event(name, present)


class AttemptMetrics(AttemptObserver):
    """The share of one attempt in the metrics of its model."""

    __slots__ = ("_model_id", "_settings")

    def __init__(self, settings: SpanSettings, model_id: str) -> None:
        self._settings = settings
        self._model_id = model_id

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        """Count the attempt."""
        self._settings.recorder.attempt(entry)
        if self._settings.instruments.is_recording():
            self._record((entry, response, error))
        _log_attempt(entry)

    @entering
    def _record(self, settled: tuple[Entry, Response[Any] | None, BaseException | None]) -> None:
        entry, response, error = settled
        labels = self._settings.instruments.labels(entry.provider, entry.model, self._model_id)
        measured = (entry, labels.measured, _usage_of(response, error))
        _measure(self._settings, self._settings.instruments.attempt, measured)


class AttemptSpan(AttemptObserver):
    """The CLIENT span of one attempt, and its share in the metrics of its model."""

    __slots__ = ("_around", "_inside", "_labels", "_request", "_settings", "_span")

    def __init__(
        self,
        settings: SpanSettings,
        labels: Attributes,
        span: Span,
        around: Context,
        request: Request,
    ) -> None:
        self._settings = settings
        self._labels = labels
        """The attributes of the model's measurements."""
        self._span = span
        self._around = around
        """The context in which the request began."""
        self._request = request
        self._inside: Context | None = None
        """The context in which the attempt runs, once it is made."""

    def scope(self) -> AbstractContextManager[object] | None:
        """Make the attempt's span current during one step."""
        try:
            if self._inside is None:
                self._inside = set_span_in_context(self._span, _suppressed(self._around))
            return _Scope(self._inside)
        except Exception as error:  # noqa: BLE001 - what suppresses other instrumentations is theirs
            _SCOPES.note(error)
            return None

    def end(
        self, entry: Entry, response: Response[Any] | None, error: BaseException | None
    ) -> None:
        """Count the attempt and end its span."""
        self._settings.recorder.attempt(entry)
        self._record_end((entry, response, error, time.time_ns()))
        _log_attempt(entry)

    @entering
    def _record_end(self, ending: _AttemptEnding) -> None:
        entry, response, error, _ended = ending
        settings = self._settings
        usage = _usage_of(response, error)
        try:
            if settings.instruments.is_recording():
                _measure(settings, settings.instruments.attempt, (entry, self._labels, usage))
        finally:
            self._end_span(ending, usage)

    def _end_span(self, ending: _AttemptEnding, usage: Usage | None) -> None:
        entry, response, error, ended = ending
        span, settings = self._span, self._settings
        try:
            outcome = entry.outcome
            attributes: Attributes = {n.ATTEMPT_OUTCOME: outcome}
            if outcome != "success" and (reason := entry.reason) is not None:
                attributes[n.ATTEMPT_REASON] = reason
                if reason == "closed_early":
                    attributes[n.STREAM_ABORTED] = True
            if (first_token := entry.first_token) is not None:
                attributes[n.TIME_TO_FIRST_CHUNK] = first_token
            if (cost := entry.cost) is not None:
                attributes[n.COST] = cost
                attributes[n.COST_ESTIMATED] = entry.cost_estimated
            if usage is not None:
                self._describe(usage, response, attributes)
            _set_attributes(span, attributes)
            if settings.capture.enabled and span.is_recording():
                self._capture(response)
            if outcome == "failure" and error is not None:
                _mark_failed(span, error, settings.capture)
        finally:
            span.end(ended)

    def _describe(
        self, usage: Usage, response: Response[Any] | None, attributes: Attributes
    ) -> None:
        if usage.input_tokens or usage.output_tokens:
            attributes[n.INPUT_TOKENS] = usage.input_tokens
            attributes[n.OUTPUT_TOKENS] = usage.output_tokens
        if usage.cache_read_tokens:
            attributes[n.CACHE_READ_TOKENS] = usage.cache_read_tokens
        if usage.cache_write_tokens:
            for name in self._settings.vocabulary.cache_write:
                attributes[name] = usage.cache_write_tokens
        if usage.reasoning_tokens:
            attributes[n.REASONING_TOKENS] = usage.reasoning_tokens
        if response is None:
            return
        if response.model_id is not None:
            attributes[n.RESPONSE_MODEL] = response.model_id
        if response.response_id is not None:
            attributes[n.RESPONSE_ID] = response.response_id
        if response.finish_reason is not None:
            attributes[n.FINISH_REASONS] = [response.finish_reason]

    def _capture(self, response: Response[Any] | None) -> None:
        capture, span = self._settings.capture, self._span
        output = {}
        if response is not None:
            output = capture.response(response)
            if self._settings.lists_content:
                span.set_attributes(capture.output_text(response))
        if capture.on_spans:
            span.set_attributes(output)
        if capture.on_events:
            span.add_event(n.DETAILS, capture.request(self._request) | output)


def _usage_of(response: Response[Any] | None, error: BaseException | None) -> Usage | None:
    if response is not None:
        return response.usage
    return None if error is None else getattr(error, "usage", None)


def _measure(
    settings: SpanSettings, record: Callable[..., None], measured: tuple[Any, ...]
) -> None:
    """Call ``record(*measured)``, immediately or at the next collection."""
    if settings.deferred is None:
        record(*measured)
    else:
        settings.deferred.add(record, measured)


def _set_attributes(span: Span, attributes: Attributes) -> None:
    """Set all of them. An SDK takes twice as long for a mapping of one as for that one."""
    if len(attributes) > 2:
        span.set_attributes(attributes)
    else:
        for name, value in attributes.items():
            span.set_attribute(name, value)


def _log_attempt(entry: Entry) -> None:
    if log.isEnabledFor(logging.DEBUG):
        kind = entry.error_type and n.listed(entry.error_type)
        log.debug(
            "%s attempt %d: %s after %.3f s",
            entry.model,
            entry.number,
            entry.outcome,
            entry.duration,
            extra={"model": entry.model, "error_type": kind},
        )


@guarded(_NO_TRACER)
def tracer_for(provider: TracerProvider | None) -> Tracer:
    """The tracer of `provider` (default: the global one); a no-op tracer if it raises."""
    return get_tracer(n.SCOPE, __version__, provider)


class _Scope:
    """Makes a context current; entered and exited in the same step, never across a yield."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        try:
            self._token = otel_context.attach(self._context)
        except Exception as error:  # noqa: BLE001 - an application may bring its own contexts
            _SCOPES.note(error)

    def __exit__(self, _kind: object, _raised: object, _trace: object) -> None:
        try:
            if self._token is not None:
                otel_context.detach(self._token)
        except Exception as error:  # noqa: BLE001 - as above
            _SCOPES.note(error)


def context_of(span: Span, around: Context) -> Context | None:
    """The context inside `span`, even if it is not sampled: its children must not start traces.

    None if nothing records spans: a no-op tracer returns the span `around`, or an invalid one.
    """
    if not span.is_recording():
        own = span.get_span_context()
        if not own.is_valid or own == get_current_span(around).get_span_context():
            return None
    return set_span_in_context(span, around)


def error_type(error: BaseException | None) -> str:
    """The ``error.type`` of an error: its status if it has one, else the type it names itself."""
    status = getattr(error, "status", None)
    return n.listed(str(status) if status else getattr(error, "error_type", None))


def _mark_failed(span: Span, error: BaseException, capture: Capture) -> None:
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute(n.ERROR_TYPE, error_type(error))
    attributes: Attributes = {n.EXCEPTION_TYPE: type(error).__name__}
    if capture.enabled:
        attributes |= capture.text(str(error)).as_attribute(n.EXCEPTION_MESSAGE)
    span.add_event(n.EXCEPTION, attributes)


def _suppressed(around: Context) -> Context:
    """`around` with the keys that stop other GenAI instrumentations from recording the call.

    They are those of OpenTelemetry's own instrumentations and of OpenLLMetry's. The key that stops
    every instrumentation is left to the providers: whatever a callable uses keeps its spans.
    """
    key, data = _suppression()
    if key is None or data is None:
        return Context({**around, RECORDED: True}) if around else _RECORDED
    return Context({**around, RECORDED: True, key: data()})


@cache
def _suppression() -> tuple[str | None, Callable[[], Any] | None]:
    try:
        from opentelemetry.util.genai import invocation  # type: ignore[import-not-found]
    except ImportError:
        return None, None
    key = getattr(invocation, "CLIENT_INFERENCE_CONTEXT_KEY", None)
    return key, getattr(invocation, "InferenceData", None)
