"""In-process counters: the numbers of `get_metrics` and `get_model_info`.

They do not need OpenTelemetry, and the health-aware route order reads them, too. The units are
never mixed: a *request* is one call by the caller, an *attempt* is one request to one model.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from agentkit._fork import fork_safe_lock
from agentkit.types import Now
from agentkit.types.ledger import Entry
from agentkit.types.observer import CallOutcome

TOGETHER: Final = 256
"""Settled attempts, or finished requests, that are counted together unless they are read earlier:
to take the lock for each of them would take longer than the rest of its telemetry."""
WINDOW: Final = 512
"""Settled attempts per model that percentiles are computed from."""
RECENT: Final = 300.0
"""Seconds after which an attempt no longer counts for health, so that a model which is avoided
because of its past gets another chance."""

_REQUEST_ERRORS: Final = frozenset(
    {"400", "413", "422", "content_filter", "context_length_exceeded"}
)
"""Failures caused by the request itself: they say nothing about the model."""

_FAILED: Final = -1.0
"""The duration that represents a failure in a window."""


@dataclass(frozen=True, slots=True)
class Health:
    """The recent health of a model: its last 512 settled attempts, none older than 300 s.

    `success_rate` is a fraction, 1.0 without samples; latencies are in seconds over the successes,
    0.0 without any. Failures caused by the request itself (400, 413, 422, a content filter, a
    context that is too long) are not samples.
    """

    success_rate: float = 1.0
    p50_latency: float = 0.0
    p95_latency: float = 0.0
    samples: int = 0


class _ModelCounters:
    __slots__ = (
        "errors",
        "failures",
        "input_tokens",
        "max_latency",
        "min_latency",
        "output_tokens",
        "requests",
        "successes",
        "total_latency",
        "window",
    )

    def __init__(self) -> None:
        self.requests = self.successes = self.failures = 0
        self.input_tokens = self.output_tokens = 0
        self.errors: defaultdict[str, int] = defaultdict(int)
        self.total_latency = self.max_latency = 0.0
        self.min_latency = math.inf
        self.window: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        """Clock time and duration (or `_FAILED`) of the settled attempts."""


class Recorder:
    """Counts requests and attempts; safe to use from any thread.

    `clock` is used only for the age of samples, in seconds. An abandoned attempt (cancelled,
    closed early, ended by the deadline) counts as a request of its model but as neither a success
    nor a failure, so it does not change the success rate; likewise a cancelled request. Success
    rates are successes / (successes + failures).
    """

    def __init__(self, clock: Now = time.monotonic) -> None:
        self._clock = clock
        self._lock = fork_safe_lock()
        self._settled: deque[tuple[float, Entry]] = deque()
        """Attempts that are not counted yet, with the clock time of their end."""
        self._ended: deque[CallOutcome] = deque()
        """Outcomes of requests that are not counted yet."""
        self._models: dict[str, _ModelCounters] = {}
        self._outcomes: Counter[CallOutcome] = Counter()
        self._retries = self._tokens = 0

    def attempt(self, entry: Entry) -> None:
        """Record one settled attempt."""
        self._settled.append((self._clock(), entry))
        if len(self._settled) >= TOGETHER:
            with self._lock:
                self._count()

    def call(self, outcome: CallOutcome) -> None:
        """Record one finished request."""
        self._ended.append(outcome)
        if len(self._ended) >= TOGETHER:
            with self._lock:
                self._count()

    def _count(self) -> None:
        """Count what was recorded. The lock is held, perhaps by a step that this one interrupts."""
        with suppress(IndexError):
            while True:
                self._outcomes[self._ended.popleft()] += 1
        with suppress(IndexError):
            while True:
                self._count_attempt(*self._settled.popleft())

    def _count_attempt(self, ended: float, entry: Entry) -> None:
        model = self._models.get(entry.model)
        if model is None:
            model = self._models[entry.model] = _ModelCounters()
        model.requests += 1
        if entry.number > 1:
            self._retries += 1
        if entry.input_tokens or entry.output_tokens:
            self._tokens += entry.input_tokens + entry.output_tokens
            model.input_tokens += entry.input_tokens
            model.output_tokens += entry.output_tokens
        if entry.outcome == "success":
            duration = entry.duration
            model.successes += 1
            model.total_latency += duration
            if duration < model.min_latency:  # noqa: PLR1730 - `min` takes a fifth of all this
                model.min_latency = duration
            if duration > model.max_latency:  # noqa: PLR1730 - as above
                model.max_latency = duration
            model.window.append((ended, duration))
        elif entry.outcome == "failure":
            model.failures += 1
            model.errors[entry.kind or "unknown"] += 1
            if entry.error_type not in _REQUEST_ERRORS:
                model.window.append((ended, _FAILED))

    def breakdown(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Totals of the attempts at `names` (default: all models).

        Keys: tokens {total_input, total_output, total}, latency of successes in seconds
        {average_seconds, min_seconds, max_seconds, total_seconds}, errors_by_type,
        requests_by_model and tokens_by_model.
        """
        with self._lock:
            self._count()
            known = self._models.copy()
            models = {
                name: known[name] for name in (known if names is None else names) if name in known
            }
            errors: Counter[str] = Counter()
            for model in models.values():
                errors.update(model.errors.copy())
            inputs = sum(model.input_tokens for model in models.values())
            outputs = sum(model.output_tokens for model in models.values())
            seconds = sum(model.total_latency for model in models.values())
            successes = sum(model.successes for model in models.values())
            fastest = min((model.min_latency for model in models.values()), default=math.inf)
            return {
                "tokens": {
                    "total_input": inputs,
                    "total_output": outputs,
                    "total": inputs + outputs,
                },
                "latency": {
                    "average_seconds": seconds / successes if successes else 0.0,
                    "min_seconds": fastest if successes else 0.0,
                    "max_seconds": max((m.max_latency for m in models.values()), default=0.0),
                    "total_seconds": seconds,
                },
                "errors_by_type": dict(errors),
                "requests_by_model": {name: model.requests for name, model in models.items()},
                "tokens_by_model": {
                    name: model.input_tokens + model.output_tokens for name, model in models.items()
                },
            }

    def metrics(self) -> dict[str, Any]:
        """Totals since the start.

        Keys: total_requests, successful_requests, failed_requests, cache_hits, total_retries
        (attempts after the first on one model in one request), total_tokens (input and output,
        rejected answers included), success_rate (1.0 before any request) and cache_hit_rate,
        which are fractions. A hit of the response cache is a success.
        """
        with self._lock:
            self._count()
            outcomes = self._outcomes.copy()
            retries, tokens = self._retries, self._tokens
        requests, hits, failures = outcomes.total(), outcomes["cache_hit"], outcomes["error"]
        successes = requests - failures - outcomes["cancelled"]
        return {
            "total_requests": requests,
            "successful_requests": successes,
            "failed_requests": failures,
            "cache_hits": hits,
            "total_retries": retries,
            "total_tokens": tokens,
            "success_rate": _rate(successes, failures),
            "cache_hit_rate": hits / requests if requests else 0.0,
        }

    def model(self, name: str) -> dict[str, Any]:
        """A model's attempts since the start; zeros for a model without any.

        Keys: requests, successes, failures, and in seconds total_latency and avg_latency (over
        all successes), p50_latency and p95_latency (over the successes among the last 512
        settled attempts).
        """
        with self._lock:
            self._count()
            model = self._models.get(name) or _ModelCounters()
            requests, successes, failures = model.requests, model.successes, model.failures
            total, window = model.total_latency, list(model.window)
        latencies = sorted(duration for _, duration in window if duration != _FAILED)
        return {
            "requests": requests,
            "successes": successes,
            "failures": failures,
            "total_latency": total,
            "avg_latency": total / successes if successes else 0.0,
            "p50_latency": _percentile(latencies, 0.50),
            "p95_latency": _percentile(latencies, 0.95),
        }

    def health(self, name: str) -> Health:
        """The recent health of a model; one without samples counts as healthy."""
        with self._lock:
            self._count()
            model = self._models.get(name)
            window = list(model.window) if model is not None else []
        oldest = self._clock() - RECENT
        recent = [duration for at, duration in window if at >= oldest]
        latencies = sorted(duration for duration in recent if duration != _FAILED)
        return Health(
            _rate(len(latencies), len(recent) - len(latencies)),
            _percentile(latencies, 0.50),
            _percentile(latencies, 0.95),
            len(recent),
        )

    def forget(self, name: str) -> None:
        """Drop a model's own counters; the totals of requests, retries and tokens stay."""
        with self._lock:
            self._count()
            self._models.pop(name, None)


def _rate(successes: int, failures: int) -> float:
    settled = successes + failures
    return successes / settled if settled else 1.0


def _percentile(ascending: list[float], fraction: float) -> float:
    """The nearest-rank percentile; 0.0 for an empty list."""
    if not ascending:
        return 0.0
    return ascending[min(int(fraction * len(ascending)), len(ascending) - 1)]
