"""The rules that a circuit breaker follows, and its statistics."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.policy.breaker.listeners import Listener, is_pybreaker_listener
from agentkit.policy.validation import (
    checked_keywords,
    number,
    optional_number,
    whole_number,
)


@checked_keywords()
@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a circuit opens and when it closes again. It opens as soon as one rule holds.

    Args:
        failure_threshold: failures in a row that open the circuit; each attempt counts (default 5).
        recovery_timeout: how long an open circuit refuses before it admits a probe, in seconds
            (default 60.0).
        success_threshold: probes in a row that must succeed to close the circuit (default 1).
        failure_rate: fraction of failed calls in the window, in (0, 1] (default 0.5; None turns
            the rule off).
        window: length of the sliding window, in seconds (default 60.0; kept in 60 buckets).
        minimum_calls: calls that the window must hold before a rate counts (default 20).
        slow_call_duration: a call that takes longer than this counts as slow, in seconds (default
            None: off), whether or not it failed.
        slow_call_rate: fraction of slow calls in the window, in (0, 1] (default 1.0).
        listeners: functions called with (breaker's name, previous state, state), and
            `pybreaker.CircuitBreakerListener` instances (`failure`, `success` and `state_change`;
            they receive pybreaker's circuit, to be read only). They run after the fact, outside
            every lock; what they raise is logged once and changes nothing.

    Raises:
        ConfigurationError: a value is of the wrong type, NaN, infinite or out of range.
    """

    failure_threshold: int = 5
    recovery_timeout: float = 60.0
    success_threshold: int = 1
    failure_rate: float | None = 0.5
    window: float = 60.0
    minimum_calls: int = 20
    slow_call_duration: float | None = None
    slow_call_rate: float = 1.0
    listeners: tuple[Listener, ...] = ()

    def __post_init__(self) -> None:
        whole_number("failure_threshold", self.failure_threshold)
        number("recovery_timeout", self.recovery_timeout, above=True)
        whole_number("success_threshold", self.success_threshold)
        optional_number("failure_rate", self.failure_rate, above=True, maximum=1.0)
        number("window", self.window, above=True)
        whole_number("minimum_calls", self.minimum_calls)
        optional_number("slow_call_duration", self.slow_call_duration, above=True)
        number("slow_call_rate", self.slow_call_rate, above=True, maximum=1.0)
        object.__setattr__(self, "listeners", _checked_listeners(self.listeners))


@dataclass(frozen=True, slots=True)
class BreakerStatistics:
    """The statistics of a breaker at one moment.

    `calls`, `failures`, `slow_calls` and the two rates (fractions, 0.0 without calls) cover the
    window. `opened_at` is a reading of the breaker's clock, None unless open; `retry_after` is the
    number of seconds until a probe is admitted. `opens`, `rejections` and `era` (transitions and
    resets) only grow. `probing` says whether a probe is under way, `waiting` how many calls wait
    for the circuit to open.
    """

    state: str
    consecutive_failures: int
    calls: int
    failures: int
    slow_calls: int
    failure_rate: float
    slow_rate: float
    opened_at: float | None
    retry_after: float
    opens: int
    rejections: int
    era: int
    probing: bool
    waiting: int


def _checked_listeners(listeners: Any) -> tuple[Listener, ...]:
    hint = "pass a tuple of functions f(name, previous, state) or of pybreaker listeners"
    if not isinstance(listeners, tuple | list):
        raise ConfigurationError(f"listeners must be a tuple, got {listeners!r}", hint=hint)
    for one in listeners:
        if not (callable(one) or is_pybreaker_listener(one)) or inspect.iscoroutinefunction(one):
            raise ConfigurationError(f"{one!r} in listeners is not a listener", hint=hint)
    return tuple(listeners)
