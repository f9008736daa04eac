"""Telemetry through the OpenTelemetry API: its settings, and the observer of a manager.

The same observer feeds the in-process `Recorder`, so that users without OpenTelemetry see the
same numbers. Every entry point is guarded: telemetry never changes the outcome of a call.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from opentelemetry.context import Context, get_current
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, TracerProvider

from agentkit.errors import ConfigurationError
from agentkit.policy.validation import whole_number
from agentkit.telemetry import names as n
from agentkit.telemetry.application import has_tracer_provider
from agentkit.telemetry.capture import Capture, ContentMode, Redactor, mode_of
from agentkit.telemetry.metrics import (
    Attributes,
    Breakers,
    FleetState,
    ManagerLabels,
    ObservedManager,
    instruments_for,
)
from agentkit.telemetry.outbox import OUTBOX
from agentkit.telemetry.recorder import Recorder
from agentkit.telemetry.safe import FailureLog, recorded
from agentkit.telemetry.spans import (
    NO_SPAN,
    CallSpan,
    LateSpan,
    SpanSettings,
    context_of,
    tracer_for,
)
from agentkit.types import Request
from agentkit.types.observer import CallObserver, Observer

log = logging.getLogger("agentkit.breaker")

_NOWHERE: Final = Context()
_INTERNAL: Final = SpanKind.INTERNAL  # to look it up takes as long as to call a function


def _no_fleet() -> None:
    return None


@dataclass(frozen=True)
class Telemetry:
    """Where spans and metrics go, and what they may contain.

    Args:
        tracer_provider: where spans go (default: the application's global provider).
        meter_provider: where metrics go (default: the application's global provider).
        content: where prompts and responses are recorded: ``"none"``, ``"span"``, ``"event"`` or
            ``"both"`` (default: the environment variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``, else ``"none"``). If ``"none"``
            is set in either place, error messages do not contain the text of your exceptions.
        redactor: receives every text before it is recorded, and returns the text to record.
        max_content_chars: maximum length of a recorded text, in characters (default 8,192).
        profile: version of the GenAI conventions: ``"v1.41"`` (default), ``"next"`` or ``"both"``.
        openinference: also write the OpenInference attributes that some trace viewers read.
        spans: ``"request"`` (default) writes a span for each request, and inside it one for each
            attempt. ``"attempt"`` writes only the span of the attempt if there was only one.
        defer_metrics: whether the measurements of requests and attempts wait in memory until the
            SDK collects them (default False: they are recorded in the caller's thread). None is
            lost: if 4,096 wait, the next caller records them. They have no exemplars.

    Raises:
        ConfigurationError: the profile, content mode or `spans` is unknown, or the maximum is below
            1.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    content: ContentMode | None = None
    redactor: Redactor | None = None
    max_content_chars: int = 8192
    profile: n.Profile = "v1.41"
    openinference: bool = False
    spans: Literal["request", "attempt"] = "request"
    defer_metrics: bool = False

    def __post_init__(self) -> None:
        mode_of(self.content)
        whole_number("max_content_chars", self.max_content_chars)
        if self.profile not in n.VOCABULARIES:
            raise ConfigurationError(
                f"profile={self.profile!r} is unknown", hint="use 'v1.41', 'next' or 'both'"
            )
        if self.spans not in ("request", "attempt"):
            raise ConfigurationError(
                f"spans={self.spans!r} is unknown", hint="use 'request' or 'attempt'"
            )

    def capture(self) -> Capture:
        """What records content, under these settings."""
        return Capture(mode_of(self.content), self.redactor, self.max_content_chars)

    def observer(
        self,
        manager: str,
        recorder: Recorder,
        breakers: Breakers,
        fleet: FleetState = _no_fleet,
    ) -> Observer:
        """The observer of the manager called `manager`.

        `breakers` returns each breaker's state and failure rate, and `fleet` the statistics of the
        fleet, if there is one.
        """
        return TelemetryObserver(self, manager, recorder, ObservedManager(manager, breakers, fleet))


class TelemetryObserver(Observer):
    """Spans, metrics, logs and counters of one manager."""

    def __init__(
        self, telemetry: Telemetry, manager: str, recorder: Recorder, observed: ObservedManager
    ) -> None:
        OUTBOX.start()
        self._has_own_tracer = telemetry.tracer_provider is not None
        self._tracer = tracer_for(telemetry.tracer_provider)
        self._instruments = instruments_for(telemetry.meter_provider, telemetry.profile)
        self._observed = observed
        self._instruments.observe(self._observed)
        self._span_name = f"{n.GENERATE} {manager}"
        self._labels = ManagerLabels(manager)
        self._failures = FailureLog("starting a span")
        self._is_late = telemetry.spans == "attempt"
        capture = telemetry.capture()
        self._settings = SpanSettings(
            manager=manager,
            tracer=self._tracer,
            instruments=self._instruments,
            observed=self._observed,
            recorder=recorder,
            labels=self._labels,
            capture=capture,
            vocabulary=n.VOCABULARIES[telemetry.profile],
            openinference=telemetry.openinference,
            deferred=self._instruments.deferred if telemetry.defer_metrics else None,
            lists_content=telemetry.openinference and capture.on_spans,
        )

    def begin(self, request: Request, models: tuple[str, ...]) -> CallObserver:
        """Start the request's span, unless the span of an attempt may suffice."""
        span, around, inside, late = NO_SPAN, _NOWHERE, None, None
        if (not self._has_own_tracer and not has_tracer_provider()) or OUTBOX.is_closed():
            pass
        elif self._is_late:
            around = inside = get_current()
            late = LateSpan(functools.partial(self._start, request, models), time.time_ns())
        else:
            try:
                around = get_current()
                span = self._start(request, models, around)
                inside = context_of(span, around)
            except Exception as error:  # noqa: BLE001 - providers and processors are user code
                self._failures.note(error)
        call = CallSpan(self._settings, span, around, inside, late)
        self._observed.active.add(call)
        return call

    def _start(
        self,
        request: Request,
        models: tuple[str, ...],
        context: Context,
        began: int | None = None,
        links: Sequence[Link] | None = None,
    ) -> Span:
        attributes: Attributes = {n.MANAGER: self._settings.manager, n.ROUTE: [*models]}
        span = self._tracer.start_span(  # positional: by keyword, it takes longer
            self._span_name, context, _INTERNAL, attributes, links, began
        )
        if self._settings.lists_content and span.is_recording():
            span.set_attributes(self._settings.capture.input_text(request))
        return span

    @recorded
    def breaker_changed(self, breaker: str, previous: str, state: str) -> None:
        """Count and log the transition."""
        self._instruments.transitions.add(
            1,
            {
                n.BREAKER: breaker,
                n.BREAKER_STATE: state.replace("-", "_"),
                n.BREAKER_PREVIOUS: previous.replace("-", "_"),
            },
        )
        level = logging.WARNING if state == "open" else logging.INFO
        log.log(
            level,
            "circuit breaker %s: %s, was %s",
            breaker,
            state,
            previous,
            extra={"breaker": breaker, "state": state, "previous_state": previous},
        )
