"""Failures in a row among many calls at once: neither late answers nor bad luck mislead."""

from __future__ import annotations

import heapq
import random

from hypothesis import given
from hypothesis import strategies as st

from agentkit.policy.breaker import Permit
from tests.policy.breaker.breakers import admitted, build


@given(st.integers(1, 12), st.integers(0, 12), st.lists(st.integers(0, 5), max_size=60))
def test_a_dead_model_gets_at_most_as_many_calls_as_run_at_once_plus_five(
    concurrency: int, late: int, failures: list[int]
) -> None:
    """Up to `late` calls began before it died; one succeeds after each number of `failures`."""
    breaker, _ = build(failure_rate=None)
    before = [admitted(breaker) for _ in range(min(late, concurrency))]
    after: list[Permit] = []
    begun = 0
    for count in [*failures, 5, 5]:
        for _ in range(count):
            while len(before) + len(after) < concurrency and (permit := breaker.admit()):
                after.append(permit)
                begun += 1
            if after:
                after.pop().failed(RuntimeError("down"))
        if before:
            before.pop().succeeded()
    assert begun <= concurrency + 5


def test_a_busy_model_that_fails_now_and_then_is_not_taken_for_dead() -> None:
    """50 calls at once of about ten seconds, one in twenty of which fails."""
    dice = random.Random(7)
    breaker, clock = build(failure_rate=None)
    running: list[tuple[float, int, Permit]] = []
    for number in range(20_000):
        if len(running) >= 50:
            clock.now, _, permit = heapq.heappop(running)
            if dice.random() < 0.05:
                permit.failed(RuntimeError("overloaded"))
            else:
                permit.succeeded()
        until = clock.now + 10.0 * dice.lognormvariate(0.0, 0.4)
        heapq.heappush(running, (until, number, admitted(breaker)))
    assert breaker.statistics().opens == 0
