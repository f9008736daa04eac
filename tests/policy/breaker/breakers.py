"""A clock that a test turns, and breakers on it."""

from __future__ import annotations

from typing import Any

from agentkit.policy.breaker import BreakerPolicy, CircuitBreaker, Permit


class TurnedClock:
    """Stands still until a test sets `now`, in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def build(clock: TurnedClock | None = None, **rules: Any) -> tuple[CircuitBreaker, TurnedClock]:
    """A breaker with the default rules but for `rules`, and its clock."""
    clock = clock or TurnedClock()
    return CircuitBreaker(name="m", policy=BreakerPolicy(**rules), clock=clock), clock


def admitted(breaker: CircuitBreaker, **kwargs: Any) -> Permit:
    """A permit; a refusal is a failed test."""
    permit = breaker.admit(**kwargs)
    assert permit is not None
    return permit


def fail(breaker: CircuitBreaker, times: int = 1, **kwargs: Any) -> None:
    """`times` admitted calls, each of which fails."""
    for _ in range(times):
        admitted(breaker).failed(RuntimeError("down"), **kwargs)


def succeed(breaker: CircuitBreaker, times: int = 1, **kwargs: Any) -> None:
    """`times` admitted calls, each of which succeeds."""
    for _ in range(times):
        admitted(breaker).succeeded(**kwargs)


def opened(**rules: Any) -> tuple[CircuitBreaker, TurnedClock]:
    """A breaker that opened at 0.0 and would let a probe through at 60.0."""
    breaker, clock = build(**rules)
    fail(breaker, breaker.policy.failure_threshold)
    return breaker, clock


def expired(**rules: Any) -> tuple[CircuitBreaker, TurnedClock]:
    """An open breaker whose recovery timeout has just passed."""
    breaker, clock = opened(**rules)
    clock.now = breaker.policy.recovery_timeout
    return breaker, clock
