"""Counters inside the process: the numbers of `get_metrics` and `get_model_info`.

They need no OpenTelemetry, and the health-aware route order reads them too. Two units, never
mixed: a *request* is what the caller asked for, an *attempt* is one thing sent to one model.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from agentkit._fork import fork_safe_lock
from agentkit.types import Clock
from agentkit.types.ledger import Entry
from agentkit.types.observer import CallOutcome

WINDOW: Final = 512
"""Settled attempts a model that percentiles are taken over."""
RECENT: Final = 300.0
"""Seconds after which an attempt says nothing about health any more, so that a model which is
passed over for its past gets another chance."""

_REQUESTS_FAULT: Final = frozenset(
    {"400", "413", "422", "content_filter", "context_length_exceeded"}
)
"""Failures that the request brought on itself: no news about the model."""

_FAILED: Final = -1.0
"""Stands for the duration of a failure in a window."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a model did lately: over its last 512 settled attempts, none older than 300 s.

    `success_rate` is a fraction, 1.0 without samples; latencies are in seconds over the successes,
    0.0 without any. Failures that the request brought on itself (400, 413, 422, a content filter,
    a context too long) are no samples.
    """

    success_rate: float = 1.0
    p50_latency: float = 0.0
    p95_latency: float = 0.0
    samples: int = 0


class _Model:
    __slots__ = (
        "errors", "failures", "input_tokens", "max_latency", "min_latency", "output_tokens",
        "requests", "successes", "total_latency", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.successes = self.failures = 0
        self.input_tokens = self.output_tokens = 0
        self.errors: Counter[str] = Counter()
        self.total_latency = self.max_latency = 0.0
        self.min_latency = math.inf
        self.window: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        """Clock time and duration (or `_FAILED`) of the settled attempts."""


class Recorder:
    """Counts requests and attempts; safe to use from any thread.

    `clock` gives seconds and only tells how old a sample is. An attempt that was let go of
    (cancelled, closed early, cut by the deadline) counts as a request of its model but as neither
    success nor failure, so it moves no rate; a cancelled request likewise. Success rates are
    successes / (successes + failures).
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = fork_safe_lock()
        self._models: dict[str, _Model] = {}
        self._requests = self._successes = self._failures = self._hits = 0
        self._retries = self._tokens = 0

    def attempt(self, entry: Entry) -> None:
        """Count one settled attempt."""
        name, outcome = entry.model, entry.outcome
        with self._lock:
            model = self._models.get(name)
            if model is None:
                model = self._models[name] = _Model()
            model.requests += 1
            if entry.number > 1:
                self._retries += 1
            self._tokens += entry.input_tokens + entry.output_tokens
            model.input_tokens += entry.input_tokens
            model.output_tokens += entry.output_tokens
            if outcome == "success":
                model.successes += 1
                model.total_latency += entry.duration
                model.min_latency = min(model.min_latency, entry.duration)
                model.max_latency = max(model.max_latency, entry.duration)
                model.window.append((self._clock(), entry.duration))
            elif outcome == "failure":
                model.failures += 1
                model.errors[entry.error_type or "unknown"] += 1
                if entry.error_type not in _REQUESTS_FAULT:
                    model.window.append((self._clock(), _FAILED))

    def call(self, outcome: CallOutcome) -> None:
        """Count one finished request."""
        with self._lock:
            self._requests += 1
            if outcome == "error":
                self._failures += 1
            elif outcome != "cancelled":
                self._successes += 1
                if outcome == "cache_hit":
                    self._hits += 1

    def breakdown(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """What the attempts at `names` (default: all models) add up to.

        Keys: tokens {total_input, total_output, total}, latency of successes in seconds
        {average_seconds, min_seconds, max_seconds, total_seconds}, errors_by_type,
        requests_by_model and tokens_by_model.
        """
        with self._lock:
            chosen = list(self._models) if names is None else names
            models = {name: self._models[name] for name in chosen if name in self._models}
            errors: Counter[str] = Counter()
            for model in models.values():
                errors.update(model.errors)
            taken = sum(model.input_tokens for model in models.values())
            given = sum(model.output_tokens for model in models.values())
            seconds = sum(model.total_latency for model in models.values())
            successes = sum(model.successes for model in models.values())
            fastest = min((model.min_latency for model in models.values()), default=math.inf)
            return {
                "tokens": {
                    "total_input": taken, "total_output": given, "total": taken + given,
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
                    name: model.input_tokens + model.output_tokens
                    for name, model in models.items()
                },
            }  # fmt: skip

    def metrics(self) -> dict[str, Any]:
        """Totals since the start.

        Keys: total_requests, successful_requests, failed_requests, cache_hits, total_retries
        (attempts after the first on one model in one request), total_tokens (input and output,
        rejected answers included), success_rate (1.0 before any request) and cache_hit_rate,
        which are fractions. A hit of the response cache is a success.
        """
        with self._lock:
            requests, hits = self._requests, self._hits
            successes, failures = self._successes, self._failures
            retries, tokens = self._retries, self._tokens
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
        """A model's attempts since the start; zeros for one that was never asked.

        Keys: requests, successes, failures, and in seconds total_latency and avg_latency (over
        all successes), p50_latency and p95_latency (over the successes among the last 512
        settled attempts).
        """
        with self._lock:
            model = self._models.get(name) or _Model()
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
        """How a model did lately; a model without samples is taken for healthy."""
        with self._lock:
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
            self._models.pop(name, None)


def _rate(successes: int, failures: int) -> float:
    settled = successes + failures
    return successes / settled if settled else 1.0


def _percentile(ascending: list[float], fraction: float) -> float:
    """The nearest-rank percentile; 0.0 of nothing."""
    if not ascending:
        return 0.0
    return ascending[min(int(fraction * len(ascending)), len(ascending) - 1)]
