"""The sliding window counts what a list of all calls would count."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.policy.breaker.window import BUCKETS, FailureWindow

CALLS = st.lists(st.tuples(st.integers(0, 3000), st.booleans(), st.booleans()), max_size=80)


@given(CALLS)
def test_it_counts_what_a_list_would(calls: list[tuple[int, bool, bool]]) -> None:
    window, now = FailureWindow(BUCKETS), 0.0  # buckets of one second
    kept: list[tuple[float, bool, bool]] = []
    for pause, failed, slow in calls:
        now += pause / 100.0
        window.add(now, failed=failed, slow=slow)
        kept.append((now, failed, slow))
        inside = [call for call in kept if call[0] // 1 > now // 1 - BUCKETS]
        assert window.calls == len(inside)
        assert window.failures == sum(call[1] for call in inside)
        assert window.slow == sum(call[2] for call in inside)


@given(st.lists(st.floats(-1e9, 1e9), max_size=30), st.floats(1e-3, 1e6))
def test_any_clock_leaves_it_consistent(times: list[float], seconds: float) -> None:
    window = FailureWindow(seconds)
    for now in times:
        window.add(now, failed=True, slow=False)
        assert 1 <= window.calls == window.failures
        assert window.calls <= len(times)
        assert window.failure_rate == 1.0


@pytest.mark.parametrize("seconds", [0.5, 60.0, 3600.0])
def test_a_call_leaves_after_the_window_and_not_a_sixtieth_before(seconds: float) -> None:
    window = FailureWindow(seconds)
    window.add(0.0, failed=True, slow=False)
    window.advance(seconds * 58.9 / 60)
    assert window.calls == 1
    window.advance(seconds)
    assert window.calls == 0


def test_a_slightly_older_call_counts_with_the_newest() -> None:
    window = FailureWindow(60.0)
    window.add(100.0, failed=False, slow=False)
    window.add(98.0, failed=True, slow=False)
    assert (window.calls, window.failures) == (2, 1)


def test_a_clock_that_went_back_by_a_window_starts_afresh() -> None:
    window = FailureWindow(60.0)
    window.add(1e6, failed=True, slow=True)
    window.add(5.0, failed=False, slow=False)
    assert (window.calls, window.failures, window.slow) == (1, 0, 0)


@pytest.mark.promise("S4-35")
def test_memory_does_not_grow_with_traffic() -> None:
    window = FailureWindow(60.0)
    window.add(0.0, failed=True, slow=True)
    tracemalloc.start()
    try:
        for number in range(100_000):
            window.add(number / 1000.0, failed=True, slow=True)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 10_000
    assert window.calls == 60_000


def test_the_ring_stays_exact_however_often_it_turns() -> None:
    window = FailureWindow(60.0)
    for second in range(600):
        window.add(float(second), failed=True, slow=True)
        expected = min(second + 1, BUCKETS)
        assert (window.calls, window.failures, window.slow) == (expected,) * 3


def test_rates_are_fractions_and_zero_without_calls() -> None:
    window = FailureWindow(60.0)
    assert (window.failure_rate, window.slow_rate) == (0.0, 0.0)
    for failed in (True, False, False, False):
        window.add(1.0, failed=failed, slow=not failed)
    assert (window.failure_rate, window.slow_rate) == (0.25, 0.75)
    assert repr(window) == "<FailureWindow 1 failed and 3 slow of 4>"
